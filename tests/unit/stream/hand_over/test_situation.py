"""How a hand-over stands, by what two groups have committed."""

from __future__ import annotations

import pytest
from faust.types import TP

from stream.hand_over.situation import HandOverRefused, Situation
from stream.kafka.lineage import Committed

INPUTS = ("repayments", "transactions", "activity", "profiles")


def offsets(mark: str, offset: int = 10, partitions: int = 2) -> dict[TP, Committed]:
    lineage = f"i1,i2,i3,i4,c{mark and ','}{mark},changelog=5"
    return {TP(topic, p): Committed(offset, lineage) for topic in INPUTS for p in range(partitions)}


def situation(given: dict[TP, Committed], taken: dict[TP, Committed]) -> Situation:
    return Situation.of("a", "b", INPUTS, 2, given, taken)


def test_what_is_to_be_done_and_how_far_the_taker_is_behind() -> None:
    found = situation(offsets(""), offsets("following=a", 7))
    assert (found.pending, found.led, found.behind) == ({0, 1}, frozenset(), {0: 12, 1: 12})
    assert found.ends[1]["profiles"].offset == 10


def test_what_is_handed_over_is_led_when_the_taker_says_so() -> None:
    given = offsets("handed-over=b")
    assert situation(given, offsets("following=a")).led == frozenset()
    assert situation(given, {}).pending == frozenset()
    assert situation(given, offsets("")).led == {0, 1}
    half = offsets("") | {tp: kept for tp, kept in given.items() if tp.partition == 1}
    taken = offsets("following=a") | {tp: kept for tp, kept in offsets("").items() if tp.partition == 1}
    found = situation(half, taken)
    assert (found.pending, found.led) == ({0}, {1})


def test_a_giver_that_follows_by_now_has_handed_over() -> None:
    """The command was killed half-way, and the giver's workers were started again: it goes on with the rest."""
    back, gone = offsets("following=b"), offsets("")
    half = gone | {tp: kept for tp, kept in back.items() if tp.partition == 1}
    taken = offsets("following=a") | {tp: kept for tp, kept in gone.items() if tp.partition == 1}
    found = situation(half, taken)
    assert (found.pending, found.led, found.returned) == ({0}, {1}, {1})
    waits = situation(half, offsets("following=a"))
    assert (waits.pending, waits.led, waits.returned) == ({0}, frozenset(), {1}), "the taker has yet to come to it"
    done = situation(back, gone)
    assert (done.pending, done.led, done.returned) == (frozenset(), {0, 1}, {0, 1})


@pytest.mark.parametrize(
    ("given", "taken", "said"),
    [
        ({}, offsets("following=a"), "the workers of a have committed nothing of partition 0"),
        (offsets("following=c"), offsets("following=a"), "a itself follows c"),
        (offsets("handed-over=c"), offsets("following=a"), "has handed partition 0 over to c, and not to b"),
        (offsets(""), {}, "no worker of b has followed a in partition 0"),
        (offsets(""), offsets("following=c"), "no worker of b has followed a"),
        (offsets(""), offsets(""), "no worker of b has followed a"),
        (offsets(""), offsets("watching=a"), "lack a right"),
    ],
)
def test_what_stands_against_it(given: dict[TP, Committed], taken: dict[TP, Committed], said: str) -> None:
    with pytest.raises(HandOverRefused, match=said):
        situation(given, taken)
