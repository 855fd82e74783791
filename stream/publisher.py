"""Publishes events to the input topics in bulk: what the demo, `simulate` and the benchmarks use as the lenders.

Any producer will do for real lenders, as long as it uses the same partitioner for all four topics; this one uses Java's
(murmur2), with whole record batches, so that it does not bound what it feeds.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from events.types import Event, Kind, encode_event
from model.datasets import Dataset
from model.datasets.simulator import Simulator
from model.datasets.simulator.arrivals import delivered
from stream.clients import started
from stream.record_batches import BATCH_BYTES, send_records
from stream.topics import Topics

KeyedEvent = tuple[Kind, bytes, bytes, int]
"""Kind, key, value and event time in milliseconds."""

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
async def open_publisher(bootstrap_servers: str, topics: Topics) -> AsyncIterator[Publisher]:
    """A publisher for topics that exist; raises what aiokafka raises when the broker is out of reach."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES
    )
    async with started(producer):
        partitions = await producer.partitions_for(topics.inputs[0])
        yield Publisher(producer, topics, len(partitions))


def keyed(events: Iterable[Event]) -> Iterator[KeyedEvent]:
    """Typed events as they are published."""
    for event in events:
        yield event.KIND, event.user_id.encode(), encode_event(event), round(event.occurred_at.timestamp() * 1000)


def keyed_events_of(dataset: Dataset) -> Iterator[KeyedEvent]:
    """A data set's events as they are published. The simulator writes its bytes without making objects first."""
    return dataset.records() if isinstance(dataset, Simulator) else keyed(dataset.events())


def arrivals_of(dataset: Dataset, late_share: float, twice_share: float, seed: int) -> Iterator[KeyedEvent]:
    """A data set's events as a topic may get them: a share of them late, and so out of order, and a share twice.

    Without shares these are exactly `keyed_events_of`. Equal arguments give equal arrivals.
    """
    in_order = keyed_events_of(dataset)
    return delivered(in_order, seed, late_share, twice_share) if late_share or twice_share else in_order
