"""What a worker makes durable together, and when: one transaction of each partition and interval.

A transaction holds the scores, alerts and dead letters of an interval, the rows that they changed, as they were at its
end (the cut), each of their users' last score and contracts, and the offsets of the events behind them. They count
together or not at all:

    | the worker ends                       | after the restart                                                        |
    | ------------------------------------- | ------------------------------------------------------------------------ |
    | at any moment before the commit       | the interval's events are read again, from the states before it; readers |
    |                                       | of committed records have seen nothing of it                             |
    | after it                              | nothing is read again                                                    |

Outputs are sent as they come, so that whoever reads uncommitted records sees them at once; after a failure such a
reader may see an event of the last interval a second time, and with other values where its topics are interleaved
differently then.

Scoring goes on while a transaction is completed: its rows are frozen at the cut and sent in pieces, while what is
scored meanwhile goes into the partition's next transaction. Partitions are cut in turn, spread over the interval: all
at once would keep broker and worker busy with rows for a good part of it, while scores and commits wait.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
from faust.types import TP
from numpy.typing import NDArray

from stream.kafka.record import Header
from stream.kafka.record_batches import Outgoing
from stream.outputs import SOURCE_HEADER, DeadLetter
from stream.portfolio import PortfolioRules
from stream.scoring.contract_records import contract_records
from stream.scoring.order_journal import OrderLog
from stream.scoring.scorer import Scored
from stream.state.slab import Slab
from stream.topics import OutputTopics
from stream.worker.stages import Stages

UNACKNOWLEDGED_BATCHES = 2
"""How many scored batches may wait for the broker before scoring waits too."""

PIECE_ROWS = 128
"""Rows are sent in pieces of so many: each takes the event loop for some milliseconds, in which nothing is scored, and
most fit into one record batch, of which a producer sends one at a time."""

MOST_GROUPS = 8
"""Into so many groups partitions are put at most, each of which is cut at once."""

GROUPS_UNDER_WAY = 3
"""How many groups may be completed at once. With more, a worker that is behind would send the same users' rows again
more often than it needs to."""

PARTITIONS_AT_ONCE = 8
"""So many partitions of a group send rows at once: each holds some pieces in memory."""

CUT_SHARE = 0.6
"""Share of the interval after which a transaction is cut. The rest is for completing it: what was scored right after a
cut is to be committed an interval later."""

KeyedValue = tuple[bytes | None, bytes | None]

_NO_ROWS = np.empty(0, dtype=np.int64)


class Cut(Protocol):
    """The transactions of one interval, closed for outputs."""

    async def publish_rows(self, partition: int, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Queue rows of one partition for the changelog, None for a forgotten user; waits while too much is queued."""

    def publish(
        self, topic: str, partition: int, records: Sequence[KeyedValue], headers: Sequence[list[Header]] | None = None
    ) -> None:
        """Queue records of one partition, in order, for another topic."""

    async def commit(self, partition: int, offsets: Mapping[TP, int]) -> None:
        """Commit outputs, rows and these next offsets to read, of one partition, once all is acknowledged."""


class Durable(Protocol):
    """What a checkpoint needs of Kafka."""

    def send(self, outgoing: Sequence[Outgoing]) -> Awaitable[Any]:
        """Queue records, those of a partition in order; what is returned is done when all are acknowledged."""

    async def cut(self, partitions: Collection[int]) -> Cut:
        """Close the open transactions of partitions: what is sent from here on belongs to the next ones."""


@dataclass
class _Interval:
    """What belongs into the open transaction of one partition, beside rows."""

    latest: dict[bytes, bytes] = field(default_factory=dict)
    """Each user's last score."""
    forgotten: dict[bytes, str] = field(default_factory=dict)
    """What asked to forget a user."""
    order: OrderLog = field(default_factory=OrderLog)
    copied: list[bytes] = field(default_factory=list)
    """Records of another application's order journal."""
    offsets: dict[TP, int] = field(default_factory=dict)
    """Next offsets to read."""
    sent: list[asyncio.Future[None]] = field(default_factory=list)
    """Outputs on their way."""
    touched: list[NDArray[np.int64]] = field(default_factory=list)
    """Numbers of the rows that changed, in parts, with repeats."""
    told: list[NDArray[np.int64]] = field(default_factory=list)
    """Those of them of whose contracts events have told."""

    def send(self, published: asyncio.Future[None]) -> None:
        self.sent = [future for future in self.sent if not _succeeded(future)]
        self.sent.append(published)


