"""Sending many records of one partition as whole record batches: three times faster than record by record."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable
from typing import Any

from aiokafka import AIOKafkaProducer

NO_HEADERS: list[Any] = []

BATCH_BYTES = 900_000
"""Size of a record batch; below the broker's default limit for one message."""


async def send_records(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[tuple[bytes | None, bytes]]
) -> list[Awaitable[Any]]:
    """Queue key–value pairs for one partition, in order.

    Returns one awaitable per record batch, done when all replicas have it: its result is the metadata of the batch,
    whose `offset` is that of the batch's first record. A record larger than a batch travels alone.
    """
    acks: list[Awaitable[Any]] = []
    now_ms = int(time.time() * 1000)
    rest = list(records)
    while rest:
        batch = producer.create_batch()
        # The builder below `BatchBuilder.append`: it makes half of what a record costs, and a record is all we append.
        append = batch._builder.append
        count = len(rest)
        for number, (key, value) in enumerate(rest):
            if append(number, now_ms, key, value, NO_HEADERS) is None:
                count = number
                break
        batch._relative_offset = count
        batch.close()
        acks.append(await producer.send_batch(batch, topic, partition=partition))
        del rest[:count]
    return acks
