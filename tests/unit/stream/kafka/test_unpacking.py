"""Compressed batches, up to the limit as the libraries unpack them, and beyond it one record that says so."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from typing import Any

import aiokafka.codec
import cramjam
import kafka.record.default_records
import pytest
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka import unpacking
from stream.kafka.changelog import Block, Unreadable, cut
from stream.kafka.header_names import FetchedRecords
from stream.kafka.record import TOO_LARGE_HEADER, RawRecord, unread_records
from stream.kafka.unpacking import BatchTooLarge
from stream.kafka.varint import decode_varint, encode_varint
from stream.scoring.intake import Intake

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
LIMIT = 1 << 20

ENCODE = {
    "gzip": aiokafka.codec.gzip_encode,
    "snappy": aiokafka.codec.snappy_encode,
    "lz4": aiokafka.codec.lz4_encode,
    "zstd": aiokafka.codec.zstd_encode,
}
DECODE: dict[str, Any] = {name: getattr(unpacking, f"{name}_decode") for name in CODECS}


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST_UNPACKED_BYTES", LIMIT)


def batch(codec: str, base: int, values: Sequence[bytes | None], key: bytes | None = b"u") -> bytes:
    builder = DefaultRecordBatchBuilder(2, CODECS[codec], 0, -1, -1, 0, 1 << 30)
    for number, value in enumerate(values):
        builder.append(number, 0, key, value, [("h", b"1")])
    made = bytearray(builder.build())
    made[:8] = base.to_bytes(8, "big")
    return bytes(made)


def records_of(data: bytes, at: int = 0) -> tuple[list[Any], int]:
    """What aiokafka's fetcher makes of a partition's bytes, and where it goes on, as often as it has to fetch."""
    found: list[Any] = []
    while at_of(data, at) is not None:
        rest: Any = FetchedRecords(data[at_of(data, at) :])
        fetched = PartitionRecords(TopicPartition("activity", 0), rest, [], at, None, None, True, 0)
        found += list(fetched)
        at = fetched.next_fetch_offset
    return found, at


def at_of(data: bytes, offset: int) -> int | None:
    """Where the batch begins that holds an offset."""
    start = 0
    while start < len(data):
        base, length = (
            int.from_bytes(data[start : start + 8], "big"),
            int.from_bytes(data[start + 8 : start + 12], "big"),
        )
        if base + int.from_bytes(data[start + 23 : start + 27], "big") >= offset:
            return start
        start += 12 + length
    return None


@pytest.mark.parametrize("codec", CODECS)
@given(content=st.one_of(st.binary(min_size=1, max_size=5_000), st.integers(1, LIMIT).map(bytes)))
def test_up_to_the_limit_everything_is_unpacked_as_before(codec: str, content: bytes) -> None:
    assert DECODE[codec](ENCODE[codec](content)) == content


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1, 40 * LIMIT])
def test_beyond_the_limit_nothing_is(codec: str, size: int) -> None:
    packed = ENCODE[codec](bytes(size))
    if size == LIMIT:
        assert len(DECODE[codec](packed)) == LIMIT
    else:
        with pytest.raises(BatchTooLarge, match="1,048,576 bytes"):
            DECODE[codec](packed)


def test_snappy_without_blocks_and_gzip_of_several_members() -> None:
    assert unpacking.snappy_decode(bytes(cramjam.snappy.compress_raw(b"a" * 300))) == b"a" * 300
    with pytest.raises(BatchTooLarge):
        unpacking.snappy_decode(bytes(cramjam.snappy.compress_raw(bytes(LIMIT + 1))))
    assert unpacking.gzip_decode(gzip.compress(b"a") + gzip.compress(b"b") + b"\0\0") == b"ab"
    with pytest.raises(BatchTooLarge):
        unpacking.gzip_decode(gzip.compress(bytes(LIMIT)) + gzip.compress(b"b"))
    with pytest.raises(EOFError):
        unpacking.gzip_decode(gzip.compress(b"abc" * 100)[:-9])


@given(
    st.lists(st.integers(0, 3 * unpacking.WORTH_BYTES).map(bytes) | st.binary(max_size=100), min_size=1, max_size=3),
    st.sampled_from([b"", b"\0\0"]),
)
def test_gzip_of_any_size_and_number_of_members(contents: list[bytes], end: bytes) -> None:
    assert unpacking.gzip_decode(memoryview(b"".join(map(gzip.compress, contents)) + end)) == b"".join(contents)


@pytest.mark.parametrize("size", [100, 2 * unpacking.WORTH_BYTES])
def test_gzip_that_is_damaged_at_its_end_is_an_error(size: int) -> None:
    packed = bytearray(gzip.compress(bytes(size)))
    for place, error in ((-1, zlib.error), (-6, zlib.error), (slice(-3, None), EOFError)):
        damaged = bytearray(packed)
        if isinstance(place, slice):
            del damaged[place]
        else:
            damaged[place] ^= 1
        with pytest.raises(error):
            unpacking.gzip_decode(bytes(damaged))


@pytest.mark.parametrize("codec", CODECS)
def test_one_record_stands_for_a_batch_that_is_too_large_and_what_surrounds_it_is_read(codec: str) -> None:
    large = [bytes(LIMIT // 2)] * 3
    data = batch(codec, 0, [b"a", b"b"]) + batch(codec, 2, large) + batch(codec, 5, [b"c"])
    found, end = records_of(data)
    assert [(record.offset, record.value) for record in found] == [(0, b"a"), (1, b"b"), (4, None), (5, b"c")]
    assert [unread_records(record) for record in found] == [None, None, 3, None]
    assert end == 6
    (letter,) = Intake("activity").take_all(found[2:3], 10**13)[1]
    assert (letter.reason, letter.offset, letter.key, letter.value) == ("too_large", 4, None, None)
    assert letter.message.startswith("3 records up to this offset")


@pytest.mark.parametrize("codec", CODECS)
def test_kafka_python_reads_the_same(codec: str) -> None:
    read: Any = kafka.record.default_records.DefaultRecordBatch
    (record,) = list(read(batch(codec, 2, [bytes(LIMIT // 2)] * 3)))
    assert (record.offset, unread_records(record)) == (4, 3)
    assert [record.value for record in read(batch(codec, 2, [b"a", b"b"]))] == [b"a", b"b"]


def test_in_a_changelog_such_a_batch_is_an_error_and_no_gap() -> None:
    data = batch("zstd", 0, [bytes(LIMIT)] * 2)
    with pytest.raises(Unreadable, match="cannot be decoded"):
        cut(memoryview(data))
    with pytest.raises(Unreadable, match="up to offset 1 that no worker has written"):
        Block.of(records_of(data)[0], 0, 2)


def test_an_ordinary_record_never_stands_for_others() -> None:
    for value, key in ((None, b"u"), (b"x", None)):
        (record,) = DefaultRecordBatch(batch("gzip", 0, [value], key))
        assert unread_records(record) is None


@pytest.mark.parametrize("content", [b"1" * 5_000, b"-1", b"", b"3 ", "²".encode(), None])
def test_a_header_that_a_producer_made_up_makes_a_dead_letter_and_no_error(content: bytes | None) -> None:
    record = RawRecord("activity", 0, 5, 0, None, None, ((TOO_LARGE_HEADER, content),))
    assert unread_records(record) is None
    (letter,) = Intake("activity").take_all([record], 10**13)[1]
    assert letter.reason == "null_key"


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_numbers_of_variable_length(value: int) -> None:
    written = encode_varint(value)
    assert decode_varint(written, 0) == (value, len(written))
