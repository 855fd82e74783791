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
scored meanwhile goes into the next transaction. One is completed at a time.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
from faust.types import TP
from numpy.typing import NDArray

from stream.kafka.record import Header
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

TURNS_TO_SEND = 6
"""Turns of the event loop that the producer needs to send a request. Without them it would wait until the next batch is
computed, since nothing is sent meanwhile."""

PIECES = 16
LEAST_PIECE_ROWS, MOST_PIECE_ROWS = 64, 1_024
"""Rows are sent in about so many pieces of about so many rows: one clump a second would delay the scores."""

MOST_GROUPS = 8
"""Into so many groups partitions are put at most, each of which is committed at once."""

CUT_SHARE, SPREAD_SHARE = 0.75, 0.2
"""Shares of the interval after which a transaction is cut, and over which its pieces are spread then. The rest is for
the commit itself: what was scored right after a cut is to be committed an interval later."""

KeyedValue = tuple[bytes | None, bytes | None]

_NO_ROWS = np.empty(0, dtype=np.int64)


class Cut(Protocol):
    """The transactions of one interval, closed for outputs."""

    async def publish_rows(self, rows: Mapping[int, Sequence[tuple[bytes, bytes | None]]]) -> None:
        """Send rows by partition to the changelog, None for a forgotten user; returns when they are acknowledged."""

    async def publish(
        self, topic: str, partition: int, records: Sequence[KeyedValue], headers: Sequence[list[Header]] | None = None
    ) -> None:
        """Send records of one partition, in order, to another topic; returns when they are acknowledged."""

    async def commit(self, offsets: Mapping[TP, int]) -> None:
        """Commit outputs, rows and these next offsets to read, of the partitions that they are about."""


class Durable(Protocol):
    """What a checkpoint needs of Kafka."""

    async def send(
        self,
        topic: str,
        partition: int,
        records: Sequence[KeyedValue],
        headers: Sequence[list[Header]] | None = None,
    ) -> Sequence[Awaitable[Any]]:
        """Queue records of one partition in order, with the headers of each if there are any; each awaitable returned
        is done when a part is acknowledged."""

    async def cut(self, partitions: Collection[int]) -> Cut:
        """Close the open transactions of partitions: what is sent from here on belongs to the next ones."""


