"""Segments know what was known at the event, as a walk through each history finds it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import numpy as np
import pytest

from events.calendar import DAY_MS
from events.columns import COLUMNS
from events.types import KINDS, Event
from model.comparison.segments import segments
from model.histories.arrears import stated_days_past_due
from model.histories.sequences import Sequences, build_sequences


@pytest.fixture(scope="module")
def histories(make_history: Callable[..., list[Event]]) -> Sequences:
    events = [event for user in range(12) for event in make_history(f"u{user}", 40 + user, user)]
    return build_sequences(sorted(events, key=lambda event: event.occurred_at))


def test_stated_days_past_due_are_the_latest_that_were_reported(histories: Sequences) -> None:
    column = COLUMNS["repayments"].numeric_inputs.index("days_past_due")
    values = histories.numeric["repayments"].copy()
    values[::3, column] = np.nan
    histories.numeric["repayments"] = values
    found = stated_days_past_due(histories)
    for user in range(histories.users):
        latest, row = np.nan, histories.starts["repayments"][user]
        for event in range(histories.merged_starts[user], histories.merged_starts[user + 1]):
            if KINDS[histories.kinds[event]] == "repayments":
                latest = latest if np.isnan(values[row, column]) else values[row, column]
                row += 1
            assert found[event] == latest or (np.isnan(found[event]) and np.isnan(latest))


def test_every_event_is_in_one_segment_of_each_way(histories: Sequences) -> None:
    ways = {each.by: each for each in segments(histories)}
    assert set(ways) == {"days past due", "history", "product", "quarter"}
    for each in ways.values():
        assert len(each.of_event) == len(histories.kinds)
        assert 0 <= each.of_event.min() <= each.of_event.max() < len(each.names)
    arrears, way = histories.days_past_due, ways["days past due"]
    names = np.array(way.names)[way.of_event]
    assert (names[arrears == 0] == "none").all()
    assert (names[(arrears >= 1) & (arrears < 30)] == "1 to 29").all()
    assert (names[arrears >= 30] == "30 and more").all()
    first = histories.times_ms[histories.merged_starts[:-1]][histories.user_of_event]
    young = np.array(ways["history"].names)[ways["history"].of_event] == "under 90 days"
    assert np.array_equal(young, histories.times_ms - first < 90 * DAY_MS)


def test_quarters_are_those_of_the_calendar(histories: Sequences) -> None:
    (way,) = (each for each in segments(histories) if each.by == "quarter")
    moments = [dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC) for time_ms in histories.times_ms]
    expected = [f"{moment.year} Q{(moment.month - 1) // 3 + 1}" for moment in moments]
    assert [way.names[found] for found in way.of_event] == expected
    assert len(set(expected)) > 1
    assert list(way.names) == sorted(way.names)
