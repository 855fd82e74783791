"""How hand-overs stand for who looks on, by what an application and its shadow have committed."""

from __future__ import annotations

from stream.hand_over.standing import standing_of
from stream.topics import Topics
from tests.unit.stream.hand_over.test_situation import offsets

TOPICS = Topics("")


def test_a_shadow_that_follows_can_take_over() -> None:
    found = standing_of(TOPICS, "f", "may", offsets(""), offsets("following=f", 7))
    assert found.shadow_application_id == "f-shadow-may"
    assert found.onward is not None
    assert found.onward.behind == {0: 12, 1: 12}
    assert found.led == frozenset()
    assert found.back is None
    assert "f-shadow-may itself follows f" in found.why_not_back


def test_a_hand_over_half_way() -> None:
    given = offsets("", partitions=1) | {
        tp: kept for tp, kept in offsets("handed-over=f-shadow-may").items() if tp.partition == 1
    }
    taken = offsets("following=f", partitions=1) | {tp: kept for tp, kept in offsets("").items() if tp.partition == 1}
    found = standing_of(TOPICS, "f", "may", given, taken)
    assert found.onward is not None
    assert (found.onward.pending, found.led) == ({0}, {1})


def test_one_that_was_promoted_and_is_followed_can_go_back() -> None:
    found = standing_of(TOPICS, "f", "may", offsets("following=f-shadow-may", 4), offsets("", 10))
    assert found.onward is None
    assert "f itself follows f-shadow-may" in found.why_not_onward
    assert found.back is not None
    assert found.back.behind == {0: 24, 1: 24}
    assert found.led == {0, 1}


def test_what_has_committed_nothing_is_told() -> None:
    found = standing_of(TOPICS, "f", "may", {}, offsets("following=f"))
    assert found.onward is None
    assert "the workers of f have committed nothing of partition 0" in found.why_not_onward
    assert standing_of(TOPICS, "f", "may", {}, {}).led == frozenset()