@dataclass(frozen=True)
class _Work:
    """What the cut of one partition is about: row numbers int64 `[n]` without repeats, whether events have told of the
    contracts of their users, bool `[n]`, and the records of the order journal."""

    cut: Cut
    partition: int
    touched: NDArray[np.int64]
    are_told: NDArray[np.bool_]
    interval: _Interval
    order: Sequence[bytes]


class Checkpoints:
    """Makes scored batches durable in the order above."""

    def __init__(
        self,
        durable: Durable,
        slab: Slab,
        outputs: Callable[[int], OutputTopics],
        inputs: Sequence[str],
        *,
        interval_s: float,
        monotonic: Callable[[], float],
        on_failure: Callable[[BaseException], None],
        stages: Stages | None = None,
        rules: PortfolioRules = PortfolioRules(),  # noqa: B008  frozen
    ) -> None:
        """`outputs` tells by partition where outputs go. Before it tells of others, all of the partition is to be
        durable: see `flush`."""
        self._durable = durable
        self._slab = slab
        self._outputs = outputs
        self._inputs = inputs
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._on_failure = on_failure
        self._stages = stages or Stages()
        self._rules = rules
        self._unacknowledged: deque[asyncio.Future[None]] = deque()
        self._open: dict[int, _Interval] = {}
        self._before_cut: dict[int, list[asyncio.Future[None]]] = {}
        """By partition, outputs of the transaction before the open one."""
        self._read: dict[TP, int] = {}
        self._cut_offsets: dict[TP, int] = {}
        """Next offsets to read that are committed or with a cut that is being completed."""
        self._cut_s: dict[int, float] = {}
        """By partition, when it was cut last."""
        self._begun_s = self._last_s = monotonic()
        self._running: dict[asyncio.Task[None], frozenset[int]] = {}
        """What completes cuts, with the partitions that they are of."""

    async def publish(self, scored: Scored, dead_letters: Sequence[DeadLetter] = ()) -> asyncio.Future[None] | None:
        """Queue the outputs of a batch and remember its rows.

        Returns what is done when the broker has acknowledged them, None where there are none.
        """
        outputs: list[Outgoing] = []
        for by_partition, topic_of in ((scored.scores, _scores), (scored.alerts, _alerts)):
            for partition, records in by_partition.items():
                if (topic := topic_of(self._outputs(partition))) is not None:
                    outputs.append(Outgoing(topic, partition, records))
            for partition, forgotten in scored.forgotten.items():
                if (topic := topic_of(self._outputs(partition))) is not None:
                    told: list[list[Header]] = [[(SOURCE_HEADER, source.encode())] for _, source in forgotten]
                    outputs.append(Outgoing(topic, partition, [(key, None) for key, _ in forgotten], told))
        refused: dict[int, list[DeadLetter]] = {}
        for letter in (*scored.dead_letters, *dead_letters):
            refused.setdefault(letter.partition, []).append(letter)
        for letter in dead_letters:
            self._interval(letter.partition).order.refused(self._inputs.index(letter.topic), [letter.offset])
        for partition, letters in refused.items():
            topic = self._outputs(partition).dead_letters
            if topic is not None:
                originals = [(letter.key, letter.value) for letter in letters]
                headers = [letter.record_headers() for letter in letters]
                outputs.append(Outgoing(topic, partition, originals, headers))
        self.changed(scored.touched)
        for partition, rows in self._by_partition(scored.told):
            self._interval(partition).told.append(rows)
        for partition, scores in scored.scores.items():
            self._interval(partition).latest.update(scores)
        for partition, forgotten in scored.forgotten.items():
            interval = self._interval(partition)
            interval.forgotten.update(forgotten)
            for key, _ in forgotten:
                interval.latest.pop(key, None)
        if not outputs:
            return None
        # Before anything is awaited: from here on the rows hold what has not been published yet.
        published: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        partitions = sorted({output.partition for output in outputs})
        for partition in partitions:
            self._interval(partition).send(published)
        try:
            # What goes into the next transaction goes by another connection, and must not overtake.
            for partition in partitions:
                for before in self._before_cut.pop(partition, ()):
                    await before
            while len(self._unacknowledged) >= UNACKNOWLEDGED_BATCHES:
                await self._unacknowledged.popleft()
            acknowledged = asyncio.ensure_future(self._durable.send(outputs))
        except BaseException as error:
            _fail(published, error)
            raise
        acknowledged.add_done_callback(functools.partial(_settle, published))
        self._unacknowledged.append(published)
        await asyncio.sleep(0)  # let it be sent before the next batch is computed
        return published

    def took(self, partition: int, kind_no: NDArray[np.int64], offset: NDArray[np.int64]) -> None:
        """Events of a partition were taken in this order, int64 `[n]`; they are scored and published next."""
        self._interval(partition).order.took(kind_no, offset)

    def told(self, partition: int, records: Sequence[bytes]) -> None:
        """Records of another application's order journal were followed to their end: they go into this one's, too."""
        if records and self._outputs(partition).order is not None:
            self._interval(partition).copied.extend(records)

    def changed(self, rows: NDArray[np.int64]) -> None:
        """Rows, int64 `[n]`, were changed."""
        for partition, part in self._by_partition([rows]):
            self._interval(partition).touched.append(part)

    def _interval(self, partition: int) -> _Interval:
        found = self._open.get(partition)
        if found is None:
            found = self._open[partition] = _Interval()
        return found

    def reached(self, offsets: Mapping[TP, int]) -> None:
        """All records before these next offsets have been scored or refused, and published."""
        self._read.update(offsets)
        for tp, offset in offsets.items():
            if self._cut_offsets.get(tp) != offset:
                self._interval(tp.partition).offsets[tp] = offset

    def renew(self, partition: int) -> None:
        """What is kept with the offsets of a partition is another one now: commit all of them with the next cut, also
        those that stay as they are."""
        self._cut_offsets = {tp: offset for tp, offset in self._cut_offsets.items() if tp.partition != partition}

    async def tick(self, *, is_behind: bool = False) -> None:
        """Begin to complete what was scored since its last cut of those partitions whose turn it is.

        Partitions take turns, so that each is cut about once in `CUT_SHARE` of an interval, or once in an interval when
        this worker `is_behind`: its events have waited for longer than that, and users' rows are sent less often. The
        cut is made before this returns; what follows it runs beside the caller.
        """
        if len(self._running) >= GROUPS_UNDER_WAY:
            return
        busy = frozenset().union(*self._running.values())
        waiting = sorted((self._cut_s.get(one, self._begun_s), one) for one in self._pending() if one not in busy)
        if not waiting:
            return
        count = len(waiting) + len(busy)
        groups = min(count, MOST_GROUPS)
        now_s, period_s = self._monotonic(), self._interval_s * (1.0 if is_behind else CUT_SHARE)
        if now_s - waiting[0][0] < period_s and now_s - self._last_s < period_s / groups:
            return
        self._last_s = now_s
        partitions = [partition for _, partition in waiting[: -(-count // groups)]]
        self._cut_s.update(dict.fromkeys(partitions, now_s))
        works = await self._cut(partitions)
        running = asyncio.create_task(self._complete(works), name="checkpoint")
        self._running[running] = frozenset(partitions)
        running.add_done_callback(self._done)

    def _pending(self) -> list[int]:
        """Partitions of which something was scored or refused since their last cut."""
        return [partition for partition, interval in self._open.items() if interval.offsets]

    @property
    def running(self) -> bool:
        """Whether a transaction is being completed."""
        return bool(self._running)

    @property
    def pending(self) -> bool:
        """Whether something was scored or refused that is not committed."""
        return bool(self._running) or bool(self._pending())

    async def flush(self) -> None:
        """Make everything so far durable; returns when it is committed."""
        if self._running:
            await asyncio.shield(asyncio.gather(*self._running))
        if partitions := self._pending():
            await self._complete(await self._cut(partitions))

    def forget(self) -> None:
        """Drop what is not durable: its offsets will be read again."""
        for running in self._running:
            running.cancel()
        self._unacknowledged.clear()
        self._open, self._before_cut = {}, {}
        self._read, self._cut_offsets, self._cut_s = {}, {}, {}
        self._slab.thaw()

    async def _cut(self, partitions: Sequence[int]) -> list[_Work]:
        """What was scored of these partitions since they were cut; its rows are frozen as they are now."""
        intervals = {partition: self._open.pop(partition) for partition in partitions}
        order = {partition: self._order_records(partition, interval) for partition, interval in intervals.items()}
        touched = {partition: _once(interval.touched) for partition, interval in intervals.items()}
        for partition, interval in intervals.items():
            self._slab.freeze(touched[partition])
            self._before_cut[partition] = list(interval.sent)
            self._cut_offsets.update(interval.offsets)
        cut = await self._durable.cut(partitions)
        return [
            _Work(cut, partition, rows, np.isin(rows, _once(interval.told)), interval, order[partition])
            for (partition, rows), interval in zip(touched.items(), intervals.values(), strict=True)
        ]

    def _by_partition(self, parts: Sequence[NDArray[np.int64]]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Partitions, and those of the rows that are theirs."""
        if not any(part.size for part in parts):
            return
        rows = np.concatenate(parts)
        partition_of_row = self._slab.partitions_of(rows)
        for partition in np.flatnonzero(np.bincount(partition_of_row)).tolist():
            yield partition, rows[partition_of_row == partition]

    def _order_records(self, partition: int, interval: _Interval) -> list[bytes]:
        """What the order journal is to hold of what was taken since the last cut."""
        found = interval.copied
        if self._outputs(partition).order is not None:
            record = interval.order.record([self._read.get(TP(topic, partition), 0) for topic in self._inputs])
            if record is not None:
                found.append(record.encode())
        return found

    async def _complete(self, works: Sequence[_Work]) -> None:
        """Send the rows of cuts and commit, each partition by itself."""
        for start in range(0, len(works), PARTITIONS_AT_ONCE):
            await asyncio.gather(*(self._complete_one(work) for work in works[start : start + PARTITIONS_AT_ONCE]))

    async def _complete_one(self, work: _Work) -> None:
        with self._stages("changelog"):
            topic = self._outputs(work.partition).order
            if topic is not None and work.order:
                work.cut.publish(topic, work.partition, [(None, value) for value in work.order])
            for start in range(0, len(work.touched), PIECE_ROWS):
                await self._publish_piece(work, slice(start, start + PIECE_ROWS))
                await asyncio.sleep(0)  # let events be scored between two pieces, also where nothing has to be awaited
            for published in work.interval.sent:
                await published
        with self._stages("commit"):
            await work.cut.commit(work.partition, work.interval.offsets)

    async def _publish_piece(self, work: _Work, piece: slice) -> None:
        """Send some of the rows, and the last scores and the contracts of their users.

        Here and not as they come, since the cuts of a partition are completed one after the other: of a compacted
        topic, what stands last counts.
        """
        frozen: list[tuple[bytes, bytes | None]] = []
        contracts: list[tuple[bytes, bytes]] = []
        rows, are_told = work.touched[piece], work.are_told[piece]
        for told, part in ((True, rows[are_told]), (False, rows[~are_told])):
            if part.size:
                pairs = self._slab.frozen(part)[work.partition]
                held = {key: row for key, row in pairs if row is not None}
                content = np.frombuffer(b"".join(held.values()), dtype=self._slab.dtype)
                frozen += pairs
                contracts += contract_records(work.partition, list(held), content, self._rules, told=told)
        await work.cut.publish_rows(work.partition, frozen)
        latest, asked = work.interval.latest, work.interval.forgotten
        scores = [(key, latest[key]) for key, _ in frozen if key in latest]
        gone = [(key, asked[key]) for key, _ in frozen if key in asked] if asked else []
        outputs = self._outputs(work.partition)
        for topic, records in ((outputs.latest_scores, scores), (outputs.contracts, contracts)):
            if topic is not None and (records or gone):
                work.cut.publish(topic, work.partition, *_after_tombstones(gone, records))

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_failure(error)


def _once(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Row numbers without repeats."""
    return np.unique(np.concatenate(parts)) if parts else _NO_ROWS


_scores: Callable[[OutputTopics], str | None] = attrgetter("scores")
_alerts: Callable[[OutputTopics], str | None] = attrgetter("alerts")


def _after_tombstones(
    forgotten: Sequence[tuple[bytes, str]], records: Sequence[tuple[bytes, bytes]]
) -> tuple[Sequence[KeyedValue], Sequence[list[Header]] | None]:
    """Records behind the tombstones of users who were forgotten: they may have come back. With headers, if any are."""
    if not forgotten:
        return records, None
    tombstones: list[KeyedValue] = [(key, None) for key, _ in forgotten]
    told: list[list[Header]] = [[(SOURCE_HEADER, source.encode())] for _, source in forgotten]
    return [*tombstones, *records], [*told, *([] for _ in records)]


def _settle(published: asyncio.Future[None], acknowledged: asyncio.Future[Any]) -> None:
    """Complete `published` as sending ended: with a result, an exception or a cancellation."""
    error = asyncio.CancelledError() if acknowledged.cancelled() else acknowledged.exception()
    if error is not None:
        _fail(published, error)
    elif not published.done():
        published.set_result(None)


def _succeeded(published: asyncio.Future[None]) -> bool:
    return published.done() and not published.cancelled() and published.exception() is None


def _fail(published: asyncio.Future[None], error: BaseException) -> None:
    if published.done():
        return
    if isinstance(error, asyncio.CancelledError):
        published.cancel()
    else:
        published.set_exception(error)
        published.exception()  # whoever waits for it will see it; if nobody does, the sender has told
