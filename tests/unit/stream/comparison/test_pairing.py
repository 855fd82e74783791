import datetime as dt
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.comparison import pairing as module
from stream.comparison.pairing import LIVE, OTHER, Pairing, PublishedScore, TooFarApart

AT = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)


def a_score(topic: str, offset: int, score: float = 0.5) -> PublishedScore:
    return PublishedScore(
        user_id="u", occurred_at=AT, sequence=1, score=score, level="LOW", model="m", source_topic=topic,
        source_offset=offset,
    )  # fmt: skip


Event = tuple[str, int]
topics = st.sampled_from(["repayments", "transactions", "activity"])


@st.composite
def a_side(draw: st.DrawFn) -> list[Event]:
    """What one side has scored: of each topic in the order of offsets, the topics interleaved anyhow."""
    queues = {topic: sorted(draw(st.sets(st.integers(0, 12)))) for topic in ("repayments", "transactions", "activity")}
    turns = draw(st.permutations([topic for topic, offsets in queues.items() for _ in offsets]))
    return [(topic, queues[topic].pop(0)) for topic in turns]


def cut(scores: Sequence[PublishedScore], sizes: Sequence[int]) -> list[list[PublishedScore]]:
    pieces: list[list[PublishedScore]] = []
    start = 0
    for size in itertools.chain(sizes, itertools.repeat(1)):
        if start >= len(scores):
            return pieces
        pieces.append(list(scores[start : start + size]))
        start += size
    raise AssertionError


@given(a_side(), a_side(), st.lists(st.integers(1, 9)), st.lists(st.booleans()))
def test_every_event_of_both_sides_is_paired_once_however_they_are_read(
    live: list[Event], other: list[Event], sizes: list[int], turns: list[bool]
) -> None:
    pieces = [cut([a_score(*event) for event in side], sizes) for side in (live, other)]
    pairing, found = Pairing(), []
    order = iter(turns)
    while any(pieces):
        side = OTHER if not pieces[LIVE] or (pieces[OTHER] and next(order, True)) else LIVE
        pairing.add(side, pieces[side].pop(0))
        found += pairing.pairs()
    pairing.end()
    assert all((a.source_topic, a.source_offset) == (b.source_topic, b.source_offset) for a, b in found)
    assert sorted((a.source_topic, a.source_offset) for a, _ in found) == sorted(set(live) & set(other))
    assert pairing.waiting(LIVE) == pairing.waiting(OTHER) == 0
    alone = {
        name: sum(pairing.counts[key] for key in (f"only_{name}", f"{name}_before", f"{name}_after"))
        for name in ("live", "other")
    }
    assert alone == {"live": len(set(live) - set(other)), "other": len(set(other) - set(live))}
    for name, own, others in (("live", live, other), ("other", other, live)):
        missing = [
            (topic, offset)
            for topic, offset in set(own) - set(others)
            if any(t == topic and o < offset for t, o in others) and any(t == topic and o > offset for t, o in others)
        ]
        assert pairing.counts[f"only_{name}"] == len(missing)
    for topic, offset in {*live, *other}:
        spans = [[o for t, o in side if t == topic] for side in (live, other)]
        within = all(span and min(span) <= offset <= max(span) for span in spans)
        assert pairing.both_scored(topic, offset) == within


def test_a_score_that_is_not_wanted_takes_no_part_but_tells_how_far_its_side_is() -> None:
    pairing = Pairing(lambda score: score.score > 0.3)
    pairing.add(LIVE, [a_score("t", 1, 0.1), a_score("t", 2), a_score("t", 3, 0.1)])
    pairing.add(OTHER, [a_score("t", 1, 0.1), a_score("t", 2), a_score("t", 3, 0.1)])
    assert [pair[LIVE].source_offset for pair in pairing.pairs()] == [2]
    pairing.end()
    assert not pairing.counts
    assert pairing.both_scored("t", 3)


def test_a_score_that_stands_there_twice_counts_once() -> None:
    pairing = Pairing()
    pairing.add(LIVE, [a_score("t", 1), a_score("t", 2), a_score("t", 1)])
    pairing.add(OTHER, [a_score("t", 1), a_score("t", 2)])
    assert len(pairing.pairs()) == 2
    assert pairing.counts == {"repeated": 1}


def test_memory_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    pairing = Pairing()
    pairing.add(LIVE, [a_score("t", offset) for offset in range(3)])
    pairing.pairs()
    pairing.add(LIVE, [a_score("t", 3)])
    with pytest.raises(TooFarApart, match="--from"):
        pairing.pairs()


def test_that_who_was_forgotten_lacks_a_partner_says_nothing() -> None:
    """Also of what was found alone before; what has a partner stays a pair."""
    pairing = Pairing()
    pairing.add(LIVE, [a_score("a", 0), a_score("a", 1), a_score("a", 2)])
    pairing.add(OTHER, [a_score("a", 1)])
    assert len(pairing.pairs()) == 1
    pairing.forget(LIVE, a_score("a", 0).user_id)
    pairing.add(LIVE, [a_score("a", 3), a_score("a", 4)])
    pairing.add(OTHER, [a_score("a", 4)])
    assert len(pairing.pairs()) == 1
    pairing.end()
    assert pairing.counts["of_forgotten_users"] == 2
    assert pairing.counts["only_live"] == 1, "a score after it"
