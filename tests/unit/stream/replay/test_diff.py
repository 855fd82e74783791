"""Alerts of two runs are paired by user and time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.replay.diff import ReplayDiff, ScoreComparison, _match
from stream.replay.range import ReplayError, ReplayRange

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


def test_a_range_is_half_open_and_not_empty() -> None:
    covered = ReplayRange("r", DAY[1], DAY[2])
    assert covered.covers(DAY[1])
    assert not covered.covers(DAY[2])
    assert covered.wants(b"anyone")
    assert not ReplayRange("r", DAY[1], DAY[2], frozenset({"u"})).wants(b"v")
    with pytest.raises(ReplayError, match="not before"):
        ReplayRange("r", DAY[2], DAY[2])


def scores(places: Sequence[tuple[str, int]], moved: int | None = None) -> Iterator[tuple[Any, bytes]]:
    for topic, offset in places:
        score = 0.5 if offset == moved else 0.1
        found = SimpleNamespace(
            source_topic=topic,
            source_offset=offset,
            user_id=f"u{offset % 3}",
            score_id=str(offset),
            level="LOW",
            score=score,
        )
        yield found, f"{topic} {offset} {score}".encode()


Places = list[tuple[str, int]]


@st.composite
def orders(draw: st.DrawFn) -> Places:
    """Events of three topics in some order, those of one topic by offset."""
    counts = {topic: draw(st.integers(0, 12)) for topic in "abc"}
    order = draw(st.permutations([topic for topic, count in counts.items() for _ in range(count)]))
    offsets = {topic: iter(range(count)) for topic, count in counts.items()}
    return [(topic, next(offsets[topic])) for topic in order]


@given(orders(), st.data())
def test_scores_are_paired_whatever_is_missing_on_either_side(order: Places, data: st.DataObject) -> None:
    sides = [[place for place in order if data.draw(st.integers(0, 3))] for _ in range(2)]
    result = ReplayDiff()
    ScoreComparison(result).run(scores(sides[0]), scores(sides[1], moved=4))
    live, again = map(set, sides)
    assert result.compared_scores == len(live & again)
    assert (result.only_live, result.only_replayed) == (len(live - again), len(again - live))
    assert result.moved == sum(offset == 4 for _, offset in live & again)
    assert result.identical_scores == result.compared_scores - result.moved


def test_little_is_held_while_scores_are_read() -> None:
    """Also where one side lacks a topic's events for a while."""
    order = [("a" if number % 2 else "b", number) for number in range(10_000)]
    lacking = [place for place in order if place[0] == "a" or place[1] > 1_000]
    result = ReplayDiff()
    comparison = ScoreComparison(result)
    most = 0

    def watched(places: Places) -> Iterator[tuple[Any, bytes]]:
        nonlocal most
        for found in scores(places):
            yield found
            most = max(most, comparison._live.buffered + comparison._again.buffered)

    comparison.run(watched(order), watched(lacking))
    assert (result.compared_scores, result.only_live) == (len(lacking), len(order) - len(lacking))
    assert most < 2_500


def test_what_retention_has_taken_of_the_live_scores_is_not_compared() -> None:
    order: Places = [("a", number) for number in range(10)]
    result = ReplayDiff()
    ScoreComparison(result, has_expired=True).run(scores(order[4:]), scores(order))
    assert (result.live_expired, result.only_replayed, result.identical_scores) == (4, 0, 6)
    assert not result.differs
    result = ReplayDiff()
    ScoreComparison(result, has_expired=True).run(scores(order[4:8]), scores(order))
    assert (result.live_expired, result.only_replayed, result.identical_scores) == (4, 2, 4)


def test_scores_of_who_was_forgotten_are_not_missed() -> None:
    result = ReplayDiff()
    comparison = ScoreComparison(result)

    def live() -> Iterator[tuple[Any, bytes]]:
        yield from scores([("a", 0), ("a", 1), ("a", 3)])
        comparison.forget("u0")
        yield from scores([("a", 4), ("a", 6)])

    comparison.run(live(), scores([("a", 1), ("a", 4), ("a", 6)]))
    assert (result.only_live, result.only_replayed, result.compared_scores) == (0, 0, 3)
