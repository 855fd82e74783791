"""Forgets a user: tombstones in `profiles`, which the workers take in order, and the rows in PostgreSQL.

The workers own the states, and forget when they read a tombstone: row, changelog and the files on disk in the same
transaction as everything else of that moment (`stream.worker.checkpoint`). They pass it on to `scores` and `alerts`,
where the sink and other readers see it. A tombstone goes to every partition, because a lender's producers may have
another partitioner than ours; where a user is unknown, it changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from stream.kafka.clients import open_consumer, open_producer
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings

SEND_TIMEOUT_S = 30.0
LOOK_EVERY_S = 0.5


class NotForgotten(RuntimeError):
    """The tombstones could not be sent; the message says why and what to do."""


def send_tombstones(connection: KafkaConnection, settings: Settings, user_id: str) -> dict[int, int]:
    """Send one to every partition of `profiles`; returns their offsets. Raises `NotForgotten`."""
    topic = settings.topics.of_kind("profiles")
    producer = open_producer(connection, acks="all")
    try:
        partitions = producer.partitions_for(topic)
        if not partitions:
            raise NotForgotten(f"topic {topic} does not exist on {connection}; check --topic-prefix")
        sent = {
            partition: producer.send(topic, key=user_id.encode(), value=None, partition=partition)
            for partition in sorted(partitions)
        }
        return {partition: int(future.get(SEND_TIMEOUT_S).offset) for partition, future in sent.items()}
    except KafkaError as error:
        raise NotForgotten(
            f"{topic} on {connection}: {type(error).__name__}: {error}; check that this client may write there, and "
            "run the command again: a second tombstone does no harm"
        ) from error
    finally:
        producer.close()


def wait_for_workers(
    connection: KafkaConnection,
    settings: Settings,
    offsets: Mapping[int, int],
    wait_s: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> set[int]:
    """Wait until the workers have committed the tombstones at `offsets`; returns the partitions where they have not."""
    topic = settings.topics.of_kind("profiles")
    consumer: Any = open_consumer(connection, group_id=settings.application_id, enable_auto_commit=False)
    deadline_s = monotonic() + wait_s
    waiting = set(offsets)
    try:
        while True:
            for partition in sorted(waiting):
                if (consumer.committed(TopicPartition(topic, partition)) or 0) > offsets[partition]:
                    waiting.discard(partition)
            if not waiting or monotonic() >= deadline_s:
                return waiting
            sleep(LOOK_EVERY_S)
    finally:
        consumer.close()
