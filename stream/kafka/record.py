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
