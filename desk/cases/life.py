"""The life of a case: which action is legal when, for whom, and what it makes of the case. One table for all who ask.

Pure: no I/O, and the time is an argument. What an alert's own transitions do is done by a trigger of the database
(`migrations`), which must agree with this; a test compares the two.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from events.types import AMOUNT_LIMIT
from stream.case_records import (
    CASE_STATUSES,
    FORESHOCK,
    TOKEN_ACTOR,
    CaseAction,
    CaseStatus,
    Disposition,
    PromisedPayment,
)
from stream.outputs import LEVELS, Level

By: TypeAlias = Literal["anybody", "lead", "foreshock"]
"""Who may do it: whoever works cases, a lead alone, or Foreshock by itself alone."""

Need: TypeAlias = Literal["reason", "disposition", "assignee", "until", "promise", "promise_id"]
"""What an action has to say."""

LONGEST_SNOOZE = dt.timedelta(days=92)
LONGEST_PROMISE = dt.timedelta(days=366)
LONGEST_REASON = 4_000
"""Characters of what an actor writes."""

EXPLAINED: tuple[Disposition, ...] = ("false_alarm", "written_off")
"""What a case is closed as with a reason in words only: nothing else says why nobody goes on."""

_NOT_CLOSED = frozenset(CASE_STATUSES) - {"closed"}
_ALL = frozenset(CASE_STATUSES)


@dataclass(frozen=True)
class Rule:
    """One row of the table: from which statuses, to which (None: as it was, or as `after` says), by whom.

    `touches`: a person takes the case up with it. `anyone`: also on a case that is assigned to somebody else.
    `during_review`: also while a second person has to confirm. `signed_in`: not with a token, behind which anybody may
    be, also who is the other of the two. `means` is for documents and pages.
    """

    from_statuses: frozenset[CaseStatus]
    to: CaseStatus | None
    by: By
    means: str
    needs: tuple[Need, ...] = ()
    touches: bool = False
    anyone: bool = False
    during_review: bool = False
    signed_in: bool = False


RULES: dict[CaseAction, Rule] = {
    "open": Rule(frozenset(), "open", "foreshock", "the alert opened"),
    "escalate": Rule(
        _ALL,
        None,
        "foreshock",
        "the alert escalated: a snoozed case wakes, a closed one opens again, unless as written off or handed over; a "
        "review is off",
    ),
    "clear": Rule(_ALL, None, "foreshock", "the alert cleared: a case that nobody has touched is closed as cured"),
    "acknowledge": Rule(frozenset({"open"}), "acknowledged", "anybody", "somebody has seen it", touches=True),
    "take": Rule(frozenset({"open"}), "acknowledged", "anybody", "the next case, given to who asked", touches=True),
    "start": Rule(frozenset({"open", "acknowledged"}), "in_progress", "anybody", "somebody works it", touches=True),
    "contact": Rule(_NOT_CLOSED, "in_progress", "anybody", "the borrower was reached; a promise stays", touches=True),
    "promise": Rule(
        _NOT_CLOSED,
        "promised",
        "anybody",
        "the borrower promises to pay an amount by a day",
        ("promise",),
        touches=True,
    ),
    "promise_kept": Rule(
        _ALL,
        None,
        "foreshock",
        "what was promised is paid: with no other promise, back to in progress",
        ("promise_id",),
    ),
    "promise_broken": Rule(
        _ALL,
        None,
        "foreshock",
        "what was promised was not paid in time, or the payment was reversed: in progress again, also from snoozed; a "
        "case that was closed as paid opens again",
        ("promise_id",),
    ),
    "withdraw_promise": Rule(
        frozenset({"promised", "snoozed"}),
        None,
        "anybody",
        "a promise does not count any more",
        ("promise_id", "reason"),
    ),
    "snooze": Rule(_NOT_CLOSED, "snoozed", "anybody", "it rests until a time", ("until",), touches=True),
    "wake": Rule(frozenset({"snoozed"}), None, "anybody", "it is as before it rested; by itself at the time"),
    "note": Rule(
        _ALL, None, "anybody", "something to know", ("reason",), touches=True, anyone=True, during_review=True
    ),
    "assign": Rule(
        _NOT_CLOSED,
        None,
        "anybody",
        "somebody is to work it: oneself, where nobody else does; a lead gives it to anybody",
        ("assignee",),
        during_review=True,
    ),
    "unassign": Rule(_NOT_CLOSED, None, "anybody", "nobody is to work it any more", during_review=True),
    "request_review": Rule(
        _NOT_CLOSED,
        None,
        "anybody",
        "a second person is to confirm that it is closed so",
        ("disposition", "reason"),
        touches=True,
        signed_in=True,
    ),
    "confirm": Rule(
        _NOT_CLOSED,
        "closed",
        "lead",
        "the second person confirms, and it is closed",
        anyone=True,
        during_review=True,
        signed_in=True,
    ),
    "reject": Rule(
        _NOT_CLOSED,
        None,
        "anybody",
        "a lead says no, or who asked takes it back",
        ("reason",),
        anyone=True,
        during_review=True,
    ),
    "close": Rule(_NOT_CLOSED, "closed", "anybody", "nothing is left to do", ("disposition",), touches=True),
    "reopen": Rule(
        frozenset({"closed"}), "open", "lead", "there is something to do after all", ("reason",), anyone=True
    ),
}
"""The table of legal actions."""


class IllegalAction(ValueError):
    """An action that the table does not allow; the message says why and what to do."""


@dataclass(frozen=True)
class CaseState:
    """What actions change of a case, and what they go by. `open_promises` counts those not yet decided."""

    status: CaseStatus
    highest_level: Level
    version: int = 1
    assignee: str | None = None
    assigned_at: dt.datetime | None = None
    alert_cleared_at: dt.datetime | None = None
    first_touched_at: dt.datetime | None = None
    contacted_at: dt.datetime | None = None
    snoozed_until: dt.datetime | None = None
    snoozed_from: CaseStatus | None = None
    closed_at: dt.datetime | None = None
    closed_as: Disposition | None = None
    review_of: Disposition | None = None
    review_by: str | None = None
    open_promises: int = 0


@dataclass(frozen=True)
class Act:
    """An action as somebody asks for it. `leads`: the actor may do what leads do."""

    action: CaseAction
    actor: str
    leads: bool = False
    reason: str = ""
    disposition: Disposition | None = None
    assignee: str | None = None
    until: dt.datetime | None = None
    promise: PromisedPayment | None = None
    promise_id: str | None = None
    promise_was_open: bool = True
    """Of `promise_kept` and `promise_broken`: whether it was undecided until now."""
    level: Level | None = None
    """Of `escalate`: the alert's level from now on."""


