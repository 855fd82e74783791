"""Judgement on where users' events lie. What needs servers is in the integration tests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream.doctor import judge_places

TOPICS = st.sampled_from(["repayments", "transactions", "activity", "profiles"])
PLACES = st.dictionaries(
    st.text(min_size=1, max_size=5), st.frozensets(st.tuples(TOPICS, st.integers(0, 3)), min_size=1), max_size=8
)


@given(PLACES)
def test_error_exactly_when_someone_is_on_two_partition_numbers(places: dict[str, frozenset[tuple[str, int]]]) -> None:
    split = [user for user, seen in places.items() if len({partition for _, partition in seen}) > 1]
    finding = judge_places(places)
    assert finding.level == ("error" if split else "ok")
    if split:
        assert finding.message.startswith(f"{len(split)} of {len(places)} users")
        assert finding.remedy


def test_only_a_few_are_named() -> None:
    places = {f"user-{number}": frozenset({("repayments", 0), ("activity", 1)}) for number in range(10)}
    message = judge_places(places).message
    assert "user-2 in activity/1, repayments/0" in message
    assert "user-3" not in message


def test_empty_topics_are_no_problem() -> None:
    assert judge_places({}).level == "ok"
