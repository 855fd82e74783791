"""Merges the four topics of a partition in the order that an order journal tells. Pure: the caller reads the topics and
the journal, and says how far each has been read.

What the workers of the journal refused, or never read, is left out. Events from before the journal begins are merged by
event time, as are all where there is none. At a hand-over to whom the merge is for, it stops until it is told to go on.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from events.types import KINDS
from stream.scoring.intake import Taken
from stream.scoring.merge import PartitionMerge
from stream.scoring.order_journal import OrderRecord, UnreadableOrder, joined


@dataclass
class _Followed:
    """The record of the journal that is being followed: its runs, of which those before `at` are done."""

    record: OrderRecord
    kinds: list[int]
    lasts: list[int]
    at: int = 0
    begun: bool = False

    @classmethod
    def of(cls, value: bytes | None) -> _Followed:
        record = OrderRecord.decode(value)
        return cls(record, record.kinds.tolist(), record.lasts.tolist())


class OrderedMerge:
    """Merges the co-partitioned topics of one partition as an order journal tells.

    `counts`: `before_journal` events were merged by time, `refused` and `left_out` were passed over as the workers of
    the journal did. `hand_over` is the record before which the merge stands still.
    """

    def __init__(self, taker: str | None = None, begins: Sequence[int] = (0,) * len(KINDS)) -> None:
        """`taker` is the application at hand-overs to which the merge stops, None: at none, and `followed` is not
        asked. `begins` are by kind the offsets from which on records are of interest: `followed` leaves out records of
        the journal that tell of none."""
        self._waiting: list[deque[Taken]] = [deque() for _ in KINDS]
        self._next = [0] * len(KINDS)
        """By kind, the offset that is to be read next."""
        self._from = [0] * len(KINDS)
        """By kind, the offset before which nothing counts any more."""
        self._refused: list[set[int]] = [set() for _ in KINDS]
        self._pending: deque[tuple[int, bytes | None]] = deque()
        """Records of the journal that are to be followed: offsets and values, which unpack to many times their size."""
        self._followed: _Followed | None = None
        self._before: PartitionMerge | None = PartitionMerge()
        self._taker = taker
        self._begins = begins
        self._done: list[bytes] = []
        self.hand_over: OrderRecord | None = None
        self._parts = 0
        """Records that `hand_over` is made of."""
        self.handed_to: str | None = None
        """To which other application the last record of the journal gives the partition, None where it does not."""
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(self.waiting(kind_no) for kind_no in range(len(KINDS)))

    def waiting(self, kind_no: int) -> int:
        """How many events of a kind are held."""
        return len(self._waiting[kind_no]) + (self._before.waiting(kind_no) if self._before else 0)

    def first_offset(self, kind_no: int) -> int | None:
        """Offset of the first event of a kind that is held, or None."""
        before = self._before.first_offset(kind_no) if self._before else None
        if before is not None:
            return before
        queue = self._waiting[kind_no]
        return queue[0].offset if queue else None

    @property
    def journal_offset(self) -> int | None:
        """Offset of the first record of the journal that is not yet followed to its end, None where all are."""
        return self._pending[0][0] if self._pending else None

    def passed(self, kind_no: int) -> int:
        """The offset of a kind before which the journal, as far as it was followed, has told of everything."""
        return self._from[kind_no]

    def push(self, kind_no: int, taken: Iterable[Taken]) -> None:
        """Add events of one kind in the order of their offsets."""
        self._waiting[kind_no].extend(taken)

    def read_to(self, kind_no: int, offset: int) -> None:
        """All records of a kind before this offset were pushed, or are none of ours."""
        self._next[kind_no] = max(self._next[kind_no], offset)

    def tell(self, offset: int, value: bytes | None) -> None:
        """Add a record of the journal, in order."""
        self._pending.append((offset, value))

    def release(self) -> list[Taken]:
        """The events whose place in the order is certain, in order; they are no longer held.

        Waits until each topic is read to where the journal tells of it. That a consumer knows of no more does not
        count: its knowledge may be older than the journal. Raises `UnreadableOrder`.
        """
        released: list[Taken] = []
        while self._pending and self.hand_over is None:
            followed = self._followed = self._followed or _Followed.of(self._pending[0][1])
            if self._before is not None and not self._release_before(followed.record, released):
                break
            if not followed.begun:
                self._begin(followed)
            if not self._follow(followed, released):
                break
            if not self._end(followed.record):
                break
        return released

    def go_on(self, *, taken: bool = True) -> None:
        """Go on behind the hand-over before which the merge stands still; `taken`: it counts."""
        assert self.hand_over is not None
        passed = [self._pending.popleft()[1] or b"" for _ in range(self._parts)]
        if taken:
            self._done += passed
        self.hand_over = self._followed = None

    def followed(self) -> list[bytes]:
        """Values of the records of the journal that were followed to their end since the last call."""
        done, self._done = self._done, []
        return done

    def _end(self, record: OrderRecord) -> bool:
        """A record is followed to its end; whether to go on with the next one."""
        self._from = [max(pair) for pair in zip(self._from, record.ends, strict=True)]
        told = record.hand_over
        if told is not None and told.taker == self._taker:
            self._stop()
            return False
        self.handed_to = None if told is None else told.taker
        _, value = self._pending.popleft()
        self._followed = None
        is_new = any(end > begin for end, begin in zip(record.ends, self._begins, strict=True))
        if told is None and is_new and self._taker is not None:
            self._done.append(value or b"")
        return True

    def _stop(self) -> None:
        """Stand still before a hand-over, once all of its records are there."""
        parts: list[OrderRecord] = []
        for _, value in self._pending:
            parts.append(OrderRecord.decode(value))
            told = parts[-1].hand_over
            if told is None:
                raise UnreadableOrder("a hand-over without its last record")
            if told.last:
                self._parts, self.hand_over = len(parts), joined(parts)
                return

    def rest_from(self, ends: Sequence[int], refused: Sequence[Collection[int]]) -> PartitionMerge:
        """A merge by event time of what is held from these offsets on, by kind, but for the `refused` offsets; nothing
        is held here any more."""
        merge = PartitionMerge()
        for kind_no, queue in enumerate(self._waiting):
            merge.push(
                kind_no,
                [item for item in queue if item.offset >= ends[kind_no] and item.offset not in refused[kind_no]],
            )
            queue.clear()
        return merge

    def rest(self) -> list[Taken]:
        """All that is still held, by event time: what the journal does not tell of. Nothing more may be added then."""
        merge = self._before or PartitionMerge()
        for kind_no, queue in enumerate(self._waiting):
            merge.push(kind_no, [item for item in queue if item.offset not in self._refused[kind_no]])
            queue.clear()
        return merge.release()

    def release_by_time(self, lagging: Collection[int] = ()) -> list[Taken]:
        """As `release` where there is no journal. `lagging` are the kinds of which the broker holds more than has been
        pushed."""
        if self._before is None:
            return []
        for kind_no, queue in enumerate(self._waiting):
            self._before.push(kind_no, queue)
            queue.clear()
        return self._before.release(lagging)

    def _release_before(self, first: OrderRecord, released: list[Taken]) -> bool:
        """Release what stands before the first record of the journal, by time; whether that is all of it."""
        assert self._before is not None
        for kind_no, queue in enumerate(self._waiting):
            early: list[Taken] = []
            while queue and queue[0].offset < first.starts[kind_no]:
                early.append(queue.popleft())
            self._before.push(kind_no, early)
        behind = [kind_no for kind_no, start in enumerate(first.starts) if self._next[kind_no] < start]
        found = self._before.release(behind)
        if found:
            self.counts["before_journal"] += len(found)
            released += found
        if behind:
            return False
        self._before = None
        return True

    def _begin(self, followed: _Followed) -> None:
        followed.begun = True
        for kind_no, start in enumerate(followed.record.starts):
            self._from[kind_no] = first = max(self._from[kind_no], start)
            kept = {offset for offset in self._refused[kind_no] if offset >= first}
            self._refused[kind_no] = kept.union(followed.record.refused[kind_no].tolist())

    def _follow(self, followed: _Followed, released: list[Taken]) -> bool:
        """Release events along the record's runs for as long as they are there; whether all runs were followed."""
        while followed.at < len(followed.kinds):
            kind_no, last = followed.kinds[followed.at], followed.lasts[followed.at]
            queue, refused, first = self._waiting[kind_no], self._refused[kind_no], self._from[kind_no]
            while queue and queue[0].offset <= last:
                item = queue.popleft()
                if item.offset in refused:
                    self.counts["refused"] += 1
                elif item.offset < first:
                    self.counts["left_out"] += 1
                else:
                    released.append(item)
            # Not until its last record is there: compaction may have taken it since.
            if not queue and self._next[kind_no] <= last:
                self._from[kind_no] = max(first, self._next[kind_no])
                return False
            self._from[kind_no] = max(first, last + 1)
            followed.at += 1
        return True
