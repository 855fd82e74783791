"""Sends the records of one archived partition to a partition of a topic, each to the offset that is meant for it.

Either the topic counts on from where it is, or records get the offsets that they had: then offsets without a record are
taken up by aborted transactions, of which readers of committed records see nothing. Every acknowledgement must name the
offset that was meant, so nobody else may write meanwhile. Whatever moment this ends at, the topic has the beginning of
what is to be sent; a filler that was not complete is no more than a part of a gap.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from stream.event_archive.manifest import ArchiveError, Manifest
from stream.event_archive.reader import ArchiveReader
from stream.kafka.clients import aiokafka_consumer, aiokafka_producer, started
from stream.kafka.connection import KafkaConnection
from stream.kafka.record import Record
from stream.kafka.record_batches import BATCH_BYTES, send_records
from stream.kafka.topic_reader import TopicReader
from stream.topics import DEAD_LETTER_MAX_BYTES

PENDING_BATCHES = 8
END_OF_TRANSACTION_S = 30.0
LOOK_EVERY_S = 0.002
PROGRESS_RECORDS = 4_000
MOST_FILLERS = 50_000
"""Of one transaction, which the broker would end itself after a minute."""

FILLER = (b"foreshock.no-record", b"")
"""Key and value: a compacted topic takes no record without a key."""

Placed: TypeAlias = tuple[int, Record]
"""A record and the offset that is meant for it."""


@dataclass(frozen=True)
class Target:
    """The partition of `topic` that an archived one is sent to, from offset `base` on; None: to its own offsets."""

    manifest: Manifest
    topic: str
    base: int | None

    @property
    def name(self) -> str:
        return f"{self.topic}-{self.manifest.partition}"

    @property
    def start(self) -> int:
        """The offset at which it begins."""
        return self.base or 0

    @property
    def end(self) -> int:
        """The offset after the last, when all is there."""
        return self.manifest.next_offset if self.base is None else self.base + self.manifest.records

    def placed(self, archived: ArchiveReader) -> Iterator[Placed]:
        """All records with the offsets that are meant for them."""
        numbers = itertools.count(self.start)
        for record in archived.each(self.manifest.topic, self.manifest.partition):
            yield (record.offset if self.base is None else next(numbers)), record

    def foreign(self, what: str) -> ArchiveError:
        """The error that says that somebody else writes there."""
        return ArchiveError(f"{self.name} {what}: somebody else writes there; make the topic anew and import again")


def compare(
    reader: TopicReader, placed: Iterator[Placed], target: Target, end: int, on_progress: Callable[[int], None]
) -> tuple[int, Iterator[Placed]]:
    """Compare what the topic has up to before offset `end` with what is to be there; returns how many records are to be
    there, and those that follow.

    What the topic has compacted away or deleted since cannot be compared. Raises `ArchiveError`.
    """
    count = 0
    partition = target.manifest.partition
    begin, _ = reader.span(target.topic, partition)
    in_topic = (record for record in reader.each(target.topic, partition, max(target.start, begin)))
    found = next(in_topic, None)
    for place, record in placed:
        if place >= end:
            placed = itertools.chain([(place, record)], placed)
            break
        if found is not None and found.offset == place:
            if _content(found) != _content(record):
                raise target.foreign(f"has another record at offset {place} than the archive at {record.offset}")
            found = next(in_topic, None)
        elif found is not None and found.offset < place:
            break
        count += 1
        if count % PROGRESS_RECORDS == 0:
            on_progress(count)
    if found is not None and found.offset < end:
        raise target.foreign(f"has a record at offset {found.offset} that the archive has not")
    return count, placed


def _content(record: Record) -> tuple[Any, ...]:
    return (record.timestamp, record.key, record.value, [tuple(header) for header in record.headers or ()])


async def send(
    connection: KafkaConnection,
    placed: Iterator[Placed],
    target: Target,
    position: int,
    on_progress: Callable[[int], None],
) -> int:
    """Send records in order, where the topic goes on at offset `position`; returns how many, when the broker has
    acknowledged all. Raises `ArchiveError`, and `BrokerRefuses` where TLS or SASL fails."""
    try:
        async with AsyncExitStack() as clients:
            producer = await clients.enter_async_context(_producer(connection))
            sending = _Sending(connection, clients, producer, target, position)
            while await sending.next_batch(placed):
                on_progress(sending.sent)
            await sending.fill_up_to(target.end)
            return sending.sent
    except KafkaError as error:
        raise ArchiveError(
            f"{target.name} on {connection}: {type(error).__name__}: {error}; check max.message.bytes and "
            "message.timestamp.* of the topic, and that this client may write there, and run the command again"
        ) from error


@dataclass
class _Sending:
    """Batches on their way to one partition; `position` is the offset that the next record gets."""

    connection: KafkaConnection
    clients: AsyncExitStack
    producer: AIOKafkaProducer
    target: Target
    position: int
    sent: int = 0
    _filler: _Filler | None = None
    _ahead: Placed | None = None
    _pending: deque[tuple[Awaitable[Any], int]] = field(default_factory=deque)

    async def next_batch(self, placed: Iterator[Placed]) -> bool:
        """Send one batch of records without a gap between them; false when there is none left."""
        self._ahead = self._ahead or next(placed, None)
        if self._ahead is None:
            return False
        await self.fill_up_to(self._ahead[0])
        first, batch = self.position, self.producer.create_batch()
        while self._ahead is not None and self._ahead[0] == self.position and _append(batch, self._ahead[1]):
            self.position += 1
            self._ahead = next(placed, None)
        if self.position == first:
            raise ArchiveError(f"{self.target.name}: the record for offset {first} does not fit into a batch")
        batch.close()
        partition = self.target.manifest.partition
        self._pending.append((await self.producer.send_batch(batch, self.target.topic, partition=partition), first))
        self.sent += self.position - first
        if len(self._pending) >= PENDING_BATCHES:
            await self._acknowledged()
        return True

    async def fill_up_to(self, offset: int) -> None:
        """Take up the offsets before `offset`, and wait until all that was sent is there."""
        if offset < self.position:
            raise self.target.foreign(f"goes on at offset {self.position}, where the next record belongs to {offset}")
        while self._pending and (offset > self.position or self._ahead is None):
            await self._acknowledged()
        if offset > self.position:
            if self._filler is None:
                self._filler = await self.clients.enter_async_context(_filler_of(self.connection, self.target))
            await self._filler.fill(self.position, offset)
            self.position = offset

    async def _acknowledged(self) -> None:
        ack, offset = self._pending.popleft()
        found = (await ack).offset
        if found != offset:
            raise self.target.foreign(f"has put a record at offset {found} that should be at {offset}")


@dataclass(frozen=True)
class _Filler:
    """Takes up offsets of a partition by aborted transactions: the end of each takes one, records the others."""

    target: Target
    producer: AIOKafkaProducer
    consumer: AIOKafkaConsumer

    async def fill(self, position: int, stop: int) -> None:
        """Take up the offsets from `position`, at which the partition goes on, up to before `stop`."""
        topic, partition = self.target.topic, self.target.manifest.partition
        while position < stop:
            records = min(stop - position - 1, MOST_FILLERS)
            await self.producer.begin_transaction()
            # Without a record, too, the transaction has to end in this partition.
            self.producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(topic, partition))
            for ack in await send_records(self.producer, topic, partition, itertools.repeat(FILLER, records)):
                await ack
            await self.producer.abort_transaction()
            position += records + 1
            await self._wait_for_end(position)

    async def _wait_for_end(self, position: int) -> None:
        """Until the transaction has ended in the partition, too: that comes after its end is confirmed."""
        tp = TopicPartition(self.target.topic, self.target.manifest.partition)
        deadline_s = time.monotonic() + END_OF_TRANSACTION_S
        while (found := (await self.consumer.end_offsets([tp]))[tp]) != position:
            if found > position or time.monotonic() > deadline_s:
                raise self.target.foreign(f"goes on at offset {found}, and should at {position}")
            await asyncio.sleep(LOOK_EVERY_S)


async def settle(connection: KafkaConnection, target: Target) -> None:
    """End what an import that was killed has left open. Raises `ArchiveError`."""
    try:
        async with _producer(connection, _transactional_id(target)):
            pass
    except KafkaError as error:
        raise ArchiveError(f"{target.name} on {connection}: {type(error).__name__}: {error}") from error


def _transactional_id(target: Target) -> str:
    return f"foreshock-archive-{target.name}"


@asynccontextmanager
async def _filler_of(connection: KafkaConnection, target: Target) -> AsyncIterator[_Filler]:
    consumer = aiokafka_consumer(connection, enable_auto_commit=False)
    async with _producer(connection, _transactional_id(target)) as producer, started(consumer):
        await asyncio.sleep(0)  # aiokafka cannot stop a consumer whose tasks have yet to begin
        yield _Filler(target, producer, consumer)


def _append(batch: Any, record: Record) -> bool:
    headers = [(name, value) for name, value in record.headers or ()]
    return batch.append(timestamp=record.timestamp, key=record.key, value=record.value, headers=headers) is not None


@asynccontextmanager
async def _producer(
    connection: KafkaConnection, transactional_id: str | None = None
) -> AsyncIterator[AIOKafkaProducer]:
    producer = aiokafka_producer(
        connection,
        enable_idempotence=True,
        transactional_id=transactional_id,
        max_batch_size=BATCH_BYTES,
        max_request_size=2 * DEAD_LETTER_MAX_BYTES,
    )
    async with started(producer, connection):
        yield producer
