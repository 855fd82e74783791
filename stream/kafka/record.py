"""A record as the worker holds it, whichever client library read it. Knows nothing of what its bytes mean."""

from __future__ import annotations

from typing import Protocol

import msgspec


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
