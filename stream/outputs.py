"""What Foreshock publishes: scores, alerts and dead letters, as types and as JSON.

Every id is a function of its cause, so that a record published again after a crash carries the same id and the same
bytes. No I/O here.
"""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["LOW", "MEDIUM", "HIGH"]
LEVELS: tuple[Level, ...] = ("LOW", "MEDIUM", "HIGH")

AlertKind: TypeAlias = Literal["opened", "escalated", "cleared"]
ALERT_KINDS: tuple[AlertKind, ...] = ("opened", "escalated", "cleared")

Trigger: TypeAlias = Literal["level", "deterioration", "days_past_due"]
"""Why an alert opened or escalated: a level's threshold, a rise over the user's baseline, or the days-past-due
backstop."""

RefusalCode: TypeAlias = Literal[
    "not_json",
    "wrong_type",
    "missing_field",
    "out_of_range",
    "unknown_kind",
    "too_large",
    "null_key",
    "key_not_utf8",
    "key_mismatch",
    "null_value",
    "before_1970",
    "in_the_future",
    "duplicate_event_id",
]
"""Why an input was refused: the field `reason` of a dead letter. `docs/topics.md` explains each code.

An alert's reasons are something else, see `Reason`."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:foreshock")


class Score(msgspec.Struct, frozen=True, gc=False):
    """One scored event.

    `score_id` is `<topic>:<partition>:<offset>` of the event that caused it. `sequence` counts the user's scored events
    from 1, so that a consumer can recognise repeats and gaps. `horizons` maps a horizon in days to the
    calibrated probability of serious delinquency within it; `score` is the headline horizon. `baseline` is the slow
    average of the user's scores before this one and `delta` is `score - baseline`.
    """

    score_id: str
    event_id: str
    user_id: str
    occurred_at: dt.datetime
    sequence: int
    score: float
    horizons: dict[str, float]
    level: Level
    baseline: float
    delta: float
    days_past_due: float | None
    source_topic: str
    source_partition: int
    source_offset: int
    model: str


class Reason(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One reason of an alert. `contribution`: how much higher its cause makes the score, in log-odds."""

    code: str
    text: str
    contribution: float


class WeighedEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A recent event and its share (0–1) of the model's attention among the user's recent events of its kind."""

    topic: str
    partition: int
    offset: int
    occurred_at: dt.datetime
    weight: float


class Alert(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One change of a user's alert: opened, escalated or cleared.

    `alert_id` stays the same from opening to clearing; `transition_id` is this record's own.
    """

    transition_id: str
    alert_id: str
    user_id: str
    kind: AlertKind
    occurred_at: dt.datetime
    opened_at: dt.datetime
    level_from: Level
    level_to: Level
    score: float
    baseline: float
    delta: float
    reference_pd: float | None
    days_past_due: float | None
    triggers: list[Trigger]
    reasons: list[Reason]
    weighed_most: list[WeighedEvent]
    sequence: int
    source_topic: str
    source_partition: int
    source_offset: int
    policy: str
    model: str


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A record that was refused: its bytes (base64), its place (topic, partition, offset) and the refusal.

    A value or key that is too large for the topic is null, and its size in bytes and SHA-256 (hexadecimal) stand in the
    last fields, which every other dead letter lacks; the record itself is still at its place.
    """

    dead_letter_id: str
    reason: RefusalCode
    message: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key_base64: str | None
    value_base64: str | None
    key_bytes: int | None = None
    key_sha256: str | None = None
    value_bytes: int | None = None
    value_sha256: str | None = None


OUTPUT_TYPES: dict[str, type[msgspec.Struct]] = {"scores": Score, "alerts": Alert, "dead-letters": DeadLetter}

_ENCODER = msgspec.json.Encoder()


def encode_output(output: Score | Alert | DeadLetter) -> bytes:
    """JSON bytes as published; equal objects give equal bytes."""
    return _ENCODER.encode(output)


def coordinate(topic: str, partition: int, offset: int) -> str:
    """The id of a record by its place: `<topic>:<partition>:<offset>`."""
    return f"{topic}:{partition}:{offset}"


def caused_id(noun: str, *cause: str) -> str:
    """UUIDv5 of a cause, e.g. `caused_id("alert", user_id, coordinate)`."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join((noun, *cause))))


EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Explanation:
    """Why one alert was raised."""

    reasons: list[Reason]
    weighed_most: list[WeighedEvent]


def moment_of(ms: int) -> dt.datetime:
    """UTC time of milliseconds since 1970-01-01."""
    return EPOCH + dt.timedelta(milliseconds=ms)
