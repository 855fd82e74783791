"""The parts of the transport that need no broker: what it makes of a record."""

from __future__ import annotations

from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

import stream.transport  # noqa: F401
from stream.intake import RawRecord


def test_records_carry_what_is_read_of_them() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 10_000)
    builder.append(0, 1_700_000_000_000, b"u1", b"{}", [])
    builder.append(1, 1_700_000_000_001, None, None, [("trace", b"x")])
    records = PartitionRecords(
        TopicPartition("activity", 3), MemoryRecords(bytes(builder.build())), [], 0, None, None, True, 0
    )
    assert list(records) == [
        RawRecord("activity", 3, 0, 1_700_000_000_000, b"u1", b"{}"),
        RawRecord("activity", 3, 1, 1_700_000_000_001, None, None),
    ]
