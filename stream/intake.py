"""From bytes to events: what is valid goes on, what is not becomes a dead letter with a reason. No I/O, no state.

The rules are those of `events.types` plus what only a record can show: its key, its size, and how its date compares
with the clock that the caller passes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import msgspec

from events.columns import DAY_MS
from events.types import EVENT_TYPES, KINDS, Event, Kind
from stream.batch import Queue
from stream.outputs import DeadLetter, ReasonCode, caused_id, coordinate

MAX_VALUE_BYTES = 65_536
"""A larger record is refused unread: no event of ours comes near it."""

FUTURE_TOLERANCE_MS = DAY_MS
"""How far ahead of the clock an event may be dated."""


class Record(Protocol):
    """A record as the client libraries hand it out; aiokafka's and kafka-python's both fit."""

    @property
    def topic(self) -> str: ...

    @property
    def partition(self) -> int: ...

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970-01-01."""
        ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """A record with what is read of it and no more. A struct: the worker's consumer makes one for every event."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class Refusal(NamedTuple):
    """Why a record cannot be used."""

    reason: ReasonCode
    message: str


def dead_letter(record: Record, reason: ReasonCode, message: str) -> DeadLetter:
    """The dead letter of a record; the same record gives the same bytes."""
    return DeadLetter(
        dead_letter_id=caused_id("dead-letter", coordinate(record.topic, record.partition, record.offset)),
        reason=reason,
        message=message,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key_base64=None if record.key is None else base64.b64encode(record.key).decode(),
        value_base64=None if record.value is None else base64.b64encode(record.value).decode(),
    )


class Intake:
    """Decodes the records of one kind's topic."""

    def __init__(self, kind: Kind) -> None:
        self._kind_no = KINDS.index(kind)
        self._decode: Callable[[bytes], Event] = msgspec.json.Decoder(EVENT_TYPES[kind]).decode

    def take(self, partition: int, records: Iterable[Record], now_ms: int) -> tuple[Queue, list[DeadLetter]]:
        """The events of a partition's records, and the dead letters of those that have none, each in order.

        `now_ms` is wall time. The loop that every event goes through, so it only tells good from bad; `_refusal` says
        what is bad.
        """
        decode, latest_ms = self._decode, now_ms + FUTURE_TOLERANCE_MS
        events, occurred_ms, kept, refused = list[Event](), list[int](), list[Record](), list[DeadLetter]()
        for record in records:
            key, value = record.key, record.value
            if key is not None and value is not None and len(value) <= MAX_VALUE_BYTES:
                try:
                    event = decode(value)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    pass
                else:
                    at_ms = round(event.occurred_at.timestamp() * 1000)
                    if event.user_id.encode() == key and 0 <= at_ms <= latest_ms:
                        events.append(event)
                        occurred_ms.append(at_ms)
                        kept.append(record)
                        continue
            refused.append(dead_letter(record, *self._refusal(record)))
        return Queue(self._kind_no, partition, events, occurred_ms, kept), refused

    def _refusal(self, record: Record) -> Refusal:
        """Why a record that is not taken cannot be used."""
        key, value = record.key, record.value
        if key is None:
            return Refusal("null_key", "the record has no key; the key must be the user_id")
        if value is None:
            return Refusal("null_value", "the record has no value; events are never deleted")
        if len(value) > MAX_VALUE_BYTES:
            return Refusal("too_large", f"the value has {len(value)} bytes, at most {MAX_VALUE_BYTES} are taken")
        try:
            event = self._decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return refusal_of(error)
        try:
            user_id = key.decode()
        except UnicodeDecodeError:
            return Refusal("key_not_utf8", "the key is not UTF-8; the key must be the user_id")
        if user_id != event.user_id:
            return Refusal("key_mismatch", f"the key is {user_id[:128]!r} but the event's user_id is {event.user_id!r}")
        if event.occurred_at.timestamp() < 0:
            return Refusal("before_1970", f"occurred_at is {event.occurred_at.isoformat()}, before 1970-01-01")
        return Refusal("in_the_future", f"occurred_at is {event.occurred_at.isoformat()}, more than a day ahead")


def refusal_of(error: Exception) -> Refusal:
    """Why a value could not be decoded, by the decoder's own complaint."""
    message = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return Refusal("not_json", message)
    if "missing required field" in message:
        return Refusal("missing_field", message)
    if "Invalid enum value" in message:
        return Refusal("unknown_kind" if message.endswith("`$.kind`") else "wrong_type", message)
    if message.startswith("Expected") and any(bound in message for bound in ("<=", ">=", "length")):
        return Refusal("out_of_range", message)
    if "out of range" in message:
        return Refusal("out_of_range", message)
    return Refusal("wrong_type", message)
