"""Event-time order across topics: what a backlog would have looked like, had each event been read when it happened.

Pure: it holds events and hands them out; reading, and knowing which topic lags behind the broker, is the caller's.

Within a topic arrival order rules. Across the topics of a partition the one whose next event is the earliest goes first
(as in Kafka Streams' tasks); at equal times profiles go before repayments, transactions and activity, so that a
contract's facts precede its first movement. As long as the broker holds more of a topic, nothing goes past what has
been read of it. So the order is a function of the topics' contents alone, whatever the sizes of the reads.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable

from events.types import KINDS, Kind
from stream.intake import Taken

_RANK: dict[Kind, int] = {"profiles": 0, "repayments": 1, "transactions": 2, "activity": 3}
_RANK_OF_KIND_NO = tuple(_RANK[kind] for kind in KINDS)


def _occurred_ms(item: Taken) -> int:
    return item.occurred_ms


class PartitionMerge:
    """Merges the co-partitioned topics of one partition. `place` is what the earliest is told by; event time in ms."""

    def __init__(self, place: Callable[[Taken], int] = _occurred_ms) -> None:
        self._place = place
        self._waiting: tuple[deque[Taken], ...] = tuple(deque() for _ in KINDS)

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._waiting)

    def waiting(self, kind_no: int) -> int:
        """Events of a kind that are held."""
        return len(self._waiting[kind_no])

    def first_offset(self, kind_no: int) -> int | None:
        """Offset of the first event of a kind that is held, or None."""
        queue = self._waiting[kind_no]
        return queue[0].offset if queue else None

    def push(self, kind_no: int, taken: Iterable[Taken]) -> None:
        """Add events of one kind in the order of their offsets."""
        self._waiting[kind_no].extend(taken)

    def release(self, lagging: Collection[int] = ()) -> list[Taken]:
        """Events that may go, in order.

        `lagging` are the kinds (positions in `KINDS`) of which the broker holds more than has been pushed: as soon as
        nothing is held of one of them, the rest waits.
        """
        waiting, place = self._waiting, self._place
        if any(not waiting[kind_no] for kind_no in lagging):
            return []
        heads = [(place(queue[0]), _RANK_OF_KIND_NO[no], no) for no, queue in enumerate(waiting) if queue]
        heapq.heapify(heads)
        released: list[Taken] = []
        while heads:
            kind_no = heads[0][2]
            queue = waiting[kind_no]
            rank = _RANK_OF_KIND_NO[kind_no]
            following = min(heads[1:3]) if len(heads) > 1 else None
            while queue and (following is None or (place(queue[0]), rank, kind_no) < following):
                released.append(queue.popleft())
            if queue:
                heapq.heapreplace(heads, (place(queue[0]), rank, kind_no))
            else:
                heapq.heappop(heads)
                if kind_no in lagging:
                    break
        return released
