"""Alerts of two runs are paired by user and time."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace

import pytest

from stream.replay.diff import ReplayDiff, _match
from stream.replay.live_order import LiveOrder
from stream.replay.run import ReplayError, ReplayRange

DAY = [dt.datetime(2024, 1, day, tzinfo=dt.UTC) for day in range(1, 10)]


def matched(live: list[int], replayed: list[int]) -> tuple[int, int, int, int]:
    result = ReplayDiff()
    _match("u", [DAY[day] for day in live], [DAY[day] for day in replayed], result)
    return len(result.alerts_gained), len(result.alerts_lost), len(result.alerts_earlier), len(result.alerts_later)


def test_same_alerts_differ_in_nothing() -> None:
    assert matched([1, 5], [1, 5]) == (0, 0, 0, 0)


def test_gained_lost_earlier_later() -> None:
    assert matched([], [3]) == (1, 0, 0, 0)
    assert matched([3], []) == (0, 1, 0, 0)
    assert matched([3], [2]) == (0, 0, 1, 0)
    assert matched([3], [4]) == (0, 0, 0, 1)
    assert matched([1, 4], [1, 3, 8]) == (1, 0, 1, 0)


def test_any_difference_counts() -> None:
    assert not ReplayDiff(compared_scores=3, identical_scores=3).differs
    assert ReplayDiff(compared_scores=3, identical_scores=2).differs
    assert ReplayDiff(only_live=1).differs
    assert ReplayDiff(changed_alert_records=1).differs


def test_live_order_is_the_last_time_an_event_was_scored() -> None:
    values = [
        b'{"source_topic":"transactions","source_offset":4}',
        b'{"source_topic":"repayments","source_offset":0}',
        b'{"source_topic":"transactions","source_offset":6}',
        b'{"source_topic":"transactions","source_offset":4}',
    ]
    records = [SimpleNamespace(key=b"u", value=value, headers=[]) for value in values]
    order = LiveOrder.read(records, ("repayments", "transactions", "activity", "profiles"))
    assert order.rank == {(0, 0): 1, (1, 6): 2, (1, 4): 3}
    assert order.last_offset == {0: 0, 1: 6}


def test_a_range_is_half_open_and_not_empty() -> None:
    covered = ReplayRange("r", DAY[1], DAY[2])
    assert covered.covers(DAY[1])
    assert not covered.covers(DAY[2])
    assert covered.wants(b"anyone")
    assert not ReplayRange("r", DAY[1], DAY[2], frozenset({"u"})).wants(b"v")
    with pytest.raises(ReplayError, match="not before"):
        ReplayRange("r", DAY[2], DAY[2])
