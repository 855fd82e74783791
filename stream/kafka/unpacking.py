"""Compressed record batches, unpacked up to a limit: some kilobytes may hold gigabytes, and a worker that unpacked them
would end for want of memory, as would each that reads the same topic after it.

Importing this module changes how aiokafka and kafka-python unpack batches. In the place of a batch that is too large
stands one record without key and value, at the batch's last offset, with the header `TOO_LARGE_HEADER`. Knows nothing
of what the records mean.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any

import aiokafka.codec
import aiokafka.record.default_records
import cramjam
import kafka.codec
import kafka.record.default_records
from aiokafka.codec import _detect_xerial_stream
from aiokafka.record._crecords import default_records as compiled

from stream.kafka.record import MOST_UNPACKED_BYTES, TOO_LARGE_HEADER
from stream.kafka.varint import encode_varint

LZ4_RATIO, ZSTD_RATIO, GZIP_RATIO = 255, 1 << 15, 1_032
"""How many times its size a batch may have unpacked, at most. Snappy tells, and gzip can be asked for so much."""

FIRST_ROOM_RATIO, ROOM_GROWS = 8, 4
GZIP = 31
"""For zlib: data in the format of gzip."""

WORTH_BYTES = 1 << 16
"""From so many unpacked bytes on, to unpack gzip at once into as much room as it takes is faster: 8 times of 10 MB."""


class BatchTooLarge(ValueError):
    """A batch has more than `MOST_UNPACKED_BYTES`."""

    def __init__(self) -> None:
        super().__init__(f"a record batch has more than {MOST_UNPACKED_BYTES:,} bytes when it is unpacked")


def gzip_decode(payload: Any) -> bytes | bytearray:
    """All members of a gzip stream."""
    return _gzip_at_once(payload) or _gzip_in_parts(payload)


def _gzip_at_once(payload: Any) -> bytearray | None:
    """A gzip stream of one member, at whose end its size stands. None where that does not hold, or it is small."""
    size = int.from_bytes(payload[-4:], "little")
    if not WORTH_BYTES <= size <= min(MOST_UNPACKED_BYTES, GZIP_RATIO * len(payload)):
        return None
    unpacked = bytearray(size)
    try:
        filled = cramjam.gzip.decompress_into(payload, unpacked)
    except cramjam.DecompressionError:
        return None
    return unpacked if filled == size else None


def _gzip_in_parts(payload: Any) -> bytes:
    parts: list[bytes] = []
    room, rest = MOST_UNPACKED_BYTES, bytes(payload)
    while rest:
        member = zlib.decompressobj(GZIP)
        parts.append(member.decompress(rest, room + 1))
        room -= len(parts[-1])
        if room < 0:
            raise BatchTooLarge
        if not member.eof:
            raise EOFError("a gzip stream ends before its end-of-stream marker")
        rest = member.unused_data.lstrip(b"\0")
    return b"".join(parts)


def snappy_decode(
    payload: Any,
    decode: Callable[[Any], bytes] = aiokafka.codec.snappy_decode,  # the original
) -> bytes:
    """Snappy, in one block or in Xerial's blocks, each of which begins with its size."""
    data = memoryview(payload)
    if sum(_block_bytes(data[start:]) for start in _snappy_blocks(data)) > MOST_UNPACKED_BYTES:
        raise BatchTooLarge
    return decode(payload)


def lz4_decode(
    payload: Any,
    decode: Callable[[Any], bytes] = aiokafka.codec.lz4_decode,  # the original
) -> bytes:
    """LZ4 frames."""
    fits = len(payload) * LZ4_RATIO <= MOST_UNPACKED_BYTES
    return decode(payload) if fits else _unpacked(payload, cramjam.lz4.decompress_into)


def zstd_decode(
    payload: Any,
    decode: Callable[[Any], bytes] = aiokafka.codec.zstd_decode,  # the original
) -> bytes:
    """Zstandard frames."""
    fits = len(payload) * ZSTD_RATIO <= MOST_UNPACKED_BYTES
    return decode(payload) if fits else _unpacked(payload, cramjam.zstd.decompress_into)


def _unpacked(payload: Any, decompress_into: Callable[[Any, bytearray], int]) -> bytes:
    """Unpacked into as much room as it takes; what fills the largest room, or is damaged, counts as too large."""
    room = max(FIRST_ROOM_RATIO * len(payload), 1 << 20)
    while True:
        buffer = bytearray(min(room, MOST_UNPACKED_BYTES))
        try:
            size = decompress_into(payload, buffer)
        except cramjam.DecompressionError as error:
            if len(buffer) == MOST_UNPACKED_BYTES:
                raise BatchTooLarge from error
            room *= ROOM_GROWS
        else:
            return bytes(memoryview(buffer)[:size])


def _snappy_blocks(data: memoryview) -> Iterable[int]:
    """Where blocks begin."""
    if not _detect_xerial_stream(data):
        return [0]
    starts, at = [], 16
    while at + 4 < len(data):
        starts.append(at + 4)
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return starts


def _block_bytes(data: memoryview) -> int:
    """The size with which a Snappy block begins."""
    value = 0
    for place, byte in enumerate(data[:5]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return value


def stand_in(batch: Any) -> None:
    """Put one record in the place of all those of a batch, in its buffer."""
    name, content = TOO_LARGE_HEADER.encode(), str(batch._num_records).encode()
    body = b"".join(
        (
            b"\0",  # attributes
            encode_varint(0),  # since the batch's time
            encode_varint(batch.last_offset_delta),
            encode_varint(-1),  # no key
            encode_varint(-1),  # no value
            encode_varint(1),
            encode_varint(len(name)) + name,
            encode_varint(len(content)) + content,
        )
    )
    batch._buffer, batch._pos = bytearray(encode_varint(len(body)) + body), 0
    batch._num_records, batch._decompressed = 1, True


def unpack(batch: Any, original: Callable[[Any], None]) -> None:
    """Unpack a batch of a library's own kind, or let one record stand for it."""
    try:
        original(batch)
    except BatchTooLarge:
        stand_in(batch)


def _unpack_by_kafka_python(
    batch: Any,
    original: Any = kafka.record.default_records.DefaultRecordBatch._maybe_uncompress,
) -> None:
    unpack(batch, original)


for _module in (
    aiokafka.record.default_records,
    compiled,
    kafka.record.default_records,
):
    for _decode in (gzip_decode, snappy_decode, lz4_decode, zstd_decode):
        setattr(_module, _decode.__name__, _decode)
# kafka-python looks for a package of its own for each codec, where aiokafka reads all of them with one (cramjam).
kafka.codec.has_snappy = aiokafka.codec.has_snappy
kafka.codec.has_lz4 = aiokafka.codec.has_lz4
kafka.codec.has_zstd = aiokafka.codec.has_zstd
kafka.record.default_records.DefaultRecordBatch._maybe_uncompress = _unpack_by_kafka_python
