"""Valid events on their way from the intake to the scorer: a list for each thing that is known of them, then a column.

Nothing is made for each event but the event itself. Pure: holds and reorders, knows no rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.types import Event

Objects = NDArray[np.object_]


@dataclass(slots=True)
class Queue:
    """Events of one kind on one partition in the order of their offsets: lists of equal length, one item per event.

    `occurred_ms` is event time in milliseconds since 1970-01-01; `records` are what the events were read from (see
    `stream.intake.Record`), all with a key.
    """

    kind_no: int
    partition: int
    events: list[Event] = field(default_factory=list)
    occurred_ms: list[int] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.events)

    def extend(self, other: Queue) -> None:
        """Put all of another queue of the same kind and partition at the end."""
        for mine, theirs in zip(self._lists(), other._lists(), strict=True):
            mine += theirs

    def keep(self, wanted: Sequence[bool]) -> None:
        """Take all other events out."""
        for values in self._lists():
            values[:] = compress(values, wanted)

    def drop(self, count: int) -> None:
        """Take the first `count` events out."""
        for values in self._lists():
            del values[:count]

    def _lists(self) -> tuple[list[Any], ...]:
        return self.events, self.occurred_ms, self.records


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in the order in which they are to be applied, as columns `[n]`.

    `events`, `records` and `keys` are of objects; `kind_no`, `offset` and `occurred_ms` int64, `partition` int32.
    """

    events: Objects
    records: Objects
    keys: Objects
    kind_no: NDArray[np.int64]
    partition: NDArray[np.int32]
    offset: NDArray[np.int64]
    occurred_ms: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offset)

    @classmethod
    def of(cls, queues: Sequence[Queue]) -> Batch:
        """All events of queues, one queue after another."""
        counts = [len(queue) for queue in queues]
        size = sum(counts)
        records = list(chain.from_iterable(queue.records for queue in queues))
        return cls(
            np.fromiter(chain.from_iterable(queue.events for queue in queues), dtype=np.object_, count=size),
            np.fromiter(records, dtype=np.object_, count=size),
            np.fromiter([record.key for record in records], dtype=np.object_, count=size),
            np.array([queue.kind_no for queue in queues], dtype=np.int64).repeat(counts),
            np.array([queue.partition for queue in queues], dtype=np.int32).repeat(counts),
            np.array([record.offset for record in records], dtype=np.int64),
            np.fromiter(chain.from_iterable(queue.occurred_ms for queue in queues), dtype=np.int64, count=size),
        )

    @classmethod
    def joined(cls, parts: Sequence[Batch]) -> Batch:
        """Batches one after another."""
        if len(parts) < 2:
            return parts[0] if parts else NO_EVENTS
        return cls(*(np.concatenate(columns) for columns in zip(*map(cls._columns, parts), strict=True)))

    def at(self, positions: NDArray[np.int64] | slice) -> Batch:
        """The events at `positions`, in that order. Of a slice the columns are views."""
        return Batch(*(column[positions] for column in self._columns()))

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.events, self.records, self.keys, self.kind_no, self.partition, self.offset, self.occurred_ms


NO_EVENTS = Batch.of(())