def new_case(level: Level) -> CaseState:
    """The case of an alert that opens with `level`."""
    return CaseState("open", level)


def needs_review(state: CaseState, disposition: Disposition, four_eyes: bool) -> bool:
    """Whether a second person has to confirm closing it so: a HIGH alert as a false alarm, where the lender wants
    that."""
    return four_eyes and disposition == "false_alarm" and state.highest_level == LEVELS[-1]


def after(state: CaseState, act: Act, now: dt.datetime, *, four_eyes: bool, today: dt.date | None = None) -> CaseState:
    """The case after an action at `now`; `today` is the lender's date (that of `now` unless given).

    Raises `IllegalAction`.
    """
    require_legal(state, act, four_eyes=four_eyes)
    _require_content(act, now, now.date() if today is None else today)
    rule = RULES[act.action]
    effect = _EFFECTS.get(act.action)
    changed = state if effect is None else effect(state, act, now)
    if rule.to is not None:
        changed = replace(changed, status="promised" if act.action == "contact" and state.open_promises else rule.to)
    if rule.touches and act.actor != FORESHOCK and changed.first_touched_at is None:
        changed = replace(changed, first_touched_at=now)
    return _coherent(state, replace(changed, version=state.version + 1), now)


def require_legal(state: CaseState, act: Act, *, four_eyes: bool) -> None:
    """Raises `IllegalAction` where the table, the assignment or the rule of four eyes is against it."""
    rule = RULES[act.action]
    if act.actor != FORESHOCK:
        _require_person(state, act, rule)
    if state.status not in rule.from_statuses:
        legal = ", ".join(status for status in CASE_STATUSES if status in rule.from_statuses) or "nothing"
        raise IllegalAction(f"{act.action} is not possible while the case is {state.status}; it goes from {legal}")
    if act.action == "unassign" and state.assignee is None:
        raise IllegalAction("nobody works the case; there is nothing to unassign")
    if act.action == "withdraw_promise" and not state.open_promises:
        raise IllegalAction("the case has no open promise")
    if act.action in ("confirm", "reject") and state.review_of is None:
        raise IllegalAction(f"nothing waits for a second person, so there is nothing to {act.action}")
    reviewed = act.disposition is not None and needs_review(state, act.disposition, four_eyes)
    if act.action == "request_review" and act.disposition is not None and not reviewed:
        raise IllegalAction(f"closing the case as {act.disposition} needs no second person; close it")
    if act.action == "close" and reviewed:
        raise IllegalAction(
            f"a second person has to confirm that a {state.highest_level} alert is a false alarm: ask for a review "
            "(request_review)"
        )


