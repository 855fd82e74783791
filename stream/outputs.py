"""What Foreshock publishes: scores and alerts as types and as JSON, dead letters as bytes with headers.

Every id is a function of its cause: what is computed again after a crash has the same ids, and where the events are
taken in the same order, the same bytes. No I/O here.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import re
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from events.contracts import Status
from events.text import printable

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
    "currency_mismatch",
]
"""Why an input was refused: the `foreshock.reason` of a dead letter. `docs/topics.md` explains each code.

An alert's reasons are something else, see `Reason`."""

Probability: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Sequence: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Partition: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Offset: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Moment: TypeAlias = Annotated[dt.datetime, Meta(tz=True)]

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:foreshock")
_SHA1_OF_NAMESPACE = hashlib.sha1(_NAMESPACE.bytes, usedforsecurity=False)


class Score(msgspec.Struct, frozen=True, gc=False):
    """One scored event.

    `score_id` is `<topic>:<partition>:<offset>` of the event that caused it. `sequence` counts the user's scored events
    from 1, so that a consumer can recognise repeats and gaps. `horizons` maps a horizon in days to the
    calibrated probability of serious delinquency within it; `score` is the headline horizon. `baseline` is the slow
    average of the user's scores before this one and `delta` is `score - baseline`.

    `days_past_due` is that of the worst contract at the event, whatever the event was about, and `status` is how the
    borrower stands: as the worst contract that is not closed. `level` is that of the score, and not below what the
    days-past-due backstop calls for. `contracts` counts those that are open, `exposure` is the sum of their balances,
    `amount_overdue` of what is unpaid past its due date, and `expected_loss` is score × exposure ×
    `loss_given_default`. Amounts are None where one of them is not known.
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
    status: Status | None = None
    contracts: int = 0
    exposure: float | None = None
    amount_overdue: float | None = None
    expected_loss: float | None = None


class ContractStanding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How one contract of a borrower stands at an alert. `contract_id` is None for the unnamed contract.

    `amount_overdue`, `exposure`, the balance, and `credit_limit` are in the contract's `currency`; None where they are
    not known.
    """

    contract_id: str | None
    status: Status
    days_past_due: float | None
    amount_overdue: float | None
    exposure: float | None
    credit_limit: float | None = None
    currency: str | None


class BorrowerContracts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The contracts of a borrower after the event `sequence`, worst first, closed ones last.

    `occurred_at` is the latest event time of the borrower, up to which days past due count, and `source_partition` the
    partition of their events. A contract that is not among them any more is no longer kept: it had to make room for
    another.
    """

    user_id: str
    sequence: Sequence
    occurred_at: Moment
    source_partition: Partition
    contracts: Annotated[list[ContractStanding], Meta(min_length=1)]


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
    status: Status | None = None
    exposure: float | None = None
    amount_overdue: float | None = None
    expected_loss: float | None = None
    contracts: list[ContractStanding] = []


Header: TypeAlias = tuple[str, bytes | None]
"""Name and value of a Kafka record's header."""

HEADER_PREFIX = "foreshock."
LETTER_VERSION = "1"

LETTER_HEADERS: dict[str, str] = {
    "foreshock.version": f"`{LETTER_VERSION}`, the version of these headers",
    "foreshock.id": "UUIDv5 of topic, partition and offset: the same for every copy of a dead letter",
    "foreshock.application.id": "`application_id` of the worker that refused the record",
    "foreshock.reason": "the refusal code",
    "foreshock.message": "what was wrong, in words; of more than 1,000 characters the middle is left out",
    "foreshock.topic": "topic in which the refused record stands",
    "foreshock.partition": "its partition",
    "foreshock.offset": "its offset",
    "foreshock.timestamp": "its timestamp in milliseconds since 1970-01-01 UTC",
    "foreshock.sent-back": "how often it had been [sent back](#sending-them-back) before; only there if it had been",
    "foreshock.key": "`kept`: it is this record's key; `null`: it had none; `left_out`: it was too large",
    "foreshock.value": "`kept`: it is this record's value, also where that is empty; `null`; `left_out`",
    "foreshock.headers": "`kept`: its own headers follow, but for those that begin with `foreshock.`; `left_out`",
    "foreshock.key.bytes": "size of a key that was left out",
    "foreshock.key.sha256": "its SHA-256 (hexadecimal)",
    "foreshock.value.bytes": "size of a value that was left out",
    "foreshock.value.sha256": "its SHA-256",
    "foreshock.headers.bytes": "size of headers that were left out, names (UTF-8) and values together",
    "foreshock.headers.sha256": "SHA-256 of their names and values, one after the other",
}
"""Every header of a dead letter that is not the refused record's own, in order, with its meaning. Values are text."""

SENT_BACK = "sent-back"
SENT_BACK_HEADER = f"{HEADER_PREFIX}{SENT_BACK}"
"""Of an input that was a dead letter and was sent back: for the how manieth time."""

_PARTS = ("key", "value", "headers")
_PART_HEADERS = tuple((part, f"{HEADER_PREFIX}{part}") for part in _PARTS)


