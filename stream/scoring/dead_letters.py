"""Makes dead letters of refused records. No I/O, no state."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence

from stream.kafka.record import Header, Record
from stream.outputs import (
    DeadLetter,
    LeftOut,
    RefusalCode,
    caused_id,
    coordinate,
    own_headers,
    shortened,
    times_sent_back,
)
from stream.topics import DEAD_LETTER_MAX_BYTES

LETTER_ROOM_BYTES = 16_384
"""Of a dead letter's record, what is set aside for everything but the refused record's key, value and headers."""

HEADER_BYTES = 10
"""What a record spends on a header beside its name and value, at most: their lengths."""

LONGEST_MESSAGE, MESSAGE_END = 1_000, 150
"""Characters of a dead letter's message; of a longer one the middle is left out, since the end says which field."""


class DeadLetters:
    """Makes the dead letters of an application, each to fit into a record of `max_bytes` (at least
    `LETTER_ROOM_BYTES`)."""

    def __init__(self, application_id: str = "", max_bytes: int = DEAD_LETTER_MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._application_id = application_id

    def of(self, record: Record, refusal: RefusalCode, message: str) -> DeadLetter:
        """The dead letter of a record; the same record and `max_bytes` give the same one.

        Of key, value and headers, the largest are left out until the rest fits.
        """
        headers = own_headers(record.headers)
        kept, left_out = self._fitting(record, headers)
        return DeadLetter(
            dead_letter_id=caused_id("dead-letter", coordinate(record.topic, record.partition, record.offset)),
            reason=refusal,
            message=_message(message, left_out),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
            application_id=self._application_id,
            key=record.key if "key" in kept else None,
            value=record.value if "value" in kept else None,
            headers=headers if "headers" in kept else (),
            left_out=left_out,
            sent_back=times_sent_back(record.headers),
        )

    def _fitting(self, record: Record, headers: Sequence[Header]) -> tuple[Collection[str], dict[str, LeftOut]]:
        """Which of key, value and headers the dead letter keeps, and what is left out of it."""
        key, value = record.key, record.value
        sizes = {"key": len(key or b""), "value": len(value or b""), "headers": 0}
        if headers:
            sizes["headers"] = sum(map(len, _parts(headers))) + HEADER_BYTES * len(headers)
        room = max(self.max_bytes - LETTER_ROOM_BYTES, 0)
        left_out: dict[str, LeftOut] = {}
        while sum(sizes.values()) > room:
            largest = max(sizes, key=lambda name: sizes[name])
            del sizes[largest]
            left_out[largest] = _left_out(_parts(headers) if largest == "headers" else [getattr(record, largest)])
        return sizes, left_out


def _parts(headers: Iterable[Header]) -> list[bytes]:
    return [part for name, content in headers for part in (name.encode(), content or b"")]


def _left_out(parts: Iterable[bytes]) -> LeftOut:
    size, sha256 = 0, hashlib.sha256()
    for part in parts:
        size += len(part)
        sha256.update(part)
    return LeftOut(size, sha256.hexdigest())


def _message(message: str, left_out: dict[str, LeftOut]) -> str:
    message = shortened(message, LONGEST_MESSAGE, MESSAGE_END)
    if left_out:
        hashes = " and ".join(
            f"the {name} of {left_out[name].size} bytes, SHA-256 {left_out[name].sha256}" for name in sorted(left_out)
        )
        message += f"; left out here: {hashes}"
    return message
