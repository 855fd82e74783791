"""The shortest loop over aiokafka: poll, compute, send whole record batches. No groups, no commits, no changelog.

The contenders `limit` and `recompute` use it, so it defines the greatest rate that the transport allows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import uvloop

from bench.contenders.task import Task
from stream.kafka.clients import aiokafka_consumer, aiokafka_producer, started
from stream.kafka.connection import KafkaConnection
from stream.kafka.record_batches import BATCH_BYTES, send_records

POLL_RECORDS = 4_000
POLL_MS = 100
UNACKNOWLEDGED_POLLS = 2

KeyedValues = list[tuple[bytes | None, bytes]]
Compute = Callable[[Mapping[Any, Sequence[Any]]], Mapping[int, KeyedValues]]
"""Takes a poll's records by topic and partition; returns keys and values by partition of the output topic."""


def run(task: Task, compute: Compute, poll_records: int = POLL_RECORDS) -> None:
    """Poll, compute and publish until the process is stopped."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_loop(task, compute, poll_records))


async def _loop(task: Task, compute: Compute, poll_records: int) -> None:
    kafka = KafkaConnection.parse(task.bootstrap_servers)
    consumer = aiokafka_consumer(
        kafka,
        *task.inputs,
        group_id=None,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 * 1024 * 1024,
        fetch_max_wait_ms=POLL_MS,
    )
    producer = aiokafka_producer(kafka, enable_idempotence=True, max_batch_size=BATCH_BYTES)
    unacknowledged: deque[asyncio.Future[Any]] = deque()
    async with started(consumer), started(producer):
        while True:
            polled = await consumer.getmany(timeout_ms=POLL_MS, max_records=poll_records)
            if not polled:
                continue
            outputs = compute(polled)
            while len(unacknowledged) >= UNACKNOWLEDGED_POLLS:
                await unacknowledged.popleft()
            queued = await asyncio.gather(
                *(send_records(producer, task.output, partition, records) for partition, records in outputs.items())
            )
            unacknowledged.append(asyncio.gather(*(ack for acks in queued for ack in acks)))
