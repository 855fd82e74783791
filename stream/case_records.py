"""What is done about alerts, as it is published in the topic `alert-actions`: one record for each action on a case.

Which actions are legal when is `desk.cases.life`. No I/O here.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from stream.outputs import Level, Moment

CaseStatus: TypeAlias = Literal["open", "acknowledged", "in_progress", "promised", "snoozed", "closed"]
CASE_STATUSES: tuple[CaseStatus, ...] = ("open", "acknowledged", "in_progress", "promised", "snoozed", "closed")

Disposition: TypeAlias = Literal["cured", "paid", "restructured", "false_alarm", "written_off", "handed_over"]
"""What a case is closed as."""

DISPOSITIONS: tuple[Disposition, ...] = (
    "cured", "paid", "restructured", "false_alarm", "written_off", "handed_over",
)  # fmt: skip

CaseAction: TypeAlias = Literal[
    "open",
    "escalate",
    "clear",
    "acknowledge",
    "take",
    "start",
    "contact",
    "promise",
    "promise_kept",
    "promise_broken",
    "withdraw_promise",
    "snooze",
    "wake",
    "note",
    "assign",
    "unassign",
    "request_review",
    "confirm",
    "reject",
    "close",
    "reopen",
]
CASE_ACTIONS: tuple[CaseAction, ...] = (
    "open", "escalate", "clear", "acknowledge", "take", "start", "contact", "promise", "promise_kept",
    "promise_broken", "withdraw_promise", "snooze", "wake", "note", "assign", "unassign", "request_review", "confirm",
    "reject", "close", "reopen",
)  # fmt: skip

FORESHOCK = "foreshock"
"""The actor of what happens by itself: an alert opened, a snooze ended, a promise was broken."""

TOKEN_ACTOR = "token:"
"""With it the actor of what was done with a token begins, before the token's name; no account's name holds a colon."""


class PromisedPayment(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A payment that the borrower promised: so much by the end of a day. Without `contract_id`, on any contract."""

    amount: Annotated[float, Meta(gt=0, le=1e12)]
    due_on: dt.date
    contract_id: str | None = None
    currency: str | None = None


class AlertAction(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One action on the case of an alert, by whom, when and why.

    `action_id` is the same when a record is published again. `version` counts the actions on the case from 1, so that
    a consumer can recognise repeats and gaps. `status_from` is None for the first. `level` and `product` are
    the case's. `reason` is what the actor wrote.
    `closed_as` is there where the case was closed, or a review of closing it so was asked for; `assignee` where it was
    given to somebody; `until` where it was snoozed; `promise` and `promise_id`, the action that noted it, where it is
    about a promise.
    """

    action_id: str
    alert_id: str
    user_id: str
    action: CaseAction
    status_from: CaseStatus | None
    status_to: CaseStatus
    level: Level
    actor: str
    at: Moment
    version: Annotated[int, Meta(ge=1)]
    product: str | None = None
    reason: str = ""
    closed_as: Disposition | None = None
    assignee: str | None = None
    until: Moment | None = None
    promise: PromisedPayment | None = None
    promise_id: str | None = None


_ENCODER = msgspec.json.Encoder()


def encode_action(action: AlertAction) -> bytes:
    """JSON bytes as published; equal actions give equal bytes."""
    return _ENCODER.encode(action)
