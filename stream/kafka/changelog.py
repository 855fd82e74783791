"""Fast reading of a changelog during recovery: record batches become arrays of keys and values.

Recovery reads gigabytes of rows of equal size, and one Python object per record would take most of its time. Instead, a
thread fetches record batches over its own connection (with TLS and SASL where they are set) to each partition's leader
into reused buffers, and returns arrays that are views of these buffers. What it cannot read it refuses with
`Unreadable`; the caller then continues from the same offset with the ordinary consumer. Knows the format of fetch
responses and record batches, not what the rows mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from aiokafka.record.default_records import DefaultRecordBatch
from faust.types import TP
from numpy.typing import NDArray

from stream.kafka.clients import open_socket
from stream.kafka.connection import BrokerAddress, KafkaConnection
from stream.kafka.record import unread_records
from stream.kafka.varint import decode_varint
from stream.structured import Columns

FETCH_BYTES = 4 * 1024 * 1024
"""Asked of one partition at a time. A quarter of it made recovery a third slower, twice as much no faster."""

RESPONSE_MAX_BYTES = 256 * 1024 * 1024
"""A larger response is not read. A single record batch may be larger than was asked for, by what the topic allows."""

IDLE_WAIT_MS = 20
"""How long the broker holds a fetch open when no partition is known to have more."""

TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0

SPARE_BUFFERS = 8
SHORTEST_RUN = 8
"""Batches with fewer records of equal shape in a row are read record by record: numpy costs more than it saves."""

_FETCH, _FETCH_VERSION = 1, 4
_REQUEST = struct.Struct(">hhih")
_FETCH_HEAD = struct.Struct(">iiiibi")
_ONE_PARTITION = struct.Struct(">iiqi")
_PARTITION_HEAD = struct.Struct(">iihqqi")
_ABORTED = struct.Struct(">qq")
_READ_COMMITTED = 1

_BATCH = struct.Struct(">qiiBIhiqqqhii")
_LENGTH_COUNTS_FROM, _CRC_COUNTS_FROM = 12, 21
_MAGIC = 2
_COMPRESSED, _TRANSACTIONAL, _CONTROL = 0x07, 0x10, 0x20
_CONTINUES = 0x80


class Unreadable(RuntimeError):
    """This reader cannot decode what the broker sent; the ordinary consumer may be able to, or reports the error."""


@dataclass
class Block:
    """Consecutive changelog records of one partition from `start` up to before `next_offset`, deletions among them.

    `columns` may be views of a reused buffer: they are valid until `release` is called.
    """

    columns: Sequence[Columns]
    start: int
    next_offset: int
    release: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, records: Sequence[Any], start: int, next_offset: int) -> Block:
        """Of records as a consumer gives them. Raises `Unreadable` where one stands for a batch that is too large."""
        for record in records:
            if unread_records(record) is not None:
                raise Unreadable(
                    f"{record.topic}-{record.partition} has a record batch up to offset {record.offset} that no worker "
                    "has written: it is too large to be unpacked"
                )
        return cls(_by_size((record.key, record.value) for record in records), start, next_offset)


def cut(message_set: memoryview, aborted: Sequence[tuple[int, int]] = ()) -> tuple[list[Columns], int | None]:
    """Columns of the whole record batches in a fetch's message set, and the offset after them, None without any.

    `aborted` are the producer ids and first offsets of transactions that count for nothing; as the broker tells them,
    each ends at its producer's next control record. Raises `Unreadable` where a checksum is wrong or the format is
    older than Kafka 0.11.
    """
    columns: list[Columns] = []
    next_offset: int | None = None
    start = 0
    coming, given_up = sorted(aborted, key=lambda transaction: transaction[1], reverse=True), set[int]()
    while start + _BATCH.size <= len(message_set):
        base, length, _, magic, crc, attributes, last, _, _, producer, *_, count = _BATCH.unpack_from(
            message_set, start
        )
        end = start + _LENGTH_COUNTS_FROM + length
        if end > len(message_set):
            break  # the broker cuts the response off at the requested size
        if magic != _MAGIC:
            raise Unreadable(f"the record batch at offset {base} has format {magic}, not {_MAGIC}")
        if (
            length < _BATCH.size - _LENGTH_COUNTS_FROM
            or base < (next_offset or 0)
            or last < 0
            or not 0 <= count <= last + 1
        ):
            raise Unreadable(
                f"the record batch at offset {base} is malformed: {length} bytes, {count} records to {last}"
            )
        batch = message_set[start:end]
        if google_crc32c.value(bytes(batch[_CRC_COUNTS_FROM:])) != crc:  # accepts only bytes
            raise Unreadable(f"the record batch at offset {base} is damaged: its checksum is wrong")
        while coming and coming[-1][1] <= base + last:
            given_up.add(coming.pop()[0])
        if attributes & _CONTROL:
            given_up.discard(producer)
        elif not (attributes & _TRANSACTIONAL and producer in given_up):
            try:
                runs = None if attributes & _COMPRESSED else _runs(batch, count)
                columns += _one_by_one(batch) if runs is None else runs
            except Exception as error:  # a codec that is not installed, or malformed bytes
                raise Unreadable(f"the record batch at offset {base} cannot be decoded: {error!r}") from error
        next_offset = base + last + 1
        start = end
    return columns, next_offset


class _Shape(NamedTuple):
    """Layout of a record. Records with equal bytes at `telling` (under `mask`) have key and value at the same place."""

    size: int
    key: slice
    value: slice
    telling: list[int]
    mask: NDArray[np.uint8]


def _shape(batch: memoryview, start: int) -> _Shape | None:
    """Layout of the record at `start`; None if it has no key or no value."""
    telling: list[int] = []
    mask: list[int] = []

    def number(position: int, equal: int) -> tuple[int, int]:
        value, after = decode_varint(batch, position)
        telling.extend(range(position - start, after - start))
        mask.extend([equal] * (after - position))
        return value, after

    length, position = number(start, 0xFF)
    size = position + length - start
    position += 1  # attributes, unused by Kafka
    _, position = number(position, _CONTINUES)  # timestamp
    _, position = number(position, _CONTINUES)  # offset
    key_size, position = number(position, 0xFF)
    key = slice(position - start, position - start + key_size)
    value_size, position = number(position + max(key_size, 0), 0xFF)
    value = slice(position - start, position - start + value_size)
    if key_size < 0 or value_size < 0:
        return None
    if value.stop > size:
        raise ValueError(f"a record of {size} bytes has its value up to byte {value.stop}")
    return _Shape(size, key, value, telling, np.array(mask, dtype=np.uint8))


def _runs(batch: memoryview, count: int) -> list[Columns] | None:
    """Columns over runs of records of equal layout; None where a run is shorter than `SHORTEST_RUN`."""
    found: list[Columns] = []
    start = _BATCH.size
    while count:
        shape = _shape(batch, start)
        if shape is None:
            return None
        most = min(count, (len(batch) - start) // shape.size)
        records = np.ndarray((most, shape.size), dtype=np.uint8, buffer=batch, offset=start)
        heads = records[:, shape.telling] & shape.mask
        unlike = np.flatnonzero((heads != heads[0]).any(axis=1))
        alike = int(unlike[0]) if unlike.size else most
        if alike < min(SHORTEST_RUN, count):
            return None
        keys, size = records[:alike, shape.key].tobytes(), shape.key.stop - shape.key.start
        found.append(
            ([keys[at : at + size] for at in range(0, alike * size, size)], records[:alike, shape.value])
            if size
            else ([b""] * alike, records[:alike, shape.value])
        )
        count -= alike
        start += alike * shape.size
    return found


def _one_by_one(batch: memoryview) -> list[Columns]:
    """Columns of a batch that is compressed or whose records differ in layout, decoded record by record."""
    return _by_size((record.key, record.value) for record in DefaultRecordBatch(batch))


def _by_size(records: Iterable[tuple[bytes | None, bytes | None]]) -> list[Columns]:
    there = ((key, value) for key, value in records if key is not None)
    columns: list[Columns] = []
    for size, group in itertools.groupby(there, key=lambda record: None if record[1] is None else len(record[1])):
        keys, values = zip(*group, strict=True)
        of_keys = None if size is None else np.ndarray((len(keys), size), dtype=np.uint8, buffer=b"".join(values))
        columns.append((list(keys), of_keys))
    return columns


class _Fetched(NamedTuple):
    tp: TP
    offset: int
    block: Block | None


@dataclass
class ChangelogReader:
    """Reads partitions in turn, and fetches one response ahead of the caller. Use it from one event loop.

    `leader_of` returns the address of a partition's leader, or raises `Unreadable` where none is known.
    """

    leader_of: Callable[[TP], BrokerAddress]
    connection: KafkaConnection
    _sockets: dict[BrokerAddress, socket.socket] = field(default_factory=dict)
    _ends: dict[TP, int] = field(default_factory=dict)
    _asked: dict[TP, int] = field(default_factory=dict)
    _requests: int = 0
    _ahead: Future[_Fetched] | None = None
    _spare: list[bytearray] = field(default_factory=list)
    _closed: bool = False

    def __post_init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="changelog")

    async def read(self, positions: Mapping[TP, int]) -> dict[TP, Block]:
        """The next block of one of the partitions at `positions`; empty when no partition has more records now.

        Raises `Unreadable` or `OSError`; the reader cannot be used after that.
        """
        fetched = await asyncio.wrap_future(self._ahead or self._begin(positions))
        self._ahead = None
        if fetched.block is None or positions.get(fetched.tp) != fetched.offset:  # the consumer was moved meanwhile
            return {}
        self._ahead = self._begin({**positions, fetched.tp: fetched.block.next_offset})
        return {fetched.tp: fetched.block}

    def close(self) -> None:
        """Close the connections and end the thread; a pending `read` raises `OSError`."""
        self._closed = True
        for opened in list(self._sockets.values()):
            with contextlib.suppress(OSError):  # the broker closed it first
                # Wakes the thread; close() would not, and a TLS socket's own method takes its state away meanwhile.
                socket.socket.shutdown(opened, socket.SHUT_RDWR)
        self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=False)

    def _begin(self, positions: Mapping[TP, int]) -> Future[_Fetched]:
        behind = [tp for tp, offset in positions.items() if offset < self._ends.get(tp, offset + 1)]
        tp = min(behind or positions, key=lambda tp: self._asked.get(tp, 0))
        self._requests += 1
        self._asked[tp] = self._requests
        address = self.leader_of(tp)
        return self._thread.submit(self._fetch, address, tp, positions[tp], 0 if behind else IDLE_WAIT_MS)

    def _fetch(self, address: BrokerAddress, tp: TP, offset: int, wait_ms: int) -> _Fetched:
        leader = self._socket(address)
        leader.sendall(_fetch_request(f"{self.connection.client_id}-changelog", tp, offset, wait_ms))
        (size,) = struct.unpack(">i", _receive(leader, memoryview(bytearray(4))))
        if not 0 <= size <= RESPONSE_MAX_BYTES:
            raise Unreadable(f"{tp.topic}-{tp.partition}: the broker announces a response of {size:,} bytes")
        buffer = self._buffer(size)
        message_set, self._ends[tp], aborted = message_set_of(_receive(leader, memoryview(buffer)[:size]), tp)
        columns, next_offset = cut(message_set, aborted)
        if next_offset is None:
            if len(message_set):
                raise Unreadable(f"{tp.topic}-{tp.partition} at offset {offset}: a record batch is not complete")
            self._release(buffer)
            return _Fetched(tp, offset, None)
        return _Fetched(tp, offset, Block(columns, offset, next_offset, lambda: self._release(buffer)))

    def _socket(self, address: BrokerAddress) -> socket.socket:
        found = self._sockets.get(address)
        if found is None:
            found = open_socket(self.connection, address, CONNECT_TIMEOUT_S)
            found.settimeout(TIMEOUT_S)
            self._sockets[address] = found
        if self._closed:
            raise ConnectionAbortedError("the reader of the changelog was closed")
        return found

    def _disconnect(self) -> None:
        for opened in self._sockets.values():
            opened.close()
        self._sockets.clear()

    def _buffer(self, size: int) -> bytearray:
        """A buffer of at least `size` bytes. Reused: to touch new memory takes longer than to read rows into it."""
        buffer = self._spare.pop() if self._spare else bytearray()
        return buffer if len(buffer) >= size else bytearray(max(size, FETCH_BYTES + FETCH_BYTES // 4))

    def _release(self, buffer: bytearray) -> None:
        if len(self._spare) < SPARE_BUFFERS:
            self._spare.append(buffer)


def _fetch_request(client_id: str, tp: TP, offset: int, wait_ms: int) -> bytes:
    """A fetch request for one partition, in the oldest version that all brokers from 0.11 to 4.x accept."""
    client, topic = client_id.encode(), tp.topic.encode()
    message = b"".join(
        (
            _REQUEST.pack(_FETCH, _FETCH_VERSION, 0, len(client)),
            client,
            _FETCH_HEAD.pack(-1, wait_ms, 1, FETCH_BYTES, _READ_COMMITTED, 1),
            struct.pack(">h", len(topic)),
            topic,
            _ONE_PARTITION.pack(1, tp.partition, offset, FETCH_BYTES),
        )
    )
    return struct.pack(">i", len(message)) + message


def message_set_of(response: memoryview, tp: TP) -> tuple[memoryview, int, list[tuple[int, int]]]:
    """The record batches in the answer to `_fetch_request`, where committed records end, and the transactions among
    them that were aborted, as producer id and first offset. Raises `Unreadable` where it is no such answer."""
    try:
        return _message_set(response, tp)
    except struct.error:
        raise Unreadable(f"{tp.topic}-{tp.partition}: the broker's response ends within a field") from None


def _message_set(response: memoryview, tp: TP) -> tuple[memoryview, int, list[tuple[int, int]]]:
    start = struct.calcsize(">iiih") + len(tp.topic.encode())  # correlation id, throttle time, one topic, its name
    _, partition, error, _, end, count = _PARTITION_HEAD.unpack_from(response, start)
    if error or partition != tp.partition:
        raise Unreadable(f"{tp.topic}-{tp.partition}: the broker refuses the fetch with error {error}")
    start += _PARTITION_HEAD.size
    aborted = [_ABORTED.unpack_from(response, start + number * _ABORTED.size) for number in range(max(count, 0))]
    start += len(aborted) * _ABORTED.size
    (size,) = struct.unpack_from(">i", response, start)
    start += 4
    return response[start : start + max(size, 0)], end, aborted


def _receive(opened: socket.socket, into: memoryview) -> memoryview:
    """Fill `into` from the socket. Raises `ConnectionResetError` when the broker closes it first."""
    received = 0
    while received < len(into):
        count = opened.recv_into(into[received:])
        if not count:
            raise ConnectionResetError("the broker closed the connection")
        received += count
    return into
