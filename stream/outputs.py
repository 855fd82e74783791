"""What Foreshock publishes: scores, alerts and dead letters, as types and as JSON.

Every id is a function of its cause: what is computed again after a crash has the same ids, and where the events are
taken in the same order, the same bytes. No I/O here.
"""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

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

Probability: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Sequence: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Partition: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Offset: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Moment: TypeAlias = Annotated[dt.datetime, Meta(tz=True)]

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
    occurred_at: Moment
    sequence: Sequence
    score: Probability
    horizons: dict[str, float]
    level: Level
    baseline: float
    delta: float
    days_past_due: float | None
    source_topic: str
    source_partition: Partition
    source_offset: Offset
    model: str


class Reason(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One reason of an alert. `contribution`: how much higher its cause makes the score, in log-odds."""

    code: str
    text: str
    contribution: float


class WeighedEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A recent event and its share (0–1) of the model's attention among the user's recent events of its kind."""

    topic: str
    partition: Partition
    offset: Offset
    occurred_at: Moment
    weight: float


class Alert(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One change of a user's alert: opened, escalated or cleared.

    `alert_id` stays the same from opening to clearing; `transition_id` is this record's own.
    """

    transition_id: str
    alert_id: str
    user_id: str
    kind: AlertKind
    occurred_at: Moment
    opened_at: Moment
    level_from: Level
    level_to: Level
    score: Probability
    baseline: float
    delta: float
    reference_pd: float | None
    days_past_due: float | None
    triggers: list[Trigger]
    reasons: list[Reason]
    weighed_most: list[WeighedEvent]
    sequence: Sequence
    source_topic: str
    source_partition: Partition
    source_offset: Offset
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
    partition: Partition
    offset: Offset
    timestamp_ms: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    key_base64: str | None
    value_base64: str | None
    key_bytes: int | None = None
    key_sha256: str | None = None
    value_bytes: int | None = None
    value_sha256: str | None = None


OUTPUT_TYPES: dict[str, type[msgspec.Struct]] = {"scores": Score, "alerts": Alert, "dead-letters": DeadLetter}

Decoded = TypeVar("Decoded")


class ForeignRecord(ValueError):
    """A record of an output topic that Foreshock cannot have written; the message says why."""


class OutputDecoder(Generic[Decoded]):
    """Decodes the values of an output topic. Others may have written there, so any bytes, and none, get an answer."""

    def __init__(self, kind: type[Decoded]) -> None:
        self._decode = msgspec.json.Decoder(kind).decode

    def __call__(self, value: bytes | None) -> Decoded:
        """Raises `ForeignRecord`."""
        if value is None:
            raise ForeignRecord("a record without a value (tombstone)")
        try:
            return self._decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ForeignRecord(shortened(str(error), 200)) from None


def shortened(text: str, longest: int, end: int = 0) -> str:
    """`text`, of which characters before the last `end` are left out so that about `longest` remain."""
    if len(text) <= longest:
        return text
    return f"{text[: longest - end]} […]" + (f" {text[-end:]}" if end else "")


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