class LeftOut(msgspec.Struct, frozen=True, gc=False):
    """A part of a refused record that was too large for its dead letter: size in bytes and SHA-256 (hexadecimal)."""

    size: Annotated[int, Meta(ge=0)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class OutputRecord(Protocol):
    """What is read of a record of an output topic; the records of aiokafka and kafka-python both have it."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Collection[Header]: ...


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record that was refused, as it came, with its place (topic, partition, offset) and the refusal.

    Published with the refused record's key and value as its own, and the rest in headers (`LETTER_HEADERS`), before
    the refused record's own. `key`, `value` and `headers` are null or empty where the record had none, and where one
    was too large: then `left_out` has an entry under its name, and the record itself is still at its place. `sent_back`
    counts how often the record had been a dead letter before and was sent back.
    """

    dead_letter_id: str
    reason: RefusalCode
    message: str
    topic: str
    partition: Partition
    offset: Offset
    timestamp_ms: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    application_id: str = ""
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[Header, ...] = ()
    left_out: dict[str, LeftOut] = {}
    sent_back: Annotated[int, Meta(ge=0)] = 0

    def record_headers(self) -> list[Header]:
        """The headers of the record in which this is published."""
        left_out = self.left_out
        ours: list[Header] = [
            ("foreshock.version", LETTER_VERSION.encode()),
            ("foreshock.id", self.dead_letter_id.encode()),
            ("foreshock.application.id", self.application_id.encode()),
            ("foreshock.reason", self.reason.encode()),
            # A message may repeat a lone surrogate of what was refused, which UTF-8 does not have.
            ("foreshock.message", self.message.encode(errors="backslashreplace")),
            ("foreshock.topic", self.topic.encode()),
            ("foreshock.partition", b"%d" % self.partition),
            ("foreshock.offset", b"%d" % self.offset),
            ("foreshock.timestamp", b"%d" % self.timestamp_ms),
        ]
        if self.sent_back:
            ours.append((SENT_BACK_HEADER, b"%d" % self.sent_back))
        ours += [(header, self._is(part).encode()) for part, header in _PART_HEADERS]
        for part, header in _PART_HEADERS if left_out else ():
            if part in left_out:
                ours.append((f"{header}.bytes", b"%d" % left_out[part].size))
                ours.append((f"{header}.sha256", left_out[part].sha256.encode()))
        return [*ours, *self.headers]

    def _is(self, part: str) -> str:
        if part in self.left_out:
            return "left_out"
        return "null" if getattr(self, part) is None else "kept"

    @classmethod
    def from_record(cls, record: OutputRecord) -> DeadLetter:
        """The dead letter of a record that has one's headers, or of one that release 0.1 wrote, which has none.

        Raises `ForeignRecord`.
        """
        ours = dict[str, bytes | None]()
        for name, content in record.headers or ():
            if name.startswith(HEADER_PREFIX):
                if name in ours:
                    raise ForeignRecord(f"two headers {name}")
                ours[name] = content
        if not ours:
            return _letter_of_release_0_1(record.value)
        named = _Texts(ours)
        if (version := named.take("version")) != LETTER_VERSION:
            raise ForeignRecord(f"foreshock.version is {version!r}; this release reads {LETTER_VERSION}")
        letter: dict[str, Any] = {
            "dead_letter_id": named.take("id"),
            "application_id": named.take("application.id"),
            **{name: named.take(name) for name in ("reason", "message", "topic")},
            **{name: named.number(name) for name in ("partition", "offset")},
            "timestamp_ms": named.number("timestamp"),
            "key": record.key,
            "value": record.value,
            "headers": own_headers(record.headers),
            "sent_back": named.count(SENT_BACK) if SENT_BACK_HEADER in ours else 0,
        }
        said = {part: named.take(part) for part in _PARTS}
        letter["left_out"] = {
            part: {"size": named.number(f"{part}.bytes"), "sha256": named.take(f"{part}.sha256")}
            for part in _PARTS
            if said[part] == "left_out"
        }
        named.nothing_is_left()
        try:
            found = msgspec.convert(letter, cls)
        except msgspec.ValidationError as error:
            raise ForeignRecord(str(error)) from None
        for part in _PARTS:
            if found._is(part) != said[part] or (said[part] == "left_out" and letter[part]):
                raise ForeignRecord(f"foreshock.{part} is {said[part]!r}, which the record is not")
        return found


class _Texts:
    """The texts of our headers, taken out one by one. All raise `ForeignRecord`."""

    def __init__(self, headers: dict[str, bytes | None]) -> None:
        self._left = headers

    def take(self, name: str) -> str:
        content = self._left.pop(f"{HEADER_PREFIX}{name}", None)
        if content is None:
            raise ForeignRecord(f"no header {HEADER_PREFIX}{name}")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise ForeignRecord(f"{HEADER_PREFIX}{name} is not UTF-8") from None

    def number(self, name: str) -> int:
        text = self.take(name)
        if len(text) < 30 and text.isascii() and text.removeprefix("-").isdigit() and str(int(text)) == text:
            return int(text)
        raise ForeignRecord(f"{HEADER_PREFIX}{name} is {text!r}, no number")

    def count(self, name: str) -> int:
        number = self.number(name)
        if number < 1:
            raise ForeignRecord(f"{HEADER_PREFIX}{name} is {number}, no count")
        return number

    def nothing_is_left(self) -> None:
        for name in self._left:
            raise ForeignRecord(f"a header {name!r}, which this release does not know")


def own_headers(headers: Collection[Header] | None) -> tuple[Header, ...]:
    """A refused record's headers without those that a dead letter has itself: it may be one that was sent back."""
    return (
        ()
        if not headers
        else tuple((name, content) for name, content in headers or () if not name.startswith(HEADER_PREFIX))
    )


def times_sent_back(headers: Collection[Header] | None) -> int:
    """How often an input had been a dead letter and was sent back; 0 where its header, anybody's, is no number."""
    if not headers:
        return 0
    content = dict(headers).get(SENT_BACK_HEADER) or b""
    return int(content) if content.isdigit() and len(content) < 10 else 0


class _JsonLetter(msgspec.Struct):
    """What release 0.1 wrote as a dead letter's value: the refused bytes in base64."""

    dead_letter_id: str
    reason: RefusalCode
    message: str
    topic: str
    partition: Partition
    offset: Offset
    timestamp_ms: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    key_base64: str | None
    value_base64: str | None


def _letter_of_release_0_1(value: bytes | None) -> DeadLetter:
    try:
        letter = OutputDecoder(_JsonLetter)(value)
        key, original = (
            None if text is None else base64.b64decode(text, validate=True)
            for text in (letter.key_base64, letter.value_base64)
        )
    except (ForeignRecord, binascii.Error, ValueError) as error:
        raise ForeignRecord(f"no header {HEADER_PREFIX}version, and no dead letter of release 0.1: {error}") from None
    return DeadLetter(
        dead_letter_id=letter.dead_letter_id,
        reason=letter.reason,
        message=letter.message,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        timestamp_ms=letter.timestamp_ms,
        key=key,
        value=original,
    )


OUTPUT_TYPES: dict[str, type[msgspec.Struct]] = {"scores": Score, "alerts": Alert, "contracts": BorrowerContracts}
"""What the values of output topics are in JSON. Those of `scores.latest` are those of `scores`, those of `dead-letters`
the bytes that were refused."""

Output: TypeAlias = Score | Alert | BorrowerContracts | DeadLetter
"""What is read of an output topic."""

Decoded = TypeVar("Decoded")


_NAMED_VALUE = re.compile(r"^(Invalid(?: enum)? value) .*?(?= - at `|$)", re.DOTALL)
"""How msgspec's message begins where it repeats a value."""


class ForeignRecord(ValueError):
    """A record of an output topic that Foreshock cannot have written; the message says why, can be printed, and repeats
    no value."""

    def __init__(self, why: str) -> None:
        super().__init__(printable(shortened(why, 200)))


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
        except UnicodeDecodeError as error:
            raise ForeignRecord(f"not UTF-8 (at byte {error.start})") from None
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ForeignRecord(_NAMED_VALUE.sub(r"\1", str(error))) from None


def shortened(text: str, longest: int, end: int = 0) -> str:
    """`text`, of which characters before the last `end` are left out so that about `longest` remain."""
    if len(text) <= longest:
        return text
    return f"{text[: longest - end]} […]" + (f" {text[-end:]}" if end else "")


_ENCODER = msgspec.json.Encoder()


def encode_output(output: Score | Alert | BorrowerContracts) -> bytes:
    """JSON bytes as published; equal objects give equal bytes."""
    return _ENCODER.encode(output)


def coordinate(topic: str, partition: int, offset: int) -> str:
    """The id of a record by its place: `<topic>:<partition>:<offset>`."""
    return f"{topic}:{partition}:{offset}"


SOURCE_HEADER = "foreshock.source"
"""Header of a tombstone in `scores` and `alerts`: the place of the record that asked to forget the user, as
`coordinate` writes it."""


def forgotten_by(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """The place of the input behind a record of `scores` or `alerts` that tells of a forgotten user, else None."""
    if value is not None:
        return None
    found = dict(headers or ()).get(SOURCE_HEADER)
    return None if found is None else found.decode(errors="replace")


def caused_id(noun: str, *cause: str) -> str:
    """UUIDv5 of a cause, e.g. `caused_id("alert", user_id, coordinate)`."""
    sha1 = _SHA1_OF_NAMESPACE.copy()  # by hand, since each dead letter has one, and `uuid` takes four times as long
    sha1.update("\x1f".join((noun, *cause)).encode())
    digest = bytearray(sha1.digest())
    digest[6], digest[8] = digest[6] & 0x0F | 0x50, digest[8] & 0x3F | 0x80  # version and variant, by RFC 9562
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"


EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Explanation:
    """Why one alert was raised."""

    reasons: list[Reason]
    weighed_most: list[WeighedEvent]


def moment_of(ms: int) -> dt.datetime:
    """UTC time of milliseconds since 1970-01-01."""
    return EPOCH + dt.timedelta(milliseconds=ms)
