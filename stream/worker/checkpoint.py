"""The order in which a worker makes its work durable, and nothing else.

    1. scores, alerts and dead letters are produced and acknowledged;
    2. then the rows that changed are produced to the changelog and acknowledged;
    3. then the source offsets are advanced and committed.

What a crash leaves, by the last step that was completed:

    | completed | after the restart                                                                               |
    | --------- | ----------------------------------------------------------------------------------------------- |
    | none      | the events are read again and give the same outputs with the same ids                           |
    | 1         | the same; the outputs stand twice, with equal ids and bytes                                     |
    | part of 2 | users whose row is there skip what it holds (by its offsets); the others are computed again     |
    | 2         | the events are read again and skipped                                                           |
    | 3         | nothing is read again                                                                           |

Outputs are sent as they come; steps 2 and 3 run once an interval for all that was scored since, so a user who is seen
often costs one changelog record per interval, not per event. Scoring goes on meanwhile: rows go in pieces spread over
the interval, each as it is when its turn comes, once all outputs of what it holds are acknowledged.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from faust.types import TP
from numpy.typing import NDArray

from stream.outputs import DeadLetter, encode_output
from stream.scoring.scorer import Scored
from stream.state.slab import Slab
from stream.topics import Topics
from stream.worker.stages import Stages

UNACKNOWLEDGED_BATCHES = 2
"""How many scored batches may wait for the broker before scoring waits too."""

TURNS_TO_SEND = 6
"""Turns of the event loop that the producer needs to send a request. Without them it would wait until the next batch is
computed, since nothing is sent meanwhile."""

PIECES = 16
LEAST_PIECE_ROWS, MOST_PIECE_ROWS = 64, 1_024
"""Rows are made durable in about so many pieces of so many rows: all of an interval at once would delay the scores."""

SPREAD_SHARE = 0.5
"""Share of the interval over which a checkpoint's pieces are spread; the rest is room for when they take longer."""

KeyedValue = tuple[bytes | None, bytes]

_NO_ROWS = np.empty(0, dtype=np.int64)


class Durable(Protocol):
    """What a checkpoint needs of Kafka."""

    async def send(self, topic: str, partition: int, records: Sequence[KeyedValue]) -> Sequence[Awaitable[Any]]:
        """Queue records of one partition in order; each awaitable returned is done when a part is acknowledged."""

    async def publish_rows(self, rows: Mapping[int, Sequence[tuple[bytes, bytes]]]) -> None:
        """Publish rows by partition to the changelog; returns when they are acknowledged."""

    async def commit(self, offsets: Mapping[TP, int]) -> None:
        """Advance to and commit the next offsets to read."""


class Checkpoints:
    """Makes scored batches durable in the order above."""

    def __init__(
        self,
        durable: Durable,
        slab: Slab,
        topics: Topics,
        *,
        interval_s: float,
        monotonic: Callable[[], float],
        on_failure: Callable[[BaseException], None],
        stages: Stages | None = None,
    ) -> None:
        self._durable = durable
        self._slab = slab
        self._topics = topics
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._on_failure = on_failure
        self._stages = stages or Stages()
        self._unacknowledged: deque[asyncio.Future[None]] = deque()
        self._sent: list[asyncio.Future[None]] = []
        self._touched: list[NDArray[np.int64]] = []
        self._offsets: dict[TP, int] = {}
        self._running: asyncio.Task[None] | None = None
        self._last_s = monotonic()

    async def publish(self, scored: Scored, dead_letters: Sequence[DeadLetter] = ()) -> None:
        """Begin step 1 for a batch: queue its outputs and remember its rows."""
        outputs: list[tuple[str, int, Sequence[KeyedValue]]] = []
        for topic, by_partition in ((self._topics.scores, scored.scores), (self._topics.alerts, scored.alerts)):
            outputs += [(topic, partition, records) for partition, records in by_partition.items()]
        refused: dict[int, list[KeyedValue]] = {}
        for letter in (*scored.dead_letters, *dead_letters):
            refused.setdefault(letter.partition, []).append((None, encode_output(letter)))
        outputs += [(self._topics.dead_letters, partition, records) for partition, records in refused.items()]
        self._touched.append(scored.touched)
        if not outputs:
            return
        # Before anything is awaited: from here on the rows hold what has not been published yet.
        published: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sent.append(published)
        try:
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

    def reached(self, offsets: Mapping[TP, int]) -> None:
        """All records before these next offsets have been scored or refused, and published."""
        self._offsets.update(offsets)

    def tick(self) -> None:
        """Begin steps 2 and 3 if an interval has passed and the last ones are done."""
        if self._running is None and self._monotonic() - self._last_s >= self._interval_s and self._offsets:
            self._last_s = self._monotonic()
            pause_s = self._interval_s * SPREAD_SHARE / PIECES
            self._running = asyncio.create_task(self._complete(pause_s), name="checkpoint")
            self._running.add_done_callback(self._done)

    @property
    def running(self) -> bool:
        """Whether steps 2 and 3 are under way."""
        return self._running is not None

    async def flush(self) -> None:
        """Make everything so far durable; returns when it is committed."""
        if self._running is not None:
            await asyncio.shield(self._running)
        await self._complete()

    def forget(self) -> None:
        """Drop what is not durable: its offsets will be read again."""
        if self._running is not None:
            self._running.cancel()
        self._unacknowledged.clear()
        self._sent, self._touched, self._offsets = [], [], {}

    async def _complete(self, pause_s: float = 0.0) -> None:
        """Make what was scored so far durable: its rows in pieces, `pause_s` apart, then its offsets."""
        touched = np.unique(np.concatenate(self._touched)) if self._touched else _NO_ROWS
        offsets = self._offsets
        self._touched, self._offsets = [], {}
        size = min(max(-(-len(touched) // PIECES), LEAST_PIECE_ROWS), MOST_PIECE_ROWS)
        for start in range(0, len(touched), size):
            if start and pause_s:
                await asyncio.sleep(pause_s)
            sent, self._sent = self._sent, []
            with self._stages("changelog"):
                rows = self._slab.by_partition(touched[start : start + size])
                await _all_of(sent)
                await self._durable.publish_rows(rows)
        sent, self._sent = self._sent, []
        await _all_of(sent)
        if offsets:
            with self._stages("commit"):
                await self._durable.commit(offsets)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_failure(error)


async def _all_of(sent: Sequence[asyncio.Future[None]]) -> None:
    for published in sent:
        await published


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
