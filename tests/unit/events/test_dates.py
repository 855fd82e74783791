"""The bounds of dates hold to the millisecond and the day, and cover what the other modules can hold."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.columns import DAY_MS, LAST_DAY, due_ms
from events.dates import EARLIEST_DATE, EARLIEST_MS, FUTURE_TOLERANCE_MS, LATEST_DATE, date_outside, time_outside

NOW_MS = 1_750_000_000_000


@pytest.mark.parametrize(
    ("occurred_ms", "outside"),
    [
        (EARLIEST_MS - 1, "before_1970"),
        (EARLIEST_MS, None),
        (NOW_MS, None),
        (NOW_MS + FUTURE_TOLERANCE_MS, None),
        (NOW_MS + FUTURE_TOLERANCE_MS + 1, "in_the_future"),
    ],
)
def test_event_times(occurred_ms: int, outside: str | None) -> None:
    assert time_outside(occurred_ms, NOW_MS) == outside


@pytest.mark.parametrize("date", ["0001-01-01", "1900-01-01", "1969-12-31", "2149-06-07", "9999-12-31"])
def test_marks_for_no_date_are_outside(date: str) -> None:
    assert date_outside(dt.date.fromisoformat(date))


@given(st.dates())
def test_dates_within_are_those_of_the_calendar(date: dt.date) -> None:
    assert date_outside(date) == (not 0 <= due_ms(date) <= LAST_DAY * DAY_MS)
    assert not date_outside(EARLIEST_DATE)
    assert not date_outside(LATEST_DATE)
