"""What makes an application's part in a partition final: its transactional ids, taken by somebody else.

Whoever starts producers with them ends what its workers have open, so that nothing more of theirs can become committed.
With one of them, the last transaction of the partition is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from stream.kafka.clients import aiokafka_producer
from stream.kafka.connection import KafkaConnection
from stream.kafka.lineage import HANDED_OVER, Committed, marked
from stream.kafka.record_batches import BATCH_BYTES, send_records
from stream.kafka.transactions import PRODUCERS_PER_PARTITION
from stream.topics import transactional_id

TRANSACTION_TIMEOUT_MS = 60_000
MAX_REQUEST_BYTES = 8 * 1024 * 1024


class Fence:
    """The producers of one partition of an application that hands over."""

    def __init__(self, connection: KafkaConnection, giver: str, partition: int) -> None:
        self._giver = giver
        self._partition = partition
        self._producers: list[AIOKafkaProducer] = [
            aiokafka_producer(
                connection,
                transactional_id=transactional_id(giver, partition, number),
                enable_idempotence=True,
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
                max_batch_size=BATCH_BYTES,
                max_request_size=MAX_REQUEST_BYTES,
            )
            for number in range(PRODUCERS_PER_PARTITION)
        ]

    async def put_up(self) -> None:
        """Begin; when this returns, what the giver has committed is final."""
        await asyncio.gather(*(producer.start() for producer in self._producers))

    async def hand_over(
        self, taker: str, order_topic: str, records: Sequence[bytes], ends: Mapping[str, Committed]
    ) -> None:
        """Tell of the hand-over in the giver's journal and with its offsets, in one transaction.

        Raises `ProducerFenced` when a worker of the giver came first, after which nothing of it counts.
        """
        producer = self._producers[0]
        offsets = {
            TopicPartition(topic, self._partition): OffsetAndMetadata(
                kept.offset, marked(kept.lineage, f"{HANDED_OVER}{taker}")
            )
            for topic, kept in ends.items()
        }
        await producer.begin_transaction()
        told = await send_records(producer, order_topic, self._partition, [(None, record) for record in records])
        await asyncio.gather(*told)
        await producer.send_offsets_to_transaction(offsets, self._giver)
        await producer.commit_transaction()

    async def take_down(self) -> None:
        """Stop; an application whose partition was not handed over can go on by itself."""
        for producer in self._producers:
            with suppress(KafkaError):  # fenced, or a broker that is away
                await producer.stop()
