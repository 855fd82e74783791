"""Publishes events to the input topics in bulk: for the demo, `simulate` and the benchmarks.

In production, lenders may use any producer that has the same partitioner for all four topics. This one uses that of the
Java client (murmur2), and sends whole record batches, so that it is faster than the workers that it feeds.
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
    """Partition of a key by the Java client's default partitioner."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


class Publisher:
    """Publishes events in order, in chunks of `CHUNK_EVENTS`."""

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
    """A publisher for topics that exist.

    Raises `KafkaError` of aiokafka when no broker can be reached, `BrokerRefuses` when TLS or SASL fails.
    """
    producer = aiokafka_producer(connection, enable_idempotence=True, max_batch_size=BATCH_BYTES)
    async with started(producer, connection):
        partitions = await producer.partitions_for(topics.inputs[0])
        yield Publisher(producer, topics, len(partitions))