def _require_person(state: CaseState, act: Act, rule: Rule) -> None:
    """What holds of people and not of Foreshock itself."""
    if rule.by == "foreshock":
        raise IllegalAction(f"{act.action} happens by itself; nobody does it")
    if rule.signed_in and act.actor.startswith(TOKEN_ACTOR):
        raise IllegalAction(
            f"{act.action} is one of two people's, and a token does not say whose: sign in at the desk for it"
        )
    if rule.by == "lead" and not act.leads:
        raise IllegalAction(f"{act.action} is for leads; ask one")
    if state.review_of is not None and not rule.during_review:
        raise IllegalAction(
            f"{state.review_by} has asked for a second person to confirm closing it as {state.review_of}: confirm or "
            "reject that first"
        )
    if act.action == "confirm" and act.actor == state.review_by:
        raise IllegalAction("whoever asked for the review cannot confirm it; another person has to")
    if act.action == "confirm" and (state.review_by or "").startswith(TOKEN_ACTOR):
        raise IllegalAction(
            f"{state.review_by} asked for the review, and a token does not say who that was: reject it, and have "
            "somebody who is signed in ask"
        )
    if act.action == "reject" and not act.leads and act.actor != state.review_by:
        raise IllegalAction("only a lead, or who asked for the review, rejects it")
    if act.action == "assign" and act.assignee != act.actor and not act.leads:
        raise IllegalAction("cases are given to others by leads; assign it to yourself, or ask one")
    if state.assignee not in (None, act.actor) and not act.leads and not rule.anyone:
        raise IllegalAction(f"{state.assignee} works this case; ask them, or a lead to assign it to you")


def _require_content(act: Act, now: dt.datetime, today: dt.date) -> None:
    """What an action has to say is there and makes sense."""
    needed: list[Need] = list(RULES[act.action].needs)
    if act.action == "close" and act.disposition in EXPLAINED:
        needed.append("reason")
    for need in needed:
        if getattr(act, need) in (None, "") or (need == "reason" and not act.reason.strip()):
            raise IllegalAction(f"{act.action} needs a {need.replace('_', ' ')}")
    if len(act.reason) > LONGEST_REASON:
        raise IllegalAction(f"a reason has at most {LONGEST_REASON} characters, not {len(act.reason)}")
    if "\x00" in act.reason:
        raise IllegalAction("a reason cannot hold U+0000")
    if act.action == "snooze" and act.until is not None and not now < act.until <= now + LONGEST_SNOOZE:
        raise IllegalAction(f"a case rests until a time that is ahead, by at most {LONGEST_SNOOZE.days} days")
    if act.action != "promise" or act.promise is None:
        return
    if not 0 < act.promise.amount <= AMOUNT_LIMIT:
        raise IllegalAction(f"a promised amount is above 0 and at most {AMOUNT_LIMIT:.0e}")
    if not today <= act.promise.due_on <= today + LONGEST_PROMISE:
        raise IllegalAction(f"a promise is due today or later, by at most {LONGEST_PROMISE.days} days")


