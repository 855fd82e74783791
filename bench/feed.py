"""Publishing at a fixed rate, whether or not anyone keeps up: an open loop, as the world is.

An event's record carries the time at which it was due, not the one at which it was sent: a publisher that falls behind
makes the delays longer, as it should, and not shorter.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import uvloop
from aiokafka import AIOKafkaProducer

from stream.clients import started
from stream.publisher import KeyedEvent, partition_of
from stream.record_batches import BATCH_BYTES, send_records
from stream.topics import Topics

T = TypeVar("T")
TICK_S = 0.02
LEAD_S = 0.2


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the fast event loop, without pauses for collecting a large workload's garbage."""
    gc.collect()
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    finally:
        gc.unfreeze()


async def feed_each(servers: str, topics: Topics, records: Sequence[KeyedEvent], rate_per_s: float) -> None:
    """Publish each event by itself when it is due, without waiting for others; returns once all are acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True, linger_ms=0)
    async with started(producer):
        partitions = len(await producer.partitions_for(topics.inputs[0]))
        targets = [partition_of(key, partitions) for _, key, _, _ in records]
        start_s = time.time() + LEAD_S
        for number, ((kind, key, value, _), partition) in enumerate(zip(records, targets, strict=True)):
            due_s = start_s + number / rate_per_s
            while (early_s := due_s - time.time()) > 0:
                await asyncio.sleep(early_s)
            await producer.send(
                topics.of_kind(kind), value, key=key, partition=partition, timestamp_ms=int(due_s * 1000)
            )
        await producer.flush()


async def feed_bulk(servers: str, topics: Topics, records: Sequence[KeyedEvent], rate_per_s: float) -> float:
    """Publish in whole record batches, as many events each `TICK_S` as are due; returns the seconds that it took."""
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES
    )
    async with started(producer):
        partitions = len(await producer.partitions_for(topics.inputs[0]))
        targets = [(topics.of_kind(kind), partition_of(key, partitions)) for kind, key, _, _ in records]
        start_s = time.monotonic()
        sent = 0
        pending: list[Any] = []
        while sent < len(records):
            due = min(int((time.monotonic() - start_s) * rate_per_s), len(records))
            by_target: dict[tuple[str, int], list[tuple[bytes | None, bytes]]] = {}
            for target, (_, key, value, _) in zip(targets[sent:due], records[sent:due], strict=True):
                by_target.setdefault(target, []).append((key, value))
            sent = due
            await asyncio.gather(*pending)
            pending = [
                ack
                for (topic, partition), chunk in by_target.items()
                for ack in await send_records(producer, topic, partition, chunk)
            ]
            await asyncio.sleep(TICK_S)
        await asyncio.gather(*pending)
        return time.monotonic() - start_s
