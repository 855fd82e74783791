"""From bytes to events: valid records become `Taken`, the others dead letters with a refusal code. No I/O, no state.

Checks the rules of `events.types`, the record's key and size, and its date against the clock that the caller passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from events.dates import EARLIEST_DATE, EARLIEST_MS, FUTURE_TOLERANCE_MS, LATEST_DATE, date_outside, time_outside
from events.types import EVENT_TYPES, KINDS, MAX_VALUE_BYTES, Event, Forgetting, Kind, Repayment
from stream.kafka.record import MOST_UNPACKED_BYTES, Record, unread_records
from stream.outputs import DeadLetter, RefusalCode, coordinate, moment_of
from stream.scoring.dead_letters import DeadLetters


class Taken(msgspec.Struct, frozen=True, gc=False):
    """A valid event with the place of its record. A struct is made faster than a dataclass, and each event needs
    one.

    `event` may be a `Forgetting`; `stream.scoring.forgetting` sets those apart."""

    kind: Kind
    kind_no: int
    partition: int
    offset: int
    key: bytes
    occurred_ms: int
    event: Event
    record: Any


class Refused(Exception):
    """A record that cannot be used."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code: RefusalCode = code


class Intake:
    """Decodes the records of one kind's topic; makes dead letters with `letters`."""

    def __init__(self, kind: Kind, letters: DeadLetters | None = None) -> None:
        self._letters = letters or DeadLetters()
        self._kind: Kind = kind
        self._kind_no = KINDS.index(kind)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(EVENT_TYPES[kind]).decode

    def take_all(self, records: Iterable[Record], now_ms: int) -> tuple[list[Taken], list[DeadLetter]]:
        """The events of valid records and the dead letters of the others, each in order. `now_ms` is wall time.

        This loop only separates valid records from others, since it runs for every event; `take` finds the refusal.
        """
        kind, kind_no, decode, latest_ms = self._kind, self._kind_no, self._decode, now_ms + FUTURE_TOLERANCE_MS
        is_repayment = kind == "repayments"
        good: list[Taken] = []
        refused: list[DeadLetter] = []
        for record in records:
            key, value = record.key, record.value
            if key is not None and value is not None and len(value) <= MAX_VALUE_BYTES:
                try:
                    event = decode(value)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                    refusal = refusal_of(error)
                    refused.append(self._letters.of(record, refusal.code, str(refusal)))
                    continue
                else:
                    occurred_ms = round(event.occurred_at.timestamp() * 1000)
                    if (
                        event.user_id.encode() == key
                        and EARLIEST_MS <= occurred_ms <= latest_ms
                        and not (is_repayment and (due := event.due_date) is not None and date_outside(due))
                    ):
                        good.append(
                            Taken(kind, kind_no, record.partition, record.offset, key, occurred_ms, event, record)
                        )
                        continue
            outcome = self.take(record, now_ms)
            if isinstance(outcome, Taken):
                good.append(outcome)
            else:
                refused.append(outcome)
        return good, refused

    def take(self, record: Record, now_ms: int) -> Taken | DeadLetter:
        """The event of a record, or its dead letter. `now_ms` is wall time."""
        try:
            return self._take(record, now_ms)
        except Refused as refusal:
            return self._letters.of(record, refusal.code, str(refusal))

    def _take(self, record: Record, now_ms: int) -> Taken:
        key, value = record.key, record.value
        unread = unread_records(record)
        if unread is not None:
            raise Refused(
                "too_large",
                f"{unread} records up to this offset are in a compressed batch that cannot be unpacked, or not to "
                f"{MOST_UNPACKED_BYTES} bytes; none of them was read",
            )
        if key is None:
            raise Refused("null_key", "the record has no key; the key must be the user_id")
        if value is None and self._kind == "profiles":
            return self._forgetting(record, key, now_ms)
        if value is None:
            raise Refused("null_value", "the record has no value; events are never deleted")
        if len(value) > MAX_VALUE_BYTES:
            raise Refused("too_large", f"the value has {len(value)} bytes, at most {MAX_VALUE_BYTES} are taken")
        try:
            event = self._decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise refusal_of(error) from None
        try:
            user_id = key.decode()
        except UnicodeDecodeError:
            raise Refused("key_not_utf8", "the key is not UTF-8; the key must be the user_id") from None
        if user_id != event.user_id:
            raise Refused("key_mismatch", f"the key is {user_id[:128]!r} but the event's user_id is {event.user_id!r}")
        occurred_ms = round(event.occurred_at.timestamp() * 1000)
        outside = time_outside(occurred_ms, now_ms)
        if outside is not None:
            told = {"before_1970": "before 1970-01-01", "in_the_future": "more than a day ahead"}[outside]
            raise Refused(outside, f"occurred_at is {event.occurred_at.isoformat()}, {told}")
        if isinstance(event, Repayment) and event.due_date is not None and date_outside(event.due_date):
            raise Refused(
                "out_of_range",
                f"due_date is not within {EARLIEST_DATE} and {LATEST_DATE}; leave it out where it is not known - at "
                "`$.due_date`",
            )
        return Taken(self._kind, self._kind_no, record.partition, record.offset, key, occurred_ms, event, record)

    def _forgetting(self, record: Record, key: bytes, now_ms: int) -> Taken:
        """A tombstone. It has no event time, so its place in the merge is the record's time, which is never refused."""
        try:
            user_id = key.decode()
        except UnicodeDecodeError:
            raise Refused("key_not_utf8", "the key is not UTF-8; the key must be the user_id") from None
        occurred_ms = min(max(record.timestamp, 0), now_ms)
        event = Forgetting(
            event_id=coordinate(record.topic, record.partition, record.offset),
            user_id=user_id,
            occurred_at=moment_of(occurred_ms),
        )
        return Taken(self._kind, self._kind_no, record.partition, record.offset, key, occurred_ms, event, record)


def refusal_of(error: Exception) -> Refused:
    """The refusal of a value that could not be decoded, from the decoder's error."""
    message = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return Refused("not_json", message)
    if "missing required field" in message:
        return Refused("missing_field", message)
    if "Invalid enum value" in message:
        return Refused("unknown_kind" if message.endswith("`$.kind`") else "wrong_type", message)
    if message.startswith("Expected") and any(bound in message for bound in ("<=", ">=", "length")):
        return Refused("out_of_range", message)
    if "out of range" in message:
        return Refused("out_of_range", message)
    return Refused("wrong_type", message)
