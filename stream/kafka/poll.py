"""A poll: all records of one read from the broker, passed through Faust as one message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from faust import Schema
from faust.types import TP, Message

from stream.kafka.record import Record


@dataclass(frozen=True)
class Fetched:
    """Consecutive records of one partition: all that a reader of committed records sees from `start` up to `end`.

    Between them may stand offsets without a record (of aborted transactions, or taken away by compaction), also at
    either end, and where there is no record at all. `start` is -1 where it is not known.
    """

    records: Sequence[Record]
    start: int
    end: int


@dataclass(frozen=True)
class Poll:
    """The records of one poll by topic and partition.

    `ends` are the next offsets to read where `records` alone do not tell (see `Fetched`). `lagging` are the assigned
    partitions of which the broker is known, or not yet known not, to hold more, and `waiting` is how many records it is
    known to hold. `epoch` is how often partitions had been given up when the poll began (`Consumer.epoch`).
    """

    records: Mapping[TP, Sequence[Record]] = field(default_factory=dict)
    lagging: frozenset[TP] = frozenset()
    epoch: int = 0
    ends: Mapping[TP, int] = field(default_factory=dict)
    waiting: int = 0

    def reached(self) -> dict[TP, int]:
        """The next offset to read of each partition that the poll is about."""
        return {tp: batch[-1].offset + 1 for tp, batch in self.records.items() if batch} | dict(self.ends)


class PollSchema(Schema[Any, Any]):
    """Passes a message's key and value on unchanged: the value is a `Poll`, or a `Block` of a changelog."""

    def loads_key(self, app: Any, message: Message, **_: Any) -> Any:  # noqa: ARG002
        return message.key

    def loads_value(self, app: Any, message: Message, **_: Any) -> Any:  # noqa: ARG002
        return message.value
