"""A poll: all records that one read of the broker brought, as one message through Faust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from faust import Schema
from faust.types import TP, Message

from stream.kafka.record import Record


@dataclass(frozen=True)
class Poll:
    """What one poll brought, by topic and partition.

    `lagging` are the assigned partitions of which the broker is known, or not yet known not, to hold more. `epoch` is
    how often partitions had been given up when the poll began (`Consumer.epoch`).
    """

    records: Mapping[TP, Sequence[Record]] = field(default_factory=dict)
    lagging: frozenset[TP] = frozenset()
    epoch: int = 0


class PollSchema(Schema[Any, Any]):
    """Hands a message's key and value on as they are: the value is a `Poll`, or a `Block` of a changelog."""

    def loads_key(self, app: Any, message: Message, **_: Any) -> Any:  # noqa: ARG002
        return message.key

    def loads_value(self, app: Any, message: Message, **_: Any) -> Any:  # noqa: ARG002
        return message.value
