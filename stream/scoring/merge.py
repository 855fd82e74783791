"""Merges the four topics of a partition in order of event time. Pure: the caller reads the topics and says which of
them the broker holds more of.

Events of one topic keep their order. Across topics the earliest next event goes first, as in a Kafka Streams task; at
equal times profiles go before repayments, transactions and activity, so that a contract's facts precede its first
movement. While the broker holds unread events of a topic and none of it are waiting here, all topics wait. The order is
therefore a function of the topics' contents alone, whatever the sizes of the reads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from events.types import KINDS, Kind
from stream.scoring.intake import Taken

_RANK: dict[Kind, int] = {"profiles": 0, "repayments": 1, "transactions": 2, "activity": 3}
_RANK_OF_KIND_NO = np.array([_RANK[kind] for kind in KINDS])

Place = Callable[[Taken], int]


class PartitionMerge:
    """Merges the co-partitioned topics of one partition by `place`, the event time in ms."""

    def __init__(self, place: Place = attrgetter("occurred_ms")) -> None:
        self._place = place
        self._waiting: list[list[Taken]] = [[] for _ in KINDS]

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._waiting)

    def waiting(self, kind_no: int) -> int:
        """How many events of a kind are held."""
        return len(self._waiting[kind_no])

    def first_offset(self, kind_no: int) -> int | None:
        """Offset of the first event of a kind that is held, or None."""
        queue = self._waiting[kind_no]
        return queue[0].offset if queue else None

    def push(self, kind_no: int, taken: Iterable[Taken]) -> None:
        """Add events of one kind in the order of their offsets."""
        self._waiting[kind_no].extend(taken)

    def release(self, lagging: Collection[int] = ()) -> list[Taken]:
        """The events whose place in the order is certain, in order; they are no longer held.

        `lagging` are the kinds (positions in `KINDS`) of which the broker holds more than has been pushed: as soon as
        no event of one of them is held, the rest waits.
        """
        waiting = self._waiting
        if any(not waiting[kind_no] for kind_no in lagging):
            return []
        filled = [queue for queue in waiting if queue]
        if len(filled) < 2:
            self._waiting = [[] for _ in KINDS]
            return filled[0] if filled else []
        held = [item for queue in filled for item in queue]
        kind_no = np.repeat(np.arange(len(KINDS)), [len(queue) for queue in waiting])
        # An event that follows a later one in its topic goes right after that one: its place is the largest so far.
        turn = np.concatenate([np.maximum.accumulate(self._places(queue)) for queue in filled])
        order = np.lexsort((_RANK_OF_KIND_NO[kind_no], turn))
        ends = [int(np.flatnonzero(kind_no[order] == lags)[-1]) + 1 for lags in lagging]
        going = order[: min(ends, default=len(order))]
        gone = np.bincount(kind_no[going], minlength=len(KINDS))
        self._waiting = [queue[count:] for queue, count in zip(waiting, gone.tolist(), strict=True)]
        return [held[position] for position in going.tolist()]

    def _places(self, queue: list[Taken]) -> NDArray[np.int64]:
        return np.fromiter(map(self._place, queue), dtype=np.int64, count=len(queue))
