"""Which role a worker has in a partition after a restart, and what follows from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from faust.types import TP

from stream.alerts.state_machine import ALERT_STATE, initial_state
from stream.kafka.lineage import Committed, HandedOver
from stream.scoring.order_journal import HandOver, OrderRecord
from stream.topics import OutputTopics, Topics
from stream.worker.following import Following
from stream.worker.roles import Role, Roles, is_in_force

INPUTS = Topics().inputs
LED = Topics().live_outputs("b")
SHADOW = OutputTopics("scores.shadow.b")
SHADOWING = Following("a-order", leader="a", taker="b", takes_over=True)
REPLAYING = Following("a-order", leader="a", taker="a")


def committed(mark: str) -> dict[TP, Committed]:
    return {TP(topic, 0): Committed(3 + number, f"i,c,{mark}") for number, topic in enumerate(INPUTS)}


@pytest.mark.parametrize(
    ("following", "mark", "role"),
    [
        (None, None, Role.LEADS),
        (None, "", Role.LEADS),
        (None, "handed-over=x", Role.GAVE_UP),
        (SHADOWING, None, Role.FOLLOWS),
        (SHADOWING, "following=a", Role.FOLLOWS),
        (SHADOWING, "handed-over=a", Role.FOLLOWS),
        (SHADOWING, "", Role.LEADS),
        (REPLAYING, None, Role.FOLLOWS),
        (REPLAYING, "", Role.FOLLOWS),
    ],
)
def test_the_offsets_tell_the_role(following: Following | None, mark: str | None, role: Role) -> None:
    roles = Roles(LED, following, SHADOW)
    roles.begin({0}, {} if mark is None else committed(mark), INPUTS)
    assert roles[0] is role
    assert roles.given_up() == ({0} if role is Role.GAVE_UP else set())
    assert tuple(roles.begins(0)) == ((0, 0, 0, 0) if mark is None else (3, 4, 5, 6))


def test_whoever_was_handed_over_to_another_one_cannot_follow_this_one() -> None:
    with pytest.raises(HandedOver, match="handed over to x, and not to a"):
        Roles(LED, SHADOWING, SHADOW).begin({0}, committed("handed-over=x"), INPUTS)


def test_of_a_replay_of_some_users_other_users_alerts_are_none_of_its_own() -> None:
    alerts = initial_state(3)
    alerts["opened_ms"] = [1, 2, 3]
    told = HandOver("a", "b", (b"x", b"y", b"z"), alerts)
    assert SHADOWING.alerts_of(told) is told
    found = replace(REPLAYING, users={b"z", b"q"}).alerts_of(told)
    assert (found.keys, found.alerts["opened_ms"].tolist()) == ((b"z",), [3])


def test_outputs_and_marks_follow_from_the_role() -> None:
    roles = Roles(LED, SHADOWING, SHADOW)
    roles.begin({0, 1}, {}, INPUTS)
    assert roles.outputs(0) == OutputTopics("scores.shadow.b", order="b-order")
    assert roles.mark(0) == "following=a"
    roles.lead(0)
    assert (roles.outputs(0), roles.mark(0)) == (LED, "")
    assert (roles[1], roles.mark(1)) == (Role.FOLLOWS, "following=a")
    assert set(roles.topics) == {*LED.all, "scores.shadow.b"}
    replay = Roles(LED, REPLAYING, SHADOW)
    assert (replay.outputs(0), replay.mark(0), replay.topics) == (SHADOW, "watching=a", ("scores.shadow.b",))
    assert (Roles(LED).outputs(5), Roles(LED).mark(5), Roles(LED).leader) == (LED, "", None)


def test_which_hand_over_is_in_force() -> None:
    """One that the giver has ended by, and has not led since; also where it has come back and follows."""

    def offsets(mark: str, *beyond: int) -> list[Committed | None]:
        return [
            Committed(end + more, f"i1,c,{mark}") for end, more in zip(record.ends, beyond or (0, 0, 0, 0), strict=True)
        ]

    told = HandOver("a", "b", (), np.zeros(0, dtype=ALERT_STATE))
    record = OrderRecord.of_hand_over((3, 4, 0, 1), told)
    assert is_in_force(offsets("handed-over=b"), record)
    assert not is_in_force(offsets("handed-over=b", 0, 1, 0, 0), record), "it has led since"
    assert not is_in_force(offsets("handed-over=c"), record)
    assert not is_in_force([None, *offsets("handed-over=b")[1:]], record)
    assert not is_in_force(offsets("following=b"), record)
    assert is_in_force(offsets("following=b", 0, 2, 0, 0), record, has_returned=True)
    assert is_in_force(offsets("watching=b"), record, has_returned=True)
    assert not is_in_force(offsets("following=b", 0, -1, 0, 0), record, has_returned=True)
    assert not is_in_force(offsets("following=c"), record, has_returned=True)
    assert not is_in_force(offsets("handed-over=b"), record, has_returned=True)
    none = np.empty(0, dtype=np.int64)
    plain = OrderRecord(record.ends, record.ends, none, none, (none,) * 4)
    assert not is_in_force(offsets("handed-over=b"), plain)
