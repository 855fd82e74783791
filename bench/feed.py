"""Publishing at a fixed rate whether or not the consumer keeps up (an open loop).

An event's record carries the time at which it was due, not the time at which it was sent. So a publisher that falls
behind makes measured delays longer, not shorter.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import uvloop
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from bench.arena import BenchError
from events.types import KeyedEvent
from stream.kafka.clients import aiokafka_client, aiokafka_producer, started
from stream.kafka.connection import KafkaConnection
from stream.kafka.publisher import partition_of
from stream.kafka.record_batches import BATCH_BYTES, NO_HEADERS, send_records
from stream.topics import Topics

T = TypeVar("T")
TICK_S = 0.02
PACE_S = 0.002
"""Events that fall due within this time go in one request. Kafka's own producer waits 5 ms by default."""

LEAD_S = 0.2
ENCODING_S_PER_EVENT = 50e-6
"""Time allowed for encoding before the first event is due; more would make the first events late."""

ALL_REPLICAS = -1
ACKNOWLEDGE_LIMIT_MS = 30_000


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop. A large workload is kept out of garbage collection, whose pauses would be measured."""
    gc.collect()
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    finally:
        gc.unfreeze()


async def feed_each(
    kafka: KafkaConnection,
    topics: Topics,
    records: Sequence[KeyedEvent],
    rate_per_s: float,
    pace_s: float = PACE_S,
) -> None:
    """Publish each event within `pace_s` after it is due; returns once all are acknowledged.

    Everything is encoded before the first event is due. Publisher and worker share the machine; a client that encoded
    event by event meanwhile would use so much of it that the measurement would show the client.

    Raises `BenchError` when the broker refuses events.
    """
    client = aiokafka_client(kafka)
    try:
        await client.bootstrap()
        await client.set_topics(topics.inputs)
        partitions = len(client.cluster.partitions_for_topic(topics.inputs[0]) or ())
        start_s = time.time() + LEAD_S + len(records) * ENCODING_S_PER_EVENT
        requests = timetable(topics, records, partitions, _leaders(client), start_s, rate_per_s, pace_s)
        for node in {node for _, node, _ in requests}:
            if not await client.ready(node):
                raise BenchError(f"broker {node} of {kafka} does not answer")
        answers: list[asyncio.Task[Any]] = []
        for moment_s, node, request in requests:
            if (early_s := moment_s - time.time()) > 0:
                await asyncio.sleep(early_s)
            answers.append(asyncio.create_task(client.send(node, request)))
        for answer in await asyncio.gather(*answers):
            for topic, of_partitions in answer.topics:
                for partition, code, *_ in of_partitions:
                    if code:
                        raise BenchError(f"events for {topic}-{partition} were refused: {for_code(code).__name__}")
    finally:
        await client.close()


def timetable(
    topics: Topics,
    records: Sequence[KeyedEvent],
    partitions: int,
    leader_of: Callable[[str, int], int],
    start_s: float,
    rate_per_s: float,
    pace_s: float = PACE_S,
) -> list[tuple[float, int, ProduceRequest]]:
    """The requests in order, each with the time to send it (seconds since 1970-01-01) and the broker that gets it.

    An event is sent at the first whole multiple of `pace_s` from `start_s` on at which it is due.
    `leader_of` names the broker that leads a topic's partition.
    """
    together: dict[tuple[int, int], dict[tuple[str, int], list[tuple[int, bytes, bytes]]]] = {}
    partition_by_key: dict[bytes, int] = {}
    for number, (kind, key, value, _) in enumerate(records):
        partition = partition_by_key.get(key)
        if partition is None:
            partition = partition_by_key[key] = partition_of(key, partitions)
        topic, after_s = topics.of_kind(kind), number / rate_per_s
        by_target = together.setdefault((int(after_s / pace_s) + 1, leader_of(topic, partition)), {})
        by_target.setdefault((topic, partition), []).append((int((start_s + after_s) * 1000), key, value))
    return [(start_s + tick * pace_s, node, _request(by_target)) for (tick, node), by_target in together.items()]


def _request(by_target: Mapping[tuple[str, int], Sequence[tuple[int, bytes, bytes]]]) -> ProduceRequest:
    by_topic: dict[str, list[tuple[int, bytes]]] = {}
    for (topic, partition), records in by_target.items():
        builder = DefaultRecordBatchBuilder(
            magic=2,
            compression_type=0,
            is_transactional=0,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            batch_size=BATCH_BYTES,
        )
        for number, (due_ms, key, value) in enumerate(records):
            builder.append(number, due_ms, key, value, NO_HEADERS)
        by_topic.setdefault(topic, []).append((partition, bytes(builder.build())))
    return ProduceRequest(None, ALL_REPLICAS, ACKNOWLEDGE_LIMIT_MS, list(by_topic.items()))


def _leaders(client: AIOKafkaClient) -> Callable[[str, int], int]:
    @functools.cache
    def leader_of(topic: str, partition: int) -> int:
        return int(client.cluster.leader_for_partition(TopicPartition(topic, partition)))

    return leader_of


async def feed_bulk(
    kafka: KafkaConnection, topics: Topics, records: Sequence[KeyedEvent], rate_per_s: float
) -> tuple[float, float]:
    """Every `TICK_S`, publish the events that are due in whole record batches; returns when publishing began and ended.

    Both times are of `time.monotonic`. Preparation happens before the beginning.
    """
    producer = aiokafka_producer(kafka, enable_idempotence=True, max_batch_size=BATCH_BYTES)
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
        return start_s, time.monotonic()
