"""The bodies of `/v1/alerts` as pydantic models; see `desk.api.bodies`."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from desk.api.bodies import AlertBody, Probability
from stream.case_records import CaseAction, CaseStatus, Disposition
from stream.outputs import Level

Days = Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)]

AskedAction: TypeAlias = Literal[
    "acknowledge", "start", "contact", "promise", "withdraw_promise", "snooze", "wake", "note", "assign", "unassign",
    "request_review", "confirm", "reject", "close", "reopen",
]  # fmt: skip
"""The actions that somebody can ask for; the others happen by themselves, or by `next`."""


class CaseBody(BaseModel):
    """The case of an alert: what is being done about it."""

    alert_id: str
    user_id: str
    status: CaseStatus
    level: Level
    highest_level: Level
    product: str | None
    reason_codes: list[str]
    score: Probability
    expected_loss: float | None
    lead_days: float | None = Field(description="Expected days to default, given one within the longest horizon.")
    priority: float | None = Field(description="The part of the expected loss that acting now can still prevent.")
    assignee: str | None
    assigned_at: dt.datetime | None
    opened_at: dt.datetime
    alert_cleared_at: dt.datetime | None
    first_touched_at: dt.datetime | None
    contacted_at: dt.datetime | None
    snoozed_until: dt.datetime | None
    closed_at: dt.datetime | None
    closed_as: Disposition | None
    review_of: Disposition | None = Field(description="What a second person is to confirm that it is closed as.")
    review_by: str | None
    version: int = Field(ge=1, description="To be named with each action; grows by one with each.")
    updated_at: dt.datetime
    reason: str | None = Field(description="The first reason of the alert in words.")


class QueueBody(BaseModel):
    """A page of cases."""

    cases: list[CaseBody]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")


class ActionBody(BaseModel):
    """One action that was done."""

    action_id: uuid.UUID
    alert_id: str
    user_id: str
    action: CaseAction
    status_from: CaseStatus | None
    status_to: CaseStatus
    level: Level
    product: str | None
    actor: str
    at: dt.datetime
    reason: str
    details: dict[str, Any] = Field(description="`closed_as`, `assignee`, `until`, `promise`, `promise_id`.")
    version: int = Field(description="Of the case after it.")


class CaseWithHistory(BaseModel):
    """An alert, its case, and every action on it, oldest first."""

    case: CaseBody
    alert: AlertBody
    actions: list[ActionBody]


class PromiseBody(BaseModel):
    """A payment that the borrower promised: so much by the end of a day."""

    model_config = ConfigDict(extra="forbid")

    amount: float = Field(gt=0, le=1e12, allow_inf_nan=False)
    due_on: dt.date
    contract_id: str | None = Field(default=None, min_length=1, max_length=40, pattern="^[!-~]+$")
    currency: str | None = Field(default=None, pattern="^[A-Z]{3}$")


class ActBody(BaseModel):
    """An action that is asked for."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"action": "contact", "version": 3, "reason": "spoke to the borrower, calls back on Friday"},
                {"action": "promise", "version": 4, "promise": {"amount": 180.0, "due_on": "2026-04-01"}},
                {"action": "close", "version": 5, "disposition": "paid"},
            ]
        },
    )

    action: AskedAction
    version: int = Field(ge=1, le=2_147_483_647, description="Of the case as you saw it.")
    reason: str = Field(default="", max_length=4_000, description="Why, in words.")
    disposition: Disposition | None = Field(default=None, description="What it is closed as.")
    assignee: str | None = Field(default=None, min_length=1, max_length=128, description="Who is to work it.")
    until: AwareDatetime | None = Field(default=None, description="Until when it rests, of `snooze`.")
    promise: PromiseBody | None = Field(default=None, description="Of `promise`.")
    promise_id: str | None = Field(default=None, max_length=64, description="`action_id` of the promise it is about.")


class NextBody(BaseModel):
    """Which cases the next one is to be of."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"levels": ["HIGH"]}]})

    levels: list[Level] = Field(default=[], max_length=3)
    products: list[str] = Field(default=[], max_length=100)
    reason: str | None = Field(default=None, min_length=1, max_length=100)
    least_age_days: Days | None = None
    most_age_days: Days | None = None
    unknown_exposure: bool | None = None
