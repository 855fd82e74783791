"""A record with any header names is read by both libraries, and so is everything beside it."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder, _DefaultRecordBatchBuilderPy
from aiokafka.structs import TopicPartition
from hypothesis import example, given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch

import stream.kafka.consumer_thread  # noqa: F401  # which tells aiokafka what to make of a record
from stream.kafka.header_names import FetchedRecords

Sent = list[tuple[bytes | None, bytes | None, list[tuple[bytes, bytes | None]]]]
"""Key, value and headers of each record."""

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
NAMES = st.binary(max_size=6)
RECORDS = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=9),
        st.none() | st.binary(max_size=40),
        st.lists(st.tuples(NAMES, st.none() | NAMES), max_size=4),
    ),
    min_size=1,
    max_size=5,
)


class Name(str):
    """A header's name that a builder writes as these bytes."""

    def __new__(cls, raw: bytes) -> Name:
        made = super().__new__(cls, "x" * len(raw))
        made.raw = raw
        return made

    raw: bytes

    def encode(self, *_: Any) -> bytes:
        return self.raw


def batch(records: Sent, base: int, codec: int) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, 0, 100_000)
    for number, (key, value, headers) in enumerate(records):
        builder.append(number, 7, key, value, [(Name(name), content) for name, content in headers])
    return base.to_bytes(8, "big") + bytes(builder.build())[8:]


def shown(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 128 else "?" for byte in name)


def expected(batches: list[Sent]) -> list[Any]:
    return [
        (offset, key, value, [(shown(name), content) for name, content in headers])
        for offset, (key, value, headers) in enumerate(record for records in batches for record in records)
    ]


def read(batches: list[tuple[int, bytes]], start: int) -> list[Any]:
    """As a consumer does, of batches and where each ends: what one answer did not give is fetched again."""
    found: list[Any] = []
    while data := b"".join(content for end, content in batches if end > start):
        records = PartitionRecords(TopicPartition("t", 0), FetchedRecords(data), [], start, None, None, True, 1)
        found += [(each.offset, each.key, each.value, list(each.headers)) for each in records]
        assert records.next_fetch_offset > start
        start = records.next_fetch_offset
    return found


@pytest.mark.parametrize("codec", CODECS)
@given(st.lists(RECORDS, min_size=1, max_size=4), st.integers(0, 5))
@example([[(b"k", b"v", [(b"\xff\xfe", b"x")])], [(b"k", b"v", [(b"ok", None)])]], 0)
@example([[(b"k", b"v", [])] * 3, [(b"k", b"\xff\xfe", [(b"ok", b""), (b"\xff\xfe", b"\xff\xfe")])] * 2], 1)
def test_any_names_are_read_and_everything_beside_them(codec: str, batches: list[Sent], start: int) -> None:
    held: list[tuple[int, bytes]] = []
    end = 0
    for records in batches:
        content = batch(records, end, CODECS[codec])
        end += len(records)
        held.append((end, content))
    assert read(held, start) == expected(batches)[start:]


@given(RECORDS)
def test_kafka_python_reads_them_too(records: Sent) -> None:
    for codec in CODECS.values():
        found = [
            (each.offset, each.key, each.value, each.headers) for each in DefaultRecordBatch(batch(records, 0, codec))
        ]
        assert found == expected([records])


def test_a_batch_of_usual_names_is_read_by_the_code_in_c() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 100_000)
    builder.append(0, 7, b"k", b"v", [("a", b"b")])
    records = FetchedRecords(bytes(builder.build()))
    (record,) = PartitionRecords(TopicPartition("t", 0), records, [], 0, None, None, True, 1)
    assert record.headers == [("a", b"b")]
