"""Targets of what a broker sends: compressed batches, changelogs and the rows in them."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import cast

import cramjam
import google_crc32c
import numpy as np
from aiokafka.codec import lz4_encode, snappy_encode, zstd_encode
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from faust.types import TP

from bench.fuzzing.target import Check, Target, require
from stream.kafka import unpacking
from stream.kafka.changelog import Unreadable, cut, message_set_of
from stream.kafka.record import MOST_UNPACKED_BYTES
from stream.state.row import StateMismatch, blank_row, row_dtype
from stream.state.slab import Slab
from stream.structured import Columns

TAIL = TP("changelog", 0)
_HEAD = struct.Struct(">iiih9siihqqi")  # up to the number of aborted transactions
_PLACES = {"length": 8, "magic": 16, "checksum": 17, "checked": 21, "size": 61}
_KEPT_BYTES = 1 << 20


def record_batch(pairs: Sequence[tuple[bytes | None, bytes | None]], start: int = 0, compression: int = 0) -> bytes:
    """A record batch as a producer makes it, at an offset."""
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=compression, is_transactional=0, producer_id=7, producer_epoch=0, base_sequence=0,
        batch_size=1 << 20,
    )  # fmt: skip
    for number, (key, value) in enumerate(pairs):
        builder.append(number, 1_000 + number, key, value, [])
    content = bytearray(builder.build())
    struct.pack_into(">q", content, 0, start)
    return bytes(content)


def fetch_response(message_set: bytes, aborted: Sequence[tuple[int, int]] = ()) -> bytes:
    """The answer to a fetch of `TAIL`."""
    head = _HEAD.pack(0, 0, 1, 9, b"changelog", 1, 0, 0, 10**6, 10**6, len(aborted))
    return (
        head
        + b"".join(struct.pack(">qq", *each) for each in aborted)
        + struct.pack(">i", len(message_set))
        + message_set
    )


def _changelog_seeds() -> list[bytes]:
    rows = [(b"user-%d" % number, bytes([number]) * 40) for number in range(20)]
    mixed = [(b"a", b"1"), (b"b", None), (None, b"3"), *rows[:9], (b"", b"")]
    batches = [record_batch(rows), *(record_batch(mixed, compression=codec) for codec in range(5))]
    two = record_batch(rows) + record_batch(mixed, start=20)
    return [fetch_response(each) for each in (*batches, two, two[:-5], b"")] + [fetch_response(two, [(7, 0), (8, 3)])]


def sealed(content: bytes, random: Random) -> bytes:
    """A mutated response whose sizes and checksums are mostly right again."""
    if random.random() < 0.1:
        return content
    data = bytearray(content)
    data[: _HEAD.size - 4] = _HEAD.pack(0, 0, 1, 9, b"changelog", 1, 0, 0, 10**6, 10**6, 0)[:-4]
    if len(data) < _HEAD.size:
        return bytes(data)
    (aborted,) = struct.unpack_from(">i", data, _HEAD.size - 4)
    start = _HEAD.size + 16 * min(max(aborted, 0), 4)
    struct.pack_into(">i", data, _HEAD.size - 4, min(max(aborted, 0), 4))
    if len(data) < start + 4:
        return bytes(data)
    start += 4
    struct.pack_into(">i", data, start - 4, len(data) - start)
    while len(data) - start >= _PLACES["size"]:
        (length,) = struct.unpack_from(">i", data, start + _PLACES["length"])
        end = start + 12 + length
        if not start + _PLACES["size"] <= end <= len(data) and random.random() < 0.9:
            end = len(data)
            struct.pack_into(">i", data, start + _PLACES["length"], end - start - 12)
        elif end <= start or end > len(data):
            break
        data[start + _PLACES["magic"]] = 2
        checked = bytes(data[start + _PLACES["checked"] : end])
        struct.pack_into(">I", data, start + _PLACES["checksum"], google_crc32c.value(checked))
        start = end
    return bytes(data)


def _changelog() -> Check:
    def check(content: bytes) -> str:
        try:
            message_set, _, aborted = message_set_of(memoryview(content), TAIL)
            columns, next_offset = cut(message_set, aborted)
        except Unreadable as error:
            return f"unreadable: {str(error)[-40:]}"
        require(next_offset is None or next_offset > 0, "the reader would go back")
        for keys, values in columns:
            if values is None:  # deletions
                continue
            require(values.ndim == 2 and len(keys) == len(values), "keys without values")
            require(values.size <= _KEPT_BYTES * 64, "more values than can be in so short an input")
        if not aborted:
            _compare(message_set, columns)
        return f"records: {sum(len(keys) for keys, _ in columns)} in {len(columns)} runs"

    return check


def _compare(message_set: memoryview, columns: Sequence[Columns]) -> None:
    """The ordinary consumer's reader gives the same pairs wherever it gives any."""
    expected: list[tuple[bytes, bytes | None]] = []
    start = 0
    try:
        while len(message_set) - start >= _PLACES["size"]:
            end = start + 12 + struct.unpack_from(">i", message_set, start + _PLACES["length"])[0]
            if end > len(message_set):
                break
            batch = DefaultRecordBatch(message_set[start:end])
            start = end
            if not batch.is_control_batch:
                expected += [(each.key, each.value) for each in batch if each.key is not None]
    except Exception:
        return
    pairs = [
        (key, None if value is None else value.tobytes())
        for keys, values in columns
        for key, value in zip(keys, [None] * len(keys) if values is None else values, strict=True)
    ]
    require(pairs == expected, "other records than the ordinary consumer reads")


