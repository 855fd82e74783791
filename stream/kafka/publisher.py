"""Publishes events to the input topics in bulk: what the demo, `simulate` and the benchmarks use as the lenders.

Any producer will do for real lenders, as long as it uses the same partitioner for all four topics; this one uses Java's
(murmur2), with whole record batches, so that it does not bound what it feeds.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from events.types import KeyedEvent, Kind
from stream.kafka.clients import aiokafka_producer, started
from stream.kafka.connection import KafkaConnection
from stream.kafka.record_batches import BATCH_BYTES, send_records
from stream.topics import Topics

CHUNK_EVENTS = 4_000


def partition_of(key: bytes, partitions: int) -> int:
    """Partition of a key as Java's default partitioner has it."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


class Publisher:
    """Sends events in order, a chunk at a time."""

    def __init__(self, producer: AIOKafkaProducer, topics: Topics, partitions: int) -> None:
        self._producer = producer
        self._topics = topics
        self._partitions = partitions
        self._partition_by_key: dict[bytes, int] = {}
        self.published: Counter[str] = Counter()

    async def publish(
        self, events: Iterable[KeyedEvent], on_progress: Callable[[int, int], None] = lambda _sent, _at_ms: None
    ) -> int:
        """Publish all events and return how many, once the broker has acknowledged them.

        `on_progress` is called after each chunk with the number sent and the event time reached.
        """
        total = 0
        iterator = iter(events)
        pending: list[Any] = []
        while chunk := list(itertools.islice(iterator, CHUNK_EVENTS)):
            await asyncio.gather(*pending)
            pending = await self._send(chunk)
            total += len(chunk)
            on_progress(total, chunk[-1][3])
        await asyncio.gather(*pending)
        return total

    async def _send(self, chunk: list[KeyedEvent]) -> list[Any]:
        by_target: dict[tuple[Kind, int], list[tuple[bytes, bytes]]] = {}
        for kind, key, value, _ in chunk:
            partition = self._partition_by_key.get(key)
            if partition is None:
                partition = self._partition_by_key[key] = partition_of(key, self._partitions)
            by_target.setdefault((kind, partition), []).append((key, value))
            self.published[kind] += 1
        return [
            ack
            for (kind, partition), records in by_target.items()
            for ack in await send_records(self._producer, self._topics.of_kind(kind), partition, records)
        ]


@asynccontextmanager
async def open_publisher(connection: KafkaConnection, topics: Topics) -> AsyncIterator[Publisher]:
    """A publisher for topics that exist; raises what aiokafka raises when the broker is out of reach."""
    producer = aiokafka_producer(connection, enable_idempotence=True, max_batch_size=BATCH_BYTES)
    async with started(producer):
        partitions = await producer.partitions_for(topics.inputs[0])
        yield Publisher(producer, topics, len(partitions))
