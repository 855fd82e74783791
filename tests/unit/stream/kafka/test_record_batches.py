"""Records of one partition become whole record batches, in order, and none is lost between two batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.record_batches import send_records

BATCH_BYTES = 500


class Producer:
    """Keeps the batches that it is given to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, list[tuple[bytes | None, bytes]]]] = []
        self.counts: list[int] = []

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(BATCH_BYTES, 0)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Awaitable[None]:
        content = memoryview(bytes(batch._build()))
        self.sent.append((topic, partition, [(record.key, record.value) for record in DefaultRecordBatch(content)]))
        self.counts.append(batch.record_count())
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


RECORDS = st.lists(st.tuples(st.none() | st.binary(max_size=20), st.binary(max_size=700)), max_size=30)


@given(RECORDS)
def test_all_records_arrive_in_order(records: list[tuple[bytes | None, bytes]]) -> None:
    producer: Any = Producer()

    async def send() -> None:
        await asyncio.gather(*await send_records(producer, "scores", 2, records))

    asyncio.run(send())
    assert [record for _, _, batch in producer.sent for record in batch] == records
    assert {(topic, partition) for topic, partition, _ in producer.sent} <= {("scores", 2)}
    assert producer.counts == [len(batch) for _, _, batch in producer.sent], "what the broker's offset is counted by"


def test_a_record_larger_than_a_batch_travels_alone() -> None:
    producer: Any = Producer()
    records: list[tuple[bytes | None, bytes]] = [(b"a", b"1"), (b"b", bytes(2 * BATCH_BYTES)), (b"c", b"3")]
    asyncio.run(send_records(producer, "scores", 0, records))
    assert [len(batch) for _, _, batch in producer.sent] == [1, 1, 1]
