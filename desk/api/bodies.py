"""The bodies of the API as pydantic models: what OpenAPI says, and what a test compares the answers with.

Answers are encoded by msgspec from rows, as the topics' records are; these models describe them.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from events.contracts import Status
from events.types import Kind
from stream.outputs import AlertKind, Level, RefusalCode, Trigger

EXAMPLE_TIME = "2026-03-14T09:26:53Z"

Probability = Annotated[float, Field(ge=0, le=1)]


class ScoreBody(BaseModel):
    """A score, as in the topic `scores`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "score_id": "repayments:2:1841", "event_id": "r-0193", "user_id": "u0000003",
                    "occurred_at": EXAMPLE_TIME, "sequence": 214, "score": 0.2137,
                    "horizons": {"30": 0.081, "60": 0.157, "90": 0.2137, "180": 0.329}, "level": "MEDIUM",
                    "baseline": 0.0412, "delta": 0.1725, "days_past_due": 12.0, "model": "5f1c0e2ab94d7733",
                    "status": "past_due", "contracts": 2, "exposure": 5400.0, "amount_overdue": 180.0,
                    "expected_loss": 519.3, "updated_at": "2026-03-14T09:26:54Z",
                }
            ]
        }
    )  # fmt: skip

    score_id: str = Field(description="Topic, partition and offset of the event that caused it.")
    event_id: str
    user_id: str
    occurred_at: dt.datetime = Field(description="Event time of that event.")
    sequence: int = Field(ge=1, description="The user's scored events so far.")
    score: Probability = Field(description="Calibrated probability of default within the headline horizon.")
    horizons: dict[str, Probability] = Field(description="The same for each horizon, by its days.")
    level: Level
    baseline: float = Field(description="Slow average of the user's scores before this one.")
    delta: float = Field(description="`score` minus `baseline`.")
    days_past_due: float | None
    model: str = Field(description="Fingerprint of the model.")
    status: Status | None = Field(description="How the borrower stands over all contracts.")
    contracts: int | None = Field(description="Contracts that are open.")
    exposure: float | None = Field(description="Sum of their balances; null where one is not known.")
    amount_overdue: float | None
    expected_loss: float | None = Field(description="Score × exposure × `loss_given_default`.")
    updated_at: dt.datetime = Field(description="When it reached the database.")


class ReasonBody(BaseModel):
    """One reason: a code of the catalogue, its words, and how much its cause raises the score, in log-odds."""

    code: str
    text: str
    contribution: float


class StandingBody(BaseModel):
    """How one contract stood at an alert."""

    contract_id: str | None
    status: Status
    days_past_due: float | None
    amount_overdue: float | None
    exposure: float | None
    credit_limit: float | None = None
    currency: str | None


class AlertBody(BaseModel):
    """An alert as it stands; open while `cleared_at` is null."""

    alert_id: str
    user_id: str
    kind: AlertKind = Field(description="Its latest transition.")
    level: Level
    highest_level: Level
    opened_at: dt.datetime
    escalated_at: dt.datetime | None
    cleared_at: dt.datetime | None
    occurred_at: dt.datetime
    score: Probability
    baseline: float
    delta: float
    days_past_due: float | None
    reference_pd: float | None
    triggers: list[Trigger]
    reasons: list[ReasonBody] = Field(description="Why it opened or escalated, largest contribution first.")
    status: Status | None
    exposure: float | None
    amount_overdue: float | None
    expected_loss: float | None
    contracts: list[StandingBody] | None
    sequence: int
    policy: str
    model: str


class EventBody(BaseModel):
    """An event as it was taken, with its place."""

    kind: Kind
    event_id: str
    occurred_at: dt.datetime
    source_topic: str
    source_partition: int
    source_offset: int
    event: dict[str, Any] = Field(description="The event as the lender published it.")


class AlertsPage(BaseModel):
    """Alerts of a user, the latest first."""

    alerts: list[AlertBody]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")


class EventsPage(BaseModel):
    """Events of a user, the latest first."""

    events: list[EventBody]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")


class RefusedBody(BaseModel):
    """An event that workers would not score."""

    event_id: str
    reason: RefusalCode
    message: str


class StreamScore(BaseModel):
    """A score with exactly the members of a record of the topic `scores`."""

    score_id: str
    event_id: str
    user_id: str
    occurred_at: dt.datetime
    sequence: int
    score: Probability
    horizons: dict[str, Probability]
    level: Level
    baseline: float
    delta: float
    days_past_due: float | None
    source_topic: str
    source_partition: int
    source_offset: int
    model: str
    status: Status | None
    contracts: int
    exposure: float | None
    amount_overdue: float | None
    expected_loss: float | None


class PredictionBody(BaseModel):
    """What a history comes to.

    `score` and `alert` are byte for byte what workers publish of the same events in the same order; `alert` is the
    last transition, null where no alert ever opened.
    """

    score: StreamScore
    alert: dict[str, Any] | None = Field(description="A record of the topic `alerts`.")
    reasons: list[ReasonBody] = Field(description="What the score comes from, whether or not there is an alert.")
    scored: int = Field(ge=1, description="Events that were scored.")
    not_scored: list[RefusedBody] = Field(description="Events that workers would not score: repeats, other currencies.")


class PredictionsBody(BaseModel):
    """What a posted history comes to, and what it would come to without some of its events."""

    prediction: PredictionBody
    without: PredictionBody | None = Field(
        description="The same without the events of `leave_out`; null where that is empty or leaves nothing."
    )


class OutlookBody(BaseModel):
    """Expected new defaults within a horizon."""

    segment: str = Field(description="`all`, or a level.")
    horizon_days: int
    users: int = Field(description="Borrowers at risk with a recent score.")
    sum_of_scores: float
    expected: float = Field(description="The sum of the scores as corrected by past outlooks.")
    intervals: dict[str, tuple[float, float]] = Field(description="Bounds by confidence in percent.")
    dispersion: float | None


class ForecastBody(BaseModel):
    """Expected new defaults of the portfolio by horizon, in all and by level."""

    at: dt.datetime = Field(description="Event time of the latest score.")
    model: str
    computed_at: dt.datetime
    outlooks: list[OutlookBody]
    past_origins: dict[str, int] = Field(description="By horizon, the past outlooks that have come due.")
    past_ratio: dict[str, float | None] = Field(description="By horizon, observed over expected defaults of those.")
