"""Judgement on where users' events lie. What needs servers is in the integration tests."""

from __future__ import annotations

import numpy as np
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from stream.doctor import judge_order, judge_places, judge_standing, judge_states
from stream.kafka.lineage import Committed
from stream.scoring.order_journal import HAND_OVER_VERSION, OrderLog
from stream.settings import Settings

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


DTYPE = np.dtype([("model", "u8"), ("sequence", "i8")])


def row(model: int, dtype: np.dtype[np.void] = DTYPE) -> bytes:
    made = np.zeros(1, dtype=dtype)
    made["model"] = model
    return made.tobytes()


def test_a_hand_over_is_told_of_with_what_to_set() -> None:
    settings = Settings(application_id="old")
    leads = {TP("repayments", 0): Committed(3, "a,changelog=1")}
    assert list(judge_standing(settings, leads)) == []
    gone = {TP("repayments", 0): Committed(3, "a,handed-over=new,changelog=1")}
    (finding,) = judge_standing(settings, gone)
    assert finding.level == "warning"
    assert "handed partitions 0 over to new" in finding.message
    assert "application_id to 'new' and readers_id to 'old'" in finding.remedy
    follows = {TP("repayments", 2): Committed(3, "a,following=new")}
    (finding,) = judge_standing(settings, follows)
    assert "follows new in partitions 2" in finding.message


def test_states_of_this_layout_and_model_are_well() -> None:
    assert judge_states([], DTYPE, 7).level == "ok"
    assert judge_states([row(7), row(7)], DTYPE, 7).level == "ok"


def test_states_that_workers_could_not_go_on_from_are_named() -> None:
    other = judge_states([row(7), row(9)], DTYPE, 7)
    assert other.level == "error"
    assert "model 0000000000000009" in other.message
    larger = np.dtype([*DTYPE.descr, ("more", "f8")])
    layout = judge_states([row(7), row(7, larger)], DTYPE, 7)
    assert layout.level == "error"
    assert "rows of 24 bytes" in layout.message
    assert "docs/upgrade.md" in layout.remedy


def test_a_journal_of_another_release_is_named() -> None:
    log = OrderLog()
    log.took(np.array([0, 1]), np.array([5, 7]))
    record = log.record((6, 8, 0, 0))
    assert record is not None
    good = record.encode()
    assert judge_order([good, good], are_states=True).level == "ok"
    assert judge_order([], are_states=False).level == "ok"
    old = judge_order([], are_states=True)
    assert (old.level, "by event time" in old.message) == ("warning", True)
    newer = judge_order([good, bytes([HAND_OVER_VERSION + 1]) + good[1:]], are_states=True)
    assert newer.level == "error"
    assert f"version {HAND_OVER_VERSION + 1}" in newer.message
    assert judge_order([None], are_states=True).level == "error"
