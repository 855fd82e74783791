"""Where the logs of partitions end, with records of transactions that are not completed yet."""

from __future__ import annotations

from collections.abc import Collection

from faust.types import TP
from kafka import TopicPartition

from stream.kafka.clients import open_consumer
from stream.kafka.connection import KafkaConnection


def log_ends(connection: KafkaConnection, partitions: Collection[TP]) -> dict[TP, int]:
    """By partition, the offset after its last record that all replicas have (its high watermark). Blocks.

    Readers of committed records are given an earlier end while a transaction is open, and also for a moment after its
    commit was confirmed: its marker is written later. Raises `KafkaError`, `OSError`.
    """
    consumer = open_consumer(connection, group_id=None, enable_auto_commit=False, isolation_level="read_uncommitted")
    try:
        found = consumer.end_offsets([TopicPartition(tp.topic, tp.partition) for tp in partitions])
    finally:
        consumer.close()
    return {TP(tp.topic, tp.partition): int(end) for tp, end in found.items()}
