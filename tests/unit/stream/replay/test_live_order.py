"""The order of the live workers, read from what they published."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from stream.replay.foreign import ForeignRecords
from stream.replay.live_order import LiveOrder

INPUTS = ("repayments", "transactions")


def score(topic: str, offset: int) -> bytes:
    return msgspec.json.encode({"score_id": "x", "source_topic": topic, "source_offset": offset, "score": 0.1})


def records(*values: bytes | None) -> list[Any]:
    return [SimpleNamespace(key=b"u", value=value, headers=[]) for value in values]


def tombstone(place: str, key: bytes = b"u") -> Any:
    return SimpleNamespace(key=key, value=None, headers=[("foreshock.source", place.encode())])


def event(kind_no: int, offset: int, occurred_ms: int = 0, key: bytes = b"u") -> Any:
    return SimpleNamespace(kind_no=kind_no, offset=offset, occurred_ms=occurred_ms, key=key)


def test_events_are_placed_as_they_were_scored() -> None:
    order = LiveOrder.read(records(score("transactions", 4), score("repayments", 0), score("transactions", 5)), INPUTS)
    places = [order.place(event(1, 4)), order.place(event(0, 0)), order.place(event(1, 5))]
    assert places == sorted(places)


FOREIGN = {
    "a tombstone": None,
    "empty": b"",
    "not UTF-8": b'{"source_topic":"\xff","source_offset":1}',
    "deep": b'{"zzz":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "of another shape": b'{"hello":"world"}',
    "a list": b"[]",
    "of another topic": score("elsewhere.transactions", 7),
    "offset below zero": score("transactions", -1),
    "offset beyond bigint": b'{"source_topic":"transactions","source_offset":1' + b"0" * 30 + b"}",
}


@pytest.mark.parametrize("value", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_score_of_ours_is_left_out_and_counted(value: bytes | None) -> None:
    ours = [score("transactions", 4), score("repayments", 0)]
    foreign = ForeignRecords()
    order = LiveOrder.read(records(value, ours[0], value, ours[1]), INPUTS, foreign, "scores")
    assert order.place(event(1, 4)) < order.place(event(0, 0))
    assert order.last_offset == {1: 4, 0: 0}
    assert foreign.counts == {"scores": 2}


def test_an_event_that_was_scored_twice_counts_where_it_stands_last() -> None:
    values = [score("repayments", 0), score("repayments", 1), score("repayments", 0)]
    order = LiveOrder.read(records(*values), INPUTS)
    assert order.place(event(0, 1)) < order.place(event(0, 0))


def test_what_the_workers_passed_without_a_score_was_refused() -> None:
    order = LiveOrder.read(records(score("repayments", 0), score("repayments", 2)), INPUTS)
    assert [order.was_refused(event(0, offset)) for offset in range(4)] == [False, True, False, False]
    assert not order.was_refused(event(1, 0)), "nothing of that topic has been read yet"


def test_what_is_not_scored_yet_follows_by_event_time() -> None:
    order = LiveOrder.read(records(score("repayments", 0)), INPUTS)
    later, earlier = event(0, 1, occurred_ms=2_000), event(1, 7, occurred_ms=1_000)
    assert order.place(event(0, 0, occurred_ms=9_000)) < order.place(earlier) < order.place(later)


def test_without_scores_event_time_decides() -> None:
    order = LiveOrder.read(records(), INPUTS)
    assert not order.was_refused(event(0, 0))
    assert order.place(event(0, 5, occurred_ms=1)) < order.place(event(0, 0, occurred_ms=2))


def test_what_stands_before_a_users_tombstone_is_left_out() -> None:
    one, two, three = records(score("repayments", 0), score("transactions", 0), score("repayments", 2))
    inputs = (*INPUTS, "activity", "profiles")
    order = LiveOrder.read([one, two, tombstone("profiles:0:4"), three], inputs)
    assert [order.leaves_out(event(*at)) for at in ((0, 0), (1, 0), (3, 4), (0, 2))] == [True, True, True, False]
    assert order.leaves_out(event(0, 1)), "it was refused"
    assert not order.leaves_out(event(1, 0, key=b"v")), "it is another user's"
    assert not order.leaves_out(event(3, 5)), "not reached yet"


@pytest.mark.parametrize("place", ["", "profiles", "profiles:0", "profiles:0:x", "elsewhere:0:1"])
def test_a_tombstone_of_no_source_is_foreign(place: str) -> None:
    foreign = ForeignRecords()
    order = LiveOrder.read([*records(score("repayments", 0)), tombstone(place)], INPUTS, foreign)
    assert foreign.counts == {"scores": 1}
    assert not order.leaves_out(event(0, 0))
