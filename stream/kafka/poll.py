"""A poll: all records of one read from the broker, passed through Faust as one message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from faust import Schema
from faust.types import TP, Message

from stream.kafka.record import Record


@dataclass(frozen=True)
class Poll:
    """The records of one poll by topic and partition.

    `lagging` are the assigned partitions that have more records on the broker, or for which this is not known yet.
    `epoch` is the number of times that partitions had been revoked when the poll began (`Consumer.epoch`).
    """

    records: Mapping[TP, Sequence[Record]] = field(default_factory=dict)
    lagging: frozenset[TP] = frozenset()
    epoch: int = 0


class PollSchema(Schema[Any, Any]):
    """Passes a message's key and value on unchanged: the value is a `Poll`, or a `Block` of a changelog."""

    def loads_key(self, app: Any, message: Message, **_: Any) -> Any:  # noqa: ARG002
        return message.key

    def loads_value(self, app: Any, message: Message, **_: Any) -> Any:  # noqa: ARG002
        return message.value