_WIDTH, _MODEL = 3, 0x0123456789ABCDEF


def _row_seeds() -> list[bytes]:
    row = blank_row(row_dtype(_WIDTH), _MODEL).tobytes()
    return [row, row + row, row[:-1], b""]


def _rows() -> Check:
    blank = blank_row(row_dtype(_WIDTH), _MODEL)
    slab = Slab(blank)

    def check(content: bytes) -> str:
        slab.clear()
        size = blank.dtype.itemsize
        try:
            slab.put(1, [(b"u", content)])
            count = max(len(content) // size, 1)
            values = np.frombuffer(content[: count * size], dtype=np.uint8).reshape(count, -1)
            slab.restore(2, [([b"%d" % number for number in range(count)], values)], 9)
        except StateMismatch:
            return "mismatch"
        require(slab.get(1, b"u") == content, "a row has other bytes than were put")
        return "rows"

    return check


# Compressed record batches

_UNPACK: tuple[Callable[[bytes], bytes | bytearray], ...] = (
    unpacking.gzip_decode,
    unpacking.snappy_decode,
    unpacking.lz4_decode,
    unpacking.zstd_decode,
)
_PLAINLY: tuple[Callable[[bytes], bytes], ...] = (
    gzip.decompress,
    *(cast("Callable[[bytes], bytes]", codec.__defaults__[0]) for codec in (  # the libraries' own
        unpacking.snappy_decode, unpacking.lz4_decode, unpacking.zstd_decode) if codec.__defaults__),
)  # fmt: skip


def _batch_seeds() -> list[bytes]:
    pack = (gzip.compress, snappy_encode, lz4_encode, zstd_encode)
    contents = (b"", b"row" * 100, bytes(range(256)) * 4, bytes(1 << 17))
    made = [bytes([number]) + each(content) for number, each in enumerate(pack) for content in contents]
    return [
        *made,
        b"\0" + gzip.compress(b"a") + gzip.compress(b"b") + b"\0",
        b"\1" + bytes(cramjam.snappy.compress_raw(b"a" * 300)),
    ]


def _batches() -> Check:
    def check(content: bytes) -> str:
        codec, payload = (content[0] if content else 0) % len(_UNPACK), content[1:]
        try:
            unpacked = _UNPACK[codec](payload)
        except unpacking.BatchTooLarge:
            return f"too large: {codec}"
        except (ArithmeticError, AssertionError, LookupError, MemoryError, TypeError):
            raise
        except Exception as error:  # of a library's own kind, as for what it unpacks itself
            return f"damaged: {codec} {str(error)[:40]}"
        require(len(unpacked) <= MOST_UNPACKED_BYTES, "more was unpacked than is allowed")
        require(unpacked == _PLAINLY[codec](payload), "other bytes than the library gives")
        return f"unpacked: {codec}"

    return check


TARGETS = (
    Target("batches", "compressed record batches, unpacked", _batch_seeds, _batches, largest=8_192),
    Target("changelog", "a broker's responses, cut into rows at recovery", _changelog_seeds, _changelog, repair=sealed),
    Target("rows", "users' rows, as they come from a changelog", _row_seeds, _rows),
)
