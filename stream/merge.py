"""Event-time order across topics: what a backlog would have looked like, had each event been read when it happened.

Pure: it holds events and hands them out; reading, and knowing which topic lags behind the broker, is the caller's.

Within a topic arrival order rules. Across the topics of a partition the one whose next event is the earliest goes first
(as in Kafka Streams' tasks); at equal times profiles go before repayments, transactions and activity, so that a
contract's facts precede its first movement. As long as the broker holds more of a topic, nothing goes past what has
been read of it. So the order is a function of the topics' contents alone, whatever the sizes of the reads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from events.types import KINDS, Kind
from stream.batch import NO_EVENTS, Batch, Queue

_RANK: dict[Kind, int] = {"profiles": 0, "repayments": 1, "transactions": 2, "activity": 3}
_RANK_OF_KIND_NO = np.array([_RANK[kind] for kind in KINDS])

Places = Callable[[Batch], NDArray[np.int64]]


class PartitionMerge:
    """Merges the co-partitioned topics of one partition. `places` tell which is the earliest: event time in ms."""

    def __init__(self, places: Places = attrgetter("occurred_ms")) -> None:
        self._places = places
        self._waiting: dict[int, Queue] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def waiting(self, kind_no: int) -> int:
        """Events of a kind that are held."""
        return len(self._waiting.get(kind_no, ()))

    def first_offset(self, kind_no: int) -> int | None:
        """Offset of the first event of a kind that is held, or None."""
        queue = self._waiting.get(kind_no)
        return int(queue.records[0].offset) if queue else None

    def push(self, queue: Queue) -> None:
        """Add events of one kind in the order of their offsets."""
        held = self._waiting.setdefault(queue.kind_no, queue)
        if held is not queue:
            held.extend(queue)

    def release(self, lagging: Collection[int] = ()) -> Batch:
        """Events that may go, in order.

        `lagging` are the kinds (positions in `KINDS`) of which the broker holds more than has been pushed: as soon as
        nothing is held of one of them, the rest waits.
        """
        filled = [queue for queue in self._waiting.values() if queue]
        if not filled or any(not self.waiting(kind_no) for kind_no in lagging):
            return NO_EVENTS
        held = Batch.of(filled)
        if len(filled) == 1:
            self._waiting = {}
            return held
        # What stands behind a later event of its topic goes right after it: its turn is that of the latest before it.
        places, turns, start = self._places(held), [], 0
        for queue in filled:
            turns.append(np.maximum.accumulate(places[start : start + len(queue)]))
            start += len(queue)
        order = np.lexsort((_RANK_OF_KIND_NO[held.kind_no], np.concatenate(turns)))
        ends = [int(np.flatnonzero(held.kind_no[order] == lags)[-1]) + 1 for lags in lagging]
        going = order[: min(ends, default=len(order))]
        gone = np.bincount(held.kind_no[going], minlength=len(KINDS))
        for queue in filled:
            queue.drop(int(gone[queue.kind_no]))
        return held.at(going)
