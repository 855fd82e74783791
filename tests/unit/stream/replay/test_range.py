"""Which events a replay publishes. A whole one on real servers is in `tests/integration/test_replay.py`."""

from __future__ import annotations

import datetime as dt

import pytest

from stream.replay.range import ReplayError, ReplayRange

START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
END = START + dt.timedelta(days=2)


def test_a_range_begins_with_its_start_and_ends_before_its_end() -> None:
    replayed = ReplayRange("march", START, END)
    moments = [START - dt.timedelta(seconds=1), START, END - dt.timedelta(seconds=1), END]
    assert [replayed.covers(moment) for moment in moments] == [False, True, True, False]


@pytest.mark.parametrize("until", [START, START - dt.timedelta(days=1)])
def test_an_empty_range_is_refused(until: dt.datetime) -> None:
    with pytest.raises(ReplayError, match=r"--from .* is not before --to"):
        ReplayRange("march", START, until)


def test_users_are_matched_by_key() -> None:
    some = ReplayRange("march", START, END, frozenset({"ann", "ünal"}))
    assert [some.wants(key) for key in (b"ann", "ünal".encode(), b"bob", b"\xff")] == [True, True, False, False]
    assert ReplayRange("march", START, END).wants(b"\xff")
