"""Records with header names that are not UTF-8. Kafka takes any bytes there; aiokafka and kafka-python refuse the batch
that holds one, and no consumer would come past it. Here they show such a name with `?` for each byte beyond ASCII.
And batches that `stream.kafka.unpacking` does not unpack, of which the record shows that stands for them.

Importing this module changes how both libraries read records. It costs nothing where names are UTF-8.
"""

from __future__ import annotations

import struct
from typing import Any

import kafka.record.default_records
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

from stream.kafka.unpacking import BatchTooLarge, unpack
from stream.kafka.varint import decode_varint

FRAME_BYTES = 12
"""Of a batch, before what its length counts: base offset (int64) and length (int32)."""

LAST_OFFSET_DELTA_AT = 23


def mend_names(buffer: bytearray, pos: int) -> None:
    """Make every header name of the record that begins at `pos` UTF-8, without changing its length."""

    def skip(pos: int, parts: int) -> int:
        for _ in range(parts):
            size, pos = decode_varint(buffer, pos)
            pos += max(size, 0)
        return pos

    for _ in range(4):  # length, attributes, timestamp, offset
        _, pos = decode_varint(buffer, pos)
    count, pos = decode_varint(buffer, skip(pos, 2))
    for _ in range(count):
        size, pos = decode_varint(buffer, pos)
        buffer[pos : pos + size] = _utf8(bytes(buffer[pos : pos + size]))
        pos = skip(pos + size, 1)


def _utf8(name: bytes) -> bytes:
    try:
        name.decode()
    except UnicodeDecodeError:
        return name.decode("ascii", "replace").replace("\N{REPLACEMENT CHARACTER}", "?").encode()
    return name


def _read_mended(batch: Any, read: Any) -> Any:
    """A record by a library's own parser, once more with its names mended where that fails for them."""
    try:
        return read(batch)
    except UnicodeDecodeError:
        batch._buffer = bytearray(batch._buffer)
        mend_names(batch._buffer, batch._pos)
        return read(batch)


class MendedBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # its library is not typed
    """aiokafka's batch as its Python code reads it; that in C ends at a name, or where a batch is too large."""

    def _maybe_uncompress(self) -> None:
        unpack(self, _DefaultRecordBatchPy._maybe_uncompress)

    def _read_msg(self) -> Any:
        return _read_mended(self, _DefaultRecordBatchPy._read_msg)


class OneBatch:
    """Of fetched bytes, the one batch that holds records from `offset` on; what follows is fetched again."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._batch: MendedBatch | None = None
        start = 0
        while self._batch is None and start < len(data):
            base, length = struct.unpack_from(">qi", data, start)
            end = start + FRAME_BYTES + length
            (last_offset_delta,) = struct.unpack_from(">i", data, start + LAST_OFFSET_DELTA_AT)
            if base + last_offset_delta >= offset:
                self._batch = MendedBatch(bytearray(data[start:end]))
            start = end

    def has_next(self) -> bool:
        return self._batch is not None

    def next_batch(self) -> MendedBatch | None:
        found, self._batch = self._batch, None
        return found


class FetchedRecords:
    """aiokafka's records of a fetched partition, with the bytes that they are made of."""

    def __init__(self, data: bytes) -> None:
        records = MemoryRecords(data)
        self.data = data
        self.has_next, self.next_batch, self.size_in_bytes = records.has_next, records.next_batch, records.size_in_bytes


def _next_record(fetched: Any) -> Any:
    """In the place of `PartitionRecords.__next__`."""
    try:
        return next(fetched._records_iterator)
    except StopIteration:
        fetched._records_iterator = None
        raise
    except (UnicodeDecodeError, BatchTooLarge):
        fetched._records = OneBatch(fetched._records.data, fetched.next_fetch_offset)
        fetched._records_iterator = fetched._unpack_records()
        return next(fetched)


def _read_by_kafka_python(
    batch: Any,
    read: Any = kafka.record.default_records.DefaultRecordBatch._read_msg,  # the original
) -> Any:
    return _read_mended(batch, read)


fetcher.MemoryRecords = FetchedRecords
PartitionRecords.__next__ = _next_record
kafka.record.default_records.DefaultRecordBatch._read_msg = _read_by_kafka_python
