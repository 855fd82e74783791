"""Kafka transactions of the partitions that a worker owns: what is sent, and the offsets read, count together or not.

Each partition has two transactional producers, used in turn: while the transaction of one is completed, the other takes
what is sent meanwhile. Their ids are made of the application and the partition, so that whoever takes a partition over
fences its former owner, and aborts what that one left open, before anything of the partition is read. Knows nothing of
what records mean, and not when a transaction is to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.types import TP

from stream.kafka.lineage import marked, with_changelog_offset
from stream.kafka.loop_thread import Submit, on_this_loop
from stream.kafka.record import Header
from stream.kafka.record_batches import Outgoing, send_records
from stream.logs import ToldInFull
from stream.topics import transactional_id

T = TypeVar("T")

PRODUCERS_PER_PARTITION = 2

NO_OFFSET = -1

Pairs = Sequence[tuple[bytes | None, bytes | None]]


class Fenced(ToldInFull):
    """Another worker has taken a partition over; nothing of this one's counts any more. The message names it."""


FENCED = (
    "belongs to another worker by now, or its transaction was ended by the broker: this worker was silent for too long "
    "(session_timeout_s, or the transactions' own timeout). Nothing is lost; start it again"
)


def in_words(error: BaseException) -> BaseException:
    """`Fenced` for what aiokafka raises where a producer is fenced before it commits, every other error as it is."""
    if not isinstance(error, ProducerFenced):
        return error
    fenced = Fenced(f"a partition of this worker {FENCED}")
    fenced.__cause__ = error
    return fenced


def _told_by_commit(sent: asyncio.Future[T]) -> asyncio.Future[T]:
    """Of many that fail for one reason the first is told of and ends the worker; asyncio is to tell of no other."""
    sent.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())
    return sent


class NotSent(RuntimeError):
    """Records of a transaction were given up before they were sent, so that it cannot be committed."""


@dataclass(eq=False)
class Transaction:
    """One open transaction of one partition."""

    partition: int
    producer: AIOKafkaProducer
    submit: Submit
    lineage: str = ""
    """Kept with each offset, see `stream.kafka.lineage`."""
    deliveries: list[asyncio.Task[int]] = field(default_factory=list)
    last_offsets: dict[str, int] = field(default_factory=dict)
    """By topic, where the last record batch is that is acknowledged."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Keeps records in order: the producer lets one overtake another that waits for room."""

    def send(self, topic: str, records: Pairs, headers: Sequence[list[Header]] | None = None) -> asyncio.Future[int]:
        """Queue pairs of key and value for this partition of `topic`, after what was queued before.

        What is returned is done when all replicas have them; its result is the offset of the last record batch, which
        is that of the batch's first record.
        """
        return _told_by_commit(self.submit(self._queued(topic, records, headers)))

    async def _queued(self, topic: str, records: Pairs, headers: Sequence[list[Header]] | None) -> int:
        return await self.queue(topic, records, headers)

    def queue(self, topic: str, records: Pairs, headers: Sequence[list[Header]] | None) -> asyncio.Task[int]:
        """As `send`, in the loop of the producer."""
        delivery = asyncio.create_task(self._deliver(topic, records, headers))
        self.deliveries.append(delivery)
        return delivery

    async def _deliver(self, topic: str, records: Pairs, headers: Sequence[list[Header]] | None) -> int:
        async with self.turn:
            acks = await send_records(self.producer, topic, self.partition, records, headers)
        metadata = await asyncio.gather(*acks)
        last = max((found.offset for found in metadata), default=NO_OFFSET)
        self.last_offsets[topic] = max(last, self.last_offsets.get(topic, NO_OFFSET))
        return last

    async def commit(self, offsets: Mapping[TP, int], group: str, changelog: str, kept_offset: int = NO_OFFSET) -> None:
        """Commit everything sent, once it is acknowledged, together with the consumer group's next offsets to read.

        Kept with them is where the last row stands in the topic `changelog` by then: `kept_offset` if none was sent.
        Raises `Fenced`, what a delivery failed with, or what aiokafka raises; then nothing of the transaction counts,
        and its producer is of no more use.
        """
        try:
            await self.submit(self._commit(offsets, group, changelog, kept_offset))
        except ProducerFenced as error:
            raise Fenced(f"partition {self.partition} {FENCED}") from error

    async def _commit(self, offsets: Mapping[TP, int], group: str, changelog: str, kept_offset: int) -> None:
        await self.delivered()
        if offsets:
            told = with_changelog_offset(self.lineage, self.last_offsets.get(changelog, kept_offset))
            by_aiokafka = {
                TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(offset, told)
                for tp, offset in offsets.items()
            }
            await self.producer.send_offsets_to_transaction(by_aiokafka, group)
        await self.producer.commit_transaction()

    async def delivered(self) -> None:
        """Returns when all replicas have what was sent. Raises what a delivery failed with."""
        for found in await asyncio.gather(*self.deliveries, return_exceptions=True):
            if isinstance(found, asyncio.CancelledError):
                raise NotSent(f"records for partition {self.partition} were given up while they were sent")
            if isinstance(found, BaseException):
                raise found


