"""The calendar columns against the standard library's dates, for every day that events can have."""

from __future__ import annotations

import datetime as dt

import numpy as np

from events.calendar import DAY_MS, LAST_DAY
from events.columns import GAP_COLUMN, numeric_inputs, time_columns
from events.types import Activity

EPOCH = dt.date(1970, 1, 1)


def test_days_of_month_and_year_are_those_of_the_calendar() -> None:
    days = np.arange(LAST_DAY + 1, dtype=np.int64)
    last_moments_ms = days * DAY_MS + DAY_MS - 1
    columns = time_columns(last_moments_ms, np.full(len(days), -1, dtype=np.int64))
    dates = [EPOCH + dt.timedelta(days=day) for day in days.tolist()]
    assert columns[:, 1].tolist() == [date.day for date in dates]
    assert columns[:, 2].tolist() == [date.timetuple().tm_yday for date in dates]
    assert np.isnan(columns[:, 0]).all()


def test_inputs_of_an_event_without_its_gap() -> None:
    occurred_at = dt.datetime(2024, 12, 31, 23, 59, tzinfo=dt.UTC)
    event = Activity(event_id="e", user_id="u", occurred_at=occurred_at, kind="session", count=3)
    inputs = numeric_inputs("activity", [event], np.array([round(occurred_at.timestamp() * 1000)]))
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs, np.array([[3, np.nan, np.nan, 31, 366]], dtype=np.float32))
    assert GAP_COLUMN["activity"] == 2
    assert numeric_inputs("profiles", [], np.empty(0, dtype=np.int64)).shape[0] == 0