def offered(state: CaseState, actor: str, *, leads: bool, four_eyes: bool) -> Iterator[CaseAction]:
    """The actions that this person may choose now, in the order of the table; what they have to say is still open."""
    for action, rule in RULES.items():
        if rule.by == "foreshock" or action == "take":
            continue
        act = Act(
            action, actor, leads, assignee=actor, disposition="false_alarm" if action == "request_review" else None
        )
        try:
            require_legal(state, act, four_eyes=four_eyes)
        except IllegalAction:
            continue
        yield action


def _without_promise(state: CaseState, act: Act, _now: dt.datetime) -> CaseState:
    """One promise is decided or withdrawn; with the last one the case is in progress again."""
    if not act.promise_was_open:
        return state
    left = max(state.open_promises - 1, 0)
    changed = replace(state, open_promises=left)
    if left == 0 and state.status == "promised":
        return replace(changed, status="in_progress")
    if left == 0 and state.snoozed_from == "promised":
        return replace(changed, snoozed_from="in_progress")
    return changed


def _broken(state: CaseState, act: Act, now: dt.datetime) -> CaseState:
    changed = _without_promise(state, act, now)
    if state.status == "snoozed":
        return replace(changed, status="in_progress")
    return replace(changed, status="open") if (state.status, state.closed_as) == ("closed", "paid") else changed


def _escalated(state: CaseState, act: Act, _now: dt.datetime) -> CaseState:
    changed = replace(state, highest_level=act.level or state.highest_level, review_of=None, review_by=None)
    if state.status == "snoozed":
        return replace(changed, status=state.snoozed_from or "open")
    if state.status == "closed" and state.closed_as not in ("written_off", "handed_over"):
        return replace(changed, status="open")
    return changed


def _cleared(state: CaseState, _act: Act, now: dt.datetime) -> CaseState:
    changed = replace(state, alert_cleared_at=now)
    if state.status == "open" and state.first_touched_at is None:
        return replace(changed, status="closed", closed_as="cured")
    return changed


_EFFECTS: dict[CaseAction, Callable[[CaseState, Act, dt.datetime], CaseState]] = {
    "escalate": _escalated,
    "clear": _cleared,
    "take": lambda state, act, now: replace(state, assignee=act.actor, assigned_at=now),
    "contact": lambda state, _, now: replace(state, contacted_at=state.contacted_at or now),
    "promise": lambda state, _, now: replace(
        state, contacted_at=state.contacted_at or now, open_promises=state.open_promises + 1
    ),
    "promise_kept": _without_promise,
    "promise_broken": _broken,
    "withdraw_promise": _without_promise,
    "snooze": lambda state, act, _: replace(
        state, snoozed_until=act.until, snoozed_from=state.snoozed_from or state.status
    ),
    "wake": lambda state, _act, _now: replace(state, status=state.snoozed_from or "open"),
    "assign": lambda state, act, now: replace(state, assignee=act.assignee, assigned_at=now),
    "unassign": lambda state, _act, _now: replace(state, assignee=None, assigned_at=None),
    "request_review": lambda state, act, _: replace(state, review_of=act.disposition, review_by=act.actor),
    "confirm": lambda state, _act, _now: replace(state, closed_as=state.review_of),
    "reject": lambda state, _act, _now: replace(state, review_of=None, review_by=None),
    "close": lambda state, act, _: replace(state, closed_as=act.disposition),
}
"""What an action changes beside the status, or where the status depends on more than the action."""


def _coherent(before: CaseState, state: CaseState, now: dt.datetime) -> CaseState:
    """What belongs to a status comes and goes with it; `before` is the case until now."""
    if state.status != "snoozed":
        state = replace(state, snoozed_until=None, snoozed_from=None)
    if state.status != "closed":
        return replace(state, closed_at=None, closed_as=None)
    closed_at = before.closed_at if before.status == "closed" else now
    return replace(state, review_of=None, review_by=None, closed_at=closed_at)