@dataclass
class _Pair:
    producers: list[AIOKafkaProducer]
    turn: int = 0
    open: Transaction | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Transactions:
    """The producers and open transactions of the partitions that this worker owns."""

    def __init__(
        self,
        application_id: str,
        new_producer: Callable[[str], AIOKafkaProducer],
        submit: Submit = on_this_loop,
    ) -> None:
        """`new_producer` makes an unstarted producer with the transactional id given. `submit` runs everything that has
        to do with producers, on the loop of another thread or on the caller's."""
        self._application_id = application_id
        self._new_producer = new_producer
        self._submit = submit
        self._pairs: dict[int, _Pair] = {}
        self.lineage = ""
        """Kept with committed offsets, see `stream.kafka.lineage`."""
        self.mark: Callable[[int], str] = lambda _: ""
        """Tells by partition what is kept beside that, of the time when a transaction is cut."""

    @property
    def partitions(self) -> frozenset[int]:
        return frozenset(self._pairs)

    async def own(self, partitions: Collection[int]) -> None:
        """Own exactly these partitions, with new producers, which fence whoever had them.

        When this returns, what former owners have committed stands in the topics, and nothing else that they did can
        still be committed. That goes for this worker's own past, too, so partitions that it keeps get new producers as
        well: a commit is confirmed before its markers are written, and those of a broker that restarts come late.
        Raises what aiokafka raises.
        """
        await self.stop()
        new = sorted(set(partitions))
        started = await asyncio.gather(*(self._submit(self._start(partition)) for partition in new))
        self._pairs |= zip(new, started, strict=True)

    def send(self, outgoing: Sequence[Outgoing]) -> asyncio.Future[list[int]]:
        """Queue records into the open transactions of their partitions, after what was queued before.

        In one step for all of them: each handing over to the producers' thread costs as much as scoring an event. What
        is returned is done when all replicas have them; its results are those of `Transaction.send`. Raises `KeyError`
        for a partition that is not owned.
        """
        pairs = [self._pairs[each.partition] for each in outgoing]
        return _told_by_commit(self._submit(self._deliver(outgoing, pairs)))

    async def _deliver(self, outgoing: Sequence[Outgoing], pairs: Sequence[_Pair]) -> list[int]:
        # Each in a task of its own, as in `_cut`: tasks begin in the order in which they are made, so that a partition
        # never waits for another one before it queues, while a cut that was asked for later comes first.
        return await asyncio.gather(*map(self._deliver_one, outgoing, pairs))

    async def _deliver_one(self, outgoing: Outgoing, pair: _Pair) -> int:
        async with pair.lock:
            if pair.open is None:
                pair.open = await self._begin(outgoing.partition, pair)
            delivery = pair.open.queue(outgoing.topic, outgoing.records, outgoing.headers)
        return await delivery

    async def cut(self, partitions: Collection[int]) -> dict[int, Transaction]:
        """The open transactions of these partitions; what is sent from here on belongs to the next ones.

        The transactions of the cut before must have been committed.
        """
        found = await self._submit(self._cut({partition: self._pairs[partition] for partition in partitions}))
        for partition, transaction in found.items():
            transaction.lineage = marked(self.lineage, self.mark(partition))
        return found

    async def _cut(self, pairs: Mapping[int, _Pair]) -> dict[int, Transaction]:
        found = await asyncio.gather(*(self._cut_one(partition, pair) for partition, pair in pairs.items()))
        return dict(zip(pairs, found, strict=True))

    async def _cut_one(self, partition: int, pair: _Pair) -> Transaction:
        async with pair.lock:
            found = pair.open or await self._begin(partition, pair)
            pair.open, pair.turn = None, (pair.turn + 1) % PRODUCERS_PER_PARTITION
        return found

    async def stop(self) -> None:
        """Stop all producers; what is open is aborted by whoever owns the partitions next, or by the broker."""
        pairs, self._pairs = list(self._pairs.values()), {}
        await asyncio.gather(*(self._submit(_stop(pair)) for pair in pairs))

    async def _start(self, partition: int) -> _Pair:
        ids = [transactional_id(self._application_id, partition, number) for number in range(PRODUCERS_PER_PARTITION)]
        producers = [self._new_producer(transactional_id) for transactional_id in ids]
        try:
            await asyncio.gather(*(producer.start() for producer in producers))
        except BaseException:
            await asyncio.gather(*(producer.stop() for producer in producers), return_exceptions=True)
            raise
        return _Pair(producers)

    async def _begin(self, partition: int, pair: _Pair) -> Transaction:
        producer = pair.producers[pair.turn]
        await producer.begin_transaction()
        return Transaction(partition, producer, self._submit)


async def _stop(pair: _Pair) -> None:
    for producer in pair.producers:
        try:
            await producer.stop()
        except KafkaError:  # fenced, or a broker that is away: nothing of it counts either way
            continue
