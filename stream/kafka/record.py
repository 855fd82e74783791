"""A Kafka record, independent of the client library that read it. Knows nothing of what its bytes mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import msgspec

Header: TypeAlias = tuple[str, bytes | None]
"""Name and value of a header."""


class Record(Protocol):
    """What this project reads of a record; the records of aiokafka and kafka-python both have it."""

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

    @property
    def headers(self) -> Sequence[Header]: ...


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """A record with these fields only. A msgspec struct, because the worker's consumer creates one for every event."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()


MOST_UNPACKED_BYTES = 128 * 1024 * 1024
"""Of one compressed batch. Producers fill batches of kilobytes, and a topic takes them up to megabytes, compressed."""

TOO_LARGE_HEADER = "foreshock.batch-too-large"
"""Of a record that stands for those of a batch that was not unpacked (`stream.kafka.unpacking`), whose number is its
content. Whoever sends it has a record of their own refused."""


COUNT_DIGITS = 10
"""Most of a number of records in a batch, which is one of 32 bits. Python reads no number of some thousand digits."""


def unread_records(record: Record) -> int | None:
    """For how many records that were not unpacked a record stands, None for an ordinary one."""
    if record.key is not None or record.value is not None:
        return None
    found = dict(record.headers or ()).get(TOO_LARGE_HEADER)
    return int(found) if found is not None and found.isdigit() and len(found) <= COUNT_DIGITS else None
