"""The life of a case: whatever is asked for in whatever order, only what the table allows happens."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from desk.cases.life import LONGEST_SNOOZE, RULES, Act, CaseState, IllegalAction, after, new_case, offered
from stream.case_records import CASE_ACTIONS, DISPOSITIONS, FORESHOCK, CaseAction, Disposition, PromisedPayment

NOON = dt.datetime(2024, 3, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
PROMISE = PromisedPayment(amount=100.0, due_on=NOON.date() + 7 * DAY)


def done(
    state: CaseState, action: CaseAction, actor: str = "ann", *, four_eyes: bool = True, **more: object
) -> CaseState:
    """The case after an action that says all that is needed."""
    said: dict[str, object] = {
        "reason": "called", "disposition": "paid", "assignee": actor, "until": NOON + DAY, "promise": PROMISE,
        "promise_id": "p",
    }  # fmt: skip
    needs = {*RULES[action].needs, "reason"}
    return after(
        state,
        Act(action, actor, **{name: said[name] for name in needs} | more),  # type: ignore[arg-type]
        NOON,
        four_eyes=four_eyes,
    )


def test_every_action_has_a_rule() -> None:
    assert set(RULES) == set(CASE_ACTIONS)


def test_a_case_is_worked_until_it_is_closed() -> None:
    state = new_case("MEDIUM")
    for action, status in (
        ("acknowledge", "acknowledged"), ("start", "in_progress"), ("contact", "in_progress"), ("promise", "promised"),
        ("contact", "promised"), ("snooze", "snoozed"), ("wake", "promised"), ("note", "promised"), ("close", "closed"),
    ):  # fmt: skip
        state = done(state, action)  # type: ignore[arg-type]
        assert state.status == status
    assert (state.version, state.closed_as, state.closed_at, state.first_touched_at) == (10, "paid", NOON, NOON)
    assert done(state, "reopen", leads=True).status == "open"


def test_only_what_the_table_allows() -> None:
    closed = done(new_case("LOW"), "close")
    for state, action in ((closed, "start"), (closed, "close"), (new_case("LOW"), "wake"), (new_case("LOW"), "reopen")):
        with pytest.raises(IllegalAction, match="is not possible while the case is"):
            done(state, action, leads=True)  # type: ignore[arg-type]
    for action in ("open", "escalate", "clear", "promise_kept", "promise_broken"):
        with pytest.raises(IllegalAction, match="nobody does it"):
            done(new_case("LOW"), action, leads=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("action", "lacking", "why"),
    [
        ("note", {"reason": " "}, "needs a reason"),
        ("close", {"disposition": None}, "needs a disposition"),
        ("close", {"disposition": "written_off", "reason": ""}, "needs a reason"),
        ("snooze", {"until": NOON}, "a time that is ahead"),
        ("snooze", {"until": NOON + LONGEST_SNOOZE + DAY}, "at most 92 days"),
        ("promise", {"promise": PromisedPayment(amount=1.0, due_on=NOON.date() - DAY)}, "due today or later"),
        ("promise", {"promise": PromisedPayment(amount=-1.0, due_on=NOON.date())}, "above 0"),
        ("promise", {"promise": PromisedPayment(amount=float("nan"), due_on=NOON.date())}, "above 0"),
        ("note", {"reason": "x" * 4_001}, "at most 4000 characters"),
        ("note", {"reason": "a\x00"}, r"U\+0000"),
    ],
)
def test_what_an_action_has_to_say(action: CaseAction, lacking: dict[str, object], why: str) -> None:
    with pytest.raises(IllegalAction, match=why):
        done(new_case("LOW"), action, **lacking)


def test_a_high_alert_is_a_false_alarm_only_by_two_people() -> None:
    high = new_case("HIGH")
    with pytest.raises(IllegalAction, match="ask for a review"):
        done(high, "close", disposition="false_alarm")
    assert done(high, "close", disposition="false_alarm", four_eyes=False).status == "closed"
    assert done(new_case("MEDIUM"), "close", disposition="false_alarm").status == "closed"
    with pytest.raises(IllegalAction, match="needs no second person"):
        done(high, "request_review", disposition="cured")

    asked = done(high, "request_review", disposition="false_alarm")
    for action in ("request_review", "confirm"):
        with pytest.raises(IllegalAction, match="sign in at the desk"):
            done(high if action == "request_review" else asked, action, "token:ann", leads=True)  # type: ignore[arg-type]
    with pytest.raises(IllegalAction, match="reject it"):
        done(replace(asked, review_by="token:ann"), "confirm", "bob", leads=True)
    for action in ("start", "snooze", "close", "request_review"):
        with pytest.raises(IllegalAction, match="confirm or reject that first"):
            done(asked, action)  # type: ignore[arg-type]
    for actor, leads, why in (("ann", True, "another person"), ("bob", False, "for leads")):
        with pytest.raises(IllegalAction, match=why):
            done(asked, "confirm", actor, leads=leads)
    confirmed = done(asked, "confirm", "bob", leads=True)
    assert (confirmed.status, confirmed.closed_as, confirmed.review_of) == ("closed", "false_alarm", None)
    with pytest.raises(IllegalAction, match="only a lead, or who asked"):
        done(asked, "reject", "bob")
    assert done(asked, "reject").review_by is None
    assert done(asked, "escalate", FORESHOCK).review_of is None


def test_a_case_is_its_assignees() -> None:
    anns = done(new_case("LOW"), "take")
    assert (anns.status, anns.assignee) == ("acknowledged", "ann")
    with pytest.raises(IllegalAction, match="ann works this case"):
        done(anns, "start", "bob")
    with pytest.raises(IllegalAction, match="ann works this case"):
        done(anns, "assign", "bob")
    with pytest.raises(IllegalAction, match="given to others by leads"):
        done(anns, "assign", "ann", assignee="bob")
    assert done(anns, "assign", "eve", leads=True, assignee="bob").assignee == "bob"
    assert done(anns, "note", "bob").status == "acknowledged"
    assert done(done(anns, "unassign"), "start", "bob").status == "in_progress"


def test_promises() -> None:
    two = done(done(new_case("LOW"), "promise"), "promise")
    one = done(two, "promise_kept", FORESHOCK)
    assert (one.status, one.open_promises) == ("promised", 1)
    assert done(one, "promise_kept", FORESHOCK).status == "in_progress"
    assert done(one, "withdraw_promise").status == "in_progress"
    resting = done(one, "snooze")
    assert done(resting, "promise_broken", FORESHOCK).status == "in_progress"
    kept = done(resting, "promise_kept", FORESHOCK)
    assert (kept.status, kept.snoozed_from) == ("snoozed", "in_progress")
    assert done(done(one, "close"), "promise_broken", FORESHOCK).status == "open"
    assert done(done(one, "close", disposition="cured"), "promise_broken", FORESHOCK).status == "closed"


def test_what_the_alert_does() -> None:
    assert done(new_case("LOW"), "clear", FORESHOCK).closed_as == "cured"
    touched = done(done(new_case("LOW"), "note"), "clear", FORESHOCK)
    assert (touched.status, touched.alert_cleared_at) == ("open", NOON)
    assert done(done(new_case("LOW"), "snooze"), "escalate", FORESHOCK, level="HIGH").status == "open"
    for disposition in DISPOSITIONS:
        closed = done(new_case("LOW"), "close", disposition=disposition)
        again = done(closed, "escalate", FORESHOCK, level="HIGH").status
        assert again == ("closed" if disposition in ("written_off", "handed_over") else "open")


class Life(RuleBasedStateMachine):
    """Whatever people and the stream ask for: what is refused changes nothing, what is done keeps a case coherent."""

    @initialize(level=st.sampled_from(["MEDIUM", "HIGH"]))
    def opens(self, level: str) -> None:
        self.now = NOON
        self.state = new_case(level)  # type: ignore[arg-type]

    @rule(
        action=st.sampled_from([action for action in CASE_ACTIONS if action != "open"]),
        actor=st.sampled_from(["ann", "bob"]),
        leads=st.booleans(),
        disposition=st.sampled_from(DISPOSITIONS),
        hours=st.integers(1, 100),
    )
    def asks(self, action: CaseAction, actor: str, leads: bool, disposition: Disposition, hours: int) -> None:
        self.now += dt.timedelta(hours=hours)
        by = FORESHOCK if RULES[action].by == "foreshock" else actor
        before = self.state
        chosen = action in set(offered(before, by, leads=leads, four_eyes=True))
        act = Act(
            action, by, leads, reason="why", disposition=disposition, assignee=actor, until=self.now + DAY,
            promise=PromisedPayment(amount=1.0, due_on=self.now.date()), promise_id="p", level="HIGH",
        )  # fmt: skip
        if action in ("promise_kept", "promise_broken") and not before.open_promises:
            return
        try:
            self.state = after(before, act, self.now, four_eyes=True)
        except IllegalAction:
            # What is offered may still be refused for what it says: closing as a false alarm.
            assert not chosen or action in ("close", "request_review")
            return
        assert chosen or by == FORESHOCK or action == "take"
        assert self.state.version == before.version + 1
        assert before.status in RULES[action].from_statuses

    @precondition(lambda self: self.state.status == "snoozed")
    @rule()
    def wakes(self) -> None:
        self.state = after(self.state, Act("wake", FORESHOCK), self.now, four_eyes=True)
        assert self.state.status not in ("snoozed", "closed")

    @invariant()
    def is_coherent(self) -> None:
        state = self.state
        assert (state.closed_at is not None) == (state.closed_as is not None) == (state.status == "closed")
        assert (state.snoozed_until is not None) == (state.snoozed_from is not None) == (state.status == "snoozed")
        assert state.snoozed_from not in ("snoozed", "closed")
        assert (state.review_of is None) == (state.review_by is None)
        assert state.review_of is None or state.status != "closed"
        assert (state.assignee is None) == (state.assigned_at is None)
        assert state.status != "promised" or state.open_promises > 0


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
