"""Records of one partition become whole record batches, in order, and none is lost between two batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.record import Header
from stream.kafka.record_batches import send_records

BATCH_BYTES = 500


class Producer:
    """Keeps the batches that it is given to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, list[tuple[bytes | None, bytes | None]]]] = []
        self.headers: list[list[Header]] = []
        self.counts: list[int] = []

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(BATCH_BYTES, 0)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Awaitable[None]:
        records = list(DefaultRecordBatch(memoryview(bytes(batch._build()))))
        self.sent.append((topic, partition, [(record.key, record.value) for record in records]))
        self.headers += [record.headers for record in records]
        self.counts.append(batch.record_count())
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


RECORDS = st.lists(st.tuples(st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=700)), max_size=30)
HEADERS = st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=300)), max_size=4)


@given(RECORDS)
def test_all_records_arrive_in_order(records: list[tuple[bytes | None, bytes | None]]) -> None:
    producer: Any = Producer()

    async def send() -> None:
        await asyncio.gather(*await send_records(producer, "scores", 2, records))

    asyncio.run(send())
    assert [record for _, _, batch in producer.sent for record in batch] == records
    assert {(topic, partition) for topic, partition, _ in producer.sent} <= {("scores", 2)}
    assert producer.counts == [len(batch) for _, _, batch in producer.sent], "what the broker's offset is counted by"


@given(st.lists(st.tuples(st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=300), HEADERS)))
def test_each_record_has_its_own_headers(records: list[tuple[bytes | None, bytes | None, list[Header]]]) -> None:
    producer: Any = Producer()
    pairs, headers = [(key, value) for key, value, _ in records], [own for _, _, own in records]
    asyncio.run(send_records(producer, "dead-letters", 2, pairs, headers))
    assert [record for _, _, batch in producer.sent for record in batch] == pairs
    assert producer.headers == headers


def test_a_record_larger_than_a_batch_travels_alone() -> None:
    producer: Any = Producer()
    records: list[tuple[bytes | None, bytes | None]] = [(b"a", b"1"), (b"b", bytes(2 * BATCH_BYTES)), (b"c", b"3")]
    asyncio.run(send_records(producer, "scores", 0, records))
    assert [len(batch) for _, _, batch in producer.sent] == [1, 1, 1]