@dataclass(frozen=True)
class _Work:
    """All that one cut is about: row numbers int64 `[n]` without repeats, those of them of whose contracts events have
    told, each user's last score, and what asked to forget a user, both by partition and key, by partition the records
    of the order journal, next offsets, and outputs on their way."""

    cut: Cut
    touched: NDArray[np.int64]
    told: NDArray[np.int64]
    latest: Mapping[int, dict[bytes, bytes]]
    forgotten: Mapping[int, dict[bytes, str]]
    order: Mapping[int, Sequence[bytes]]
    offsets: Mapping[TP, int]
    sent: Sequence[asyncio.Future[None]]


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
        self._sent: list[asyncio.Future[None]] = []
        self._before_cut: list[asyncio.Future[None]] = []
        self._touched: list[NDArray[np.int64]] = []
        self._told: list[NDArray[np.int64]] = []
        self._latest: dict[int, dict[bytes, bytes]] = {}
        self._forgotten: dict[int, dict[bytes, str]] = {}
        self._order: dict[int, OrderLog] = {}
        self._copied: dict[int, list[bytes]] = {}
        self._offsets: dict[TP, int] = {}
        self._read: dict[TP, int] = {}
        self._committed: dict[TP, int] = {}
        self._running: asyncio.Task[None] | None = None
        self._last_s = monotonic()

    async def publish(self, scored: Scored, dead_letters: Sequence[DeadLetter] = ()) -> asyncio.Future[None] | None:
        """Queue the outputs of a batch and remember its rows.

        Returns what is done when the broker has acknowledged them, None where there are none.
        """
        outputs: list[tuple[str, int, Sequence[KeyedValue], Sequence[list[Header]] | None]] = []
        for by_partition, topic_of in ((scored.scores, _scores), (scored.alerts, _alerts)):
            for partition, records in by_partition.items():
                if (topic := topic_of(self._outputs(partition))) is not None:
                    outputs.append((topic, partition, records, None))
            for partition, forgotten in scored.forgotten.items():
                if (topic := topic_of(self._outputs(partition))) is not None:
                    told: list[list[Header]] = [[(SOURCE_HEADER, source.encode())] for _, source in forgotten]
                    outputs.append((topic, partition, [(key, None) for key, _ in forgotten], told))
        refused: dict[int, list[DeadLetter]] = {}
        for letter in (*scored.dead_letters, *dead_letters):
            refused.setdefault(letter.partition, []).append(letter)
        for letter in dead_letters:
            self._order_of(letter.partition).refused(self._inputs.index(letter.topic), [letter.offset])
        for partition, letters in refused.items():
            topic = self._outputs(partition).dead_letters
            if topic is not None:
                originals = [(letter.key, letter.value) for letter in letters]
                headers = [letter.record_headers() for letter in letters]
                outputs.append((topic, partition, originals, headers))
        self._touched.append(scored.touched)
        self._told += scored.told
        for partition, scores in scored.scores.items():
            self._latest.setdefault(partition, {}).update(scores)
        for partition, forgotten in scored.forgotten.items():
            self._forgotten.setdefault(partition, {}).update(forgotten)
            for key, _ in forgotten:
                self._latest.get(partition, {}).pop(key, None)
        if not outputs:
            return None
        # Before anything is awaited: from here on the rows hold what has not been published yet.
        published: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sent.append(published)
        try:
            # What goes into the next transaction goes by another connection, and must not overtake.
            while self._before_cut:
                await self._before_cut.pop()
            while len(self._unacknowledged) >= UNACKNOWLEDGED_BATCHES:
                await self._unacknowledged.popleft()
            queued = [await self._durable.send(*output) for output in outputs]
        except BaseException as error:
            _fail(published, error)
            raise
        acknowledged = asyncio.gather(*(ack for acks in queued for ack in acks))
        acknowledged.add_done_callback(functools.partial(_settle, published))
        self._unacknowledged.append(published)
        for _ in range(TURNS_TO_SEND):
            await asyncio.sleep(0)
        return published

    def took(self, partition: int, kind_no: NDArray[np.int64], offset: NDArray[np.int64]) -> None:
        """Events of a partition were taken in this order, int64 `[n]`; they are scored and published next."""
        self._order_of(partition).took(kind_no, offset)

    def told(self, partition: int, records: Sequence[bytes]) -> None:
        """Records of another application's order journal were followed to their end: they go into this one's, too."""
        if records and self._outputs(partition).order is not None:
            self._copied.setdefault(partition, []).extend(records)

    def changed(self, rows: NDArray[np.int64]) -> None:
        """Rows, int64 `[n]`, were changed by something else than an event."""
        self._touched.append(rows)

    def _order_of(self, partition: int) -> OrderLog:
        return self._order.setdefault(partition, OrderLog())

    def reached(self, offsets: Mapping[TP, int]) -> None:
        """All records before these next offsets have been scored or refused, and published."""
        self._read.update(offsets)
        self._offsets.update((tp, offset) for tp, offset in offsets.items() if self._committed.get(tp) != offset)

    def renew(self, partition: int) -> None:
        """What is kept with the offsets of a partition is another one now: commit all of them with the next cut, also
        those that stay as they are."""
        self._committed = {tp: offset for tp, offset in self._committed.items() if tp.partition != partition}

    async def tick(self) -> None:
        """Begin to complete what was scored since the last cut, if it is time and that one's transaction is committed.

        The cut is made before this returns; what follows it runs beside the caller.
        """
        due = self._monotonic() - self._last_s >= self._interval_s * CUT_SHARE
        if self._running is None and due and self._offsets:
            self._last_s = self._monotonic()
            work = await self._cut()
            pause_s = self._interval_s * SPREAD_SHARE / PIECES
            self._running = asyncio.create_task(self._complete(work, pause_s), name="checkpoint")
            self._running.add_done_callback(self._done)

    @property
    def running(self) -> bool:
        """Whether a transaction is being completed."""
        return self._running is not None

    @property
    def pending(self) -> bool:
        """Whether something was scored or refused that is not committed."""
        return self._running is not None or bool(self._offsets)

    async def flush(self) -> None:
        """Make everything so far durable; returns when it is committed."""
        if self._running is not None:
            await asyncio.shield(self._running)
        if self._offsets:
            await self._complete(await self._cut())

    def forget(self) -> None:
        """Drop what is not durable: its offsets will be read again."""
        if self._running is not None:
            self._running.cancel()
        self._unacknowledged.clear()
        self._sent, self._before_cut, self._touched, self._told = [], [], [], []
        self._latest, self._forgotten, self._order, self._copied = {}, {}, {}, {}
        self._offsets, self._read, self._committed = {}, {}, {}
        self._slab.thaw()

    async def _cut(self) -> _Work:
        """What was scored since the last cut; its rows are frozen as they are now."""
        touched, told = (
            np.unique(np.concatenate(parts)) if parts else _NO_ROWS for parts in (self._touched, self._told)
        )
        self._slab.freeze(touched)
        latest, forgotten, offsets, sent = self._latest, self._forgotten, self._offsets, self._sent
        order = self._order_records()
        self._touched, self._told, self._sent = [], [], []
        self._latest, self._forgotten, self._offsets, self._order, self._copied = {}, {}, {}, {}, {}
        self._before_cut = list(sent)
        cut = await self._durable.cut({tp.partition for tp in offsets})
        return _Work(cut, touched, told, latest, forgotten, order, offsets, sent)

    def _order_records(self) -> dict[int, list[bytes]]:
        """By partition, what the order journal is to hold of what was taken since the last cut."""
        found = self._copied
        for partition, log in self._order.items():
            if self._outputs(partition).order is not None:
                record = log.record([self._read.get(TP(topic, partition), 0) for topic in self._inputs])
                if record is not None:
                    found.setdefault(partition, []).append(record.encode())
        return found

    async def _complete(self, work: _Work, pause_s: float = 0.0) -> None:
        """Send the rows of a cut in pieces, `pause_s` apart, and commit, one group of partitions after the other.

        All at once would keep the broker busy for as long as it takes, while scores wait.
        """
        for published in work.sent:
            await published
        size = min(max(-(-len(work.touched) // PIECES), LEAST_PIECE_ROWS), MOST_PIECE_ROWS)
        partition_of_row = self._slab.partitions_of(work.touched)
        partitions = sorted({tp.partition for tp in work.offsets})
        groups = min(len(partitions), MOST_GROUPS)
        for group in (partitions[number::groups] for number in range(groups)):
            rows = work.touched[np.isin(partition_of_row, group)]
            order = [self._publish_order(work, group)]  # with the first piece: each wait for the broker delays commits
            for start in range(0, len(rows), size):
                with self._stages("changelog"):
                    await asyncio.gather(self._publish_piece(work, rows[start : start + size]), *order)
                order = []
                if pause_s:
                    await asyncio.sleep(pause_s)
            offsets = {tp: offset for tp, offset in work.offsets.items() if tp.partition in group}
            with self._stages("commit"):
                await asyncio.gather(*order)
                await work.cut.commit(offsets)
            self._committed.update(offsets)

    async def _publish_order(self, work: _Work, partitions: Collection[int]) -> None:
        sending = []
        for partition in partitions:
            topic = self._outputs(partition).order
            if topic is not None and partition in work.order:
                records = [(None, value) for value in work.order[partition]]
                sending.append(work.cut.publish(topic, partition, records))
        await asyncio.gather(*sending)

    async def _publish_piece(self, work: _Work, rows: NDArray[np.int64]) -> None:
        """Send some rows, and the last scores and the contracts of their users.

        Here and not as they come, since cuts are completed one after the other: of a compacted topic, what stands last
        counts.
        """
        frozen: dict[int, list[tuple[bytes, bytes | None]]] = {}
        contracts: dict[int, list[tuple[bytes, bytes]]] = {}
        are_told = np.isin(rows, work.told)
        for told, part in ((True, rows[are_told]), (False, rows[~are_told])):
            for partition, pairs in self._slab.frozen(part).items():
                held = {key: row for key, row in pairs if row is not None}
                content = np.frombuffer(b"".join(held.values()), dtype=self._slab.dtype)
                frozen.setdefault(partition, []).extend(pairs)
                found = contract_records(partition, list(held), content, self._rules, told=told)
                contracts.setdefault(partition, []).extend(found)
        sending = [work.cut.publish_rows(frozen)]
        for partition, pairs in frozen.items():
            latest, asked = work.latest.get(partition, {}), work.forgotten.get(partition, {})
            scores = [(key, latest[key]) for key, _ in pairs if key in latest]
            gone = [(key, asked[key]) for key, _ in pairs if key in asked] if asked else []
            outputs = self._outputs(partition)
            of_topics = ((outputs.latest_scores, scores), (outputs.contracts, contracts[partition]))
            for topic, records in of_topics:
                if topic is not None and (records or gone):
                    sending.append(work.cut.publish(topic, partition, *_after_tombstones(gone, records)))
        await asyncio.gather(*sending)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_failure(error)


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


def _fail(published: asyncio.Future[None], error: BaseException) -> None:
    if published.done():
        return
    if isinstance(error, asyncio.CancelledError):
        published.cancel()
    else:
        published.set_exception(error)
        published.exception()  # whoever waits for it will see it; if nobody does, the sender has told
