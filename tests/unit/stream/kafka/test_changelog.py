"""Record batches as columns: the keys and values that an ordinary consumer would give, whatever the batch is like."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Iterator, Sequence

import google_crc32c
import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka import changelog
from stream.kafka.changelog import Block, ChangelogReader, Unreadable, cut, message_set_of
from stream.kafka.connection import BrokerAddress, KafkaConnection
from stream.kafka.record import RawRecord
from stream.structured import Columns

CONNECTION = KafkaConnection.parse("127.0.0.1:1")
TAIL = TP("changelog", 0)
Pairs = Sequence[tuple[bytes | None, bytes | None]]


def record_batch(
    pairs: Pairs,
    *,
    start: int = 0,
    compression: int = 0,
    times: Sequence[int] | None = None,
    producer_id: int = -1,
    transactional: bool = False,
) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=compression, is_transactional=int(transactional), producer_id=producer_id,
        producer_epoch=-1, base_sequence=-1, batch_size=1 << 24,
    )  # fmt: skip
    for offset, (key, value) in enumerate(pairs):
        builder.append(offset, 1_000 if times is None else times[offset], key, value, [])
    content = bytearray(builder.build())
    struct.pack_into(">q", content, 0, start)  # as the broker does; the checksum leaves it out
    return bytes(content)


def pairs_of(columns: Sequence[Columns]) -> list[tuple[bytes, bytes | None]]:
    found: list[tuple[bytes, bytes | None]] = []
    for keys, values in columns:
        of_keys = [None] * len(keys) if values is None else [value.tobytes() for value in values]
        found += zip(keys, of_keys, strict=True)
    return found


CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@pytest.mark.parametrize("compression", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("size", [1, 700, 3_000_000])
def test_every_codec_is_read(compression: int, size: int) -> None:
    rows: Pairs = [(b"%d" % number, bytes([number]) * size) for number in range(12)]
    kept: Pairs = rows if size < 3_000_000 else rows[:2]
    content = record_batch([*kept, (b"gone", None)], start=7, compression=compression)
    columns, next_offset = cut(memoryview(content))
    assert pairs_of(columns) == [*kept, (b"gone", None)]
    assert next_offset == 7 + len(kept) + 1


@pytest.mark.parametrize("compression", [1, 2, 3, 4])
def test_a_compressed_batch_that_is_malformed_is_refused(compression: int) -> None:
    content = bytearray(record_batch([(b"key", b"value" * 100)], compression=compression))
    content[61:] = bytes(len(content) - 61)
    struct.pack_into(">I", content, 17, google_crc32c.value(bytes(content[21:])))
    with pytest.raises(Unreadable, match="cannot be decoded"):
        cut(memoryview(content))


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.binary(max_size=3), st.binary(min_size=4, max_size=4)),
            st.one_of(st.none(), st.binary(max_size=300), st.binary(min_size=70, max_size=70)),
        ),
        min_size=1,
        max_size=80,
    ),
    st.integers(0, 2**40),
)
def test_any_batch_gives_its_pairs(pairs: Pairs, start: int) -> None:
    columns, next_offset = cut(memoryview(record_batch(pairs, start=start)))
    assert pairs_of(columns) == [(key, value) for key, value in pairs if key is not None]
    assert next_offset == start + len(pairs)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 300, 9_000])
def test_rows_of_one_size_are_cut_without_copying(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the varint of the offset grows by a byte (at 64 and 8,192), and the time differs by record."""
    monkeypatch.setattr(changelog, "_one_by_one", None)
    randomly = random.Random(1)
    pairs = [(b"user-%06d" % number, randomly.randbytes(200)) for number in range(count)]
    message_set = memoryview(record_batch(pairs, times=[1_000 + number % 50 for number in range(count)]))
    columns, next_offset = cut(message_set)
    assert pairs_of(columns) == pairs
    assert next_offset == count
    assert all(np.may_share_memory(values, np.frombuffer(message_set, dtype=np.uint8)) for _, values in columns)


def test_a_compressed_batch_gives_its_pairs() -> None:
    pairs = [(b"%d" % number, bytes(100)) for number in range(500)]
    columns, next_offset = cut(memoryview(record_batch(pairs, compression=1)))
    assert pairs_of(columns) == pairs
    assert next_offset == 500


def marker(start: int, producer_id: int, *, commits: bool) -> bytes:
    """The control batch at the end of a transaction."""
    key = struct.pack(">hh", 0, int(commits))
    batch = bytearray(record_batch([(key, b"\0" * 6)], start=start, producer_id=producer_id, transactional=True))
    (attributes,) = struct.unpack_from(">h", batch, 21)
    struct.pack_into(">h", batch, 21, attributes | 0x20)
    struct.pack_into(">I", batch, 17, google_crc32c.value(bytes(batch[21:])))
    return bytes(batch)


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["send", "commit", "abort"])), max_size=30))
def test_what_was_aborted_is_left_out(steps: list[tuple[int, str]]) -> None:
    """Interleaved transactions of three producers, and a fourth that uses none, as a broker returns them."""
    content, offset = b"", 0
    begun: dict[int, int] = {}
    pairs: dict[int, list[tuple[int, bytes]]] = {}
    aborted: list[tuple[int, int]] = []
    expected: list[tuple[int, bytes]] = []
    for producer_id, step in [*steps, (1, "commit"), (2, "abort"), (3, "commit")]:
        if step == "send":
            begun.setdefault(producer_id, offset)
            value = b"%d" % offset
            content += record_batch([(b"u", value)], start=offset, producer_id=producer_id, transactional=True)
            pairs.setdefault(producer_id, []).append((offset, value))
            content += record_batch([(b"u", b"plain")], start=offset + 1, producer_id=producer_id)
            expected.append((offset + 1, b"plain"))
            offset += 2
        elif producer_id in begun:
            content += marker(offset, producer_id, commits=step == "commit")
            first, sent = begun.pop(producer_id), pairs.pop(producer_id)
            if step == "abort":
                aborted.append((producer_id, first))
            else:
                expected += sent
            offset += 1
    columns, next_offset = cut(memoryview(content), aborted)
    assert pairs_of(columns) == [(b"u", value) for _, value in sorted(expected)]
    assert next_offset == (offset or None)


def test_control_batches_only_move_the_offset() -> None:
    control = marker(3, 1, commits=True)
    columns, next_offset = cut(memoryview(record_batch([(b"a", b"1")], start=2) + control))
    assert pairs_of(columns) == [(b"a", b"1")]
    assert next_offset == 4


def test_a_batch_cut_short_waits_for_the_next_fetch() -> None:
    first, second = record_batch([(b"a", b"1")]), record_batch([(b"b", b"2")], start=1)
    columns, next_offset = cut(memoryview(first + second[:-1]))
    assert pairs_of(columns) == [(b"a", b"1")]
    assert next_offset == 1
    assert cut(memoryview(first[:-1])) == ([], None)
    assert cut(memoryview(b"")) == ([], None)


@pytest.mark.parametrize(("position", "complaint"), [(70, "checksum"), (16, "format 3")])
def test_a_damaged_batch_is_refused(position: int, complaint: str) -> None:
    content = bytearray(record_batch([(b"key", b"value" * 20)]))
    content[position] ^= 1
    with pytest.raises(Unreadable, match=complaint):
        cut(memoryview(content))


def resealed(content: bytearray) -> memoryview:
    """A batch that was changed, with its checksum right again."""
    struct.pack_into(">I", content, 17, google_crc32c.value(bytes(content[21:])))
    return memoryview(content)


@pytest.mark.parametrize(
    ("place", "number"),
    [
        (8, -12),  # the batch's length: it would be read for ever
        (8, 48),  # shorter than its own head
        (8, -(2**31)),
        (23, -1),  # its last offset, behind its first: the reader would go back
        (23, -(2**31)),
        (57, -1),  # how many records it has
        (57, 4),  # more than offsets
        (57, 2**31 - 1),
        (0, -1),  # its first offset
    ],
)
def test_impossible_numbers_in_the_head_of_a_batch_are_refused(place: int, number: int) -> None:
    content = bytearray(record_batch([(b"key", b"value")] * 3))
    struct.pack_into(">i" if place else ">q", content, place, number)
    size = 61 if place != 8 else max(12 + number, 21)
    struct.pack_into(">I", content, 17, google_crc32c.value(bytes(content[21:size] if place == 8 else content[21:])))
    try:
        assert cut(memoryview(content)) == ([], None), "a batch that is longer than all that there is"
    except Unreadable as error:
        assert "malformed" in str(error) or "damaged" in str(error)  # noqa: PT017


def test_batches_whose_offsets_go_back_are_refused() -> None:
    with pytest.raises(Unreadable, match="at offset 5 is malformed"):
        cut(memoryview(record_batch([(b"a", b"1")] * 3, start=4) + record_batch([(b"a", b"1")], start=5)))


@pytest.mark.parametrize("size", [b"\xfe\xff\xff\xff\x0f", b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f", b"\xff" * 12])
@pytest.mark.parametrize("field", [0, 4, 8], ids=["record", "key", "value"])
def test_a_size_in_a_record_that_leads_out_of_the_batch_is_refused(field: int, size: bytes) -> None:
    """aiokafka's own reader of such numbers ends the process: it reads wherever the size leads."""
    content = bytearray(record_batch([(b"key", b"value" * 9)] * 20))
    content[61 + field : 62 + field] = size
    struct.pack_into(">i", content, 8, len(content) - 12)
    with pytest.raises(Unreadable, match="cannot be decoded"):
        cut(resealed(content))


def test_a_value_that_is_longer_than_its_record_is_refused() -> None:
    """Not to be cut short in silence, or taken with bytes of the next record."""
    content = bytearray(record_batch([(b"key", b"value" * 5)] * 20))
    assert content[61 + 8] == 50  # the value's size, zigzag
    content[61 + 8] = 60
    with pytest.raises(Unreadable, match=r"cannot be decoded.*has its value up to byte"):
        cut(resealed(content))


@given(st.binary(max_size=150), st.integers(0, 2**31 - 1))
def test_any_bytes_behind_a_right_checksum_get_an_answer(body: bytes, count: int) -> None:
    content = bytearray(record_batch([(b"key", b"value")])[:61] + body)
    struct.pack_into(">i", content, 8, len(content) - 12)
    struct.pack_into(">i", content, 23, 2**31 - 1)
    struct.pack_into(">i", content, 57, count)
    with contextlib.suppress(Unreadable):
        columns, next_offset = cut(resealed(content))
        assert next_offset == 2**31
        assert all(len(keys) == len(values) for keys, values in columns)


@given(st.binary(max_size=120))
def test_any_response_gets_an_answer(response: bytes) -> None:
    with contextlib.suppress(Unreadable):
        message_set, _, aborted = message_set_of(memoryview(response), TAIL)
        cut(message_set, aborted)


def test_a_batch_that_is_no_batch_is_refused() -> None:
    content = bytearray(record_batch([(b"k", None), (b"key", b"value" * 20)]))
    content[61:] = b"\xff" * len(content[61:])
    struct.pack_into(">I", content, 17, google_crc32c.value(bytes(content[21:])))
    with pytest.raises(Unreadable):
        cut(memoryview(content))


def test_records_of_a_consumer_become_a_block() -> None:
    records = [RawRecord("changelog", 0, 5 + number, 0, key, value) for number, (key, value) in
               enumerate([(b"a", b"1"), (b"b", None), (b"c", b"22"), (b"d", b"33")])]  # fmt: skip
    block = Block.of(records, 4, 9)
    assert pairs_of(block.columns) == [(b"a", b"1"), (b"b", None), (b"c", b"22"), (b"d", b"33")]
    assert [None if values is None else values.shape for _, values in block.columns] == [(1, 1), None, (2, 2)]
    assert (block.start, block.next_offset) == (4, 9)


class Broker:
    """Answers fetches of one topic from whole batches; `answer` may be replaced to misbehave."""

    def __init__(self, partitions: dict[int, list[bytes]]) -> None:
        self.partitions = partitions
        self.asked: list[tuple[int, int]] = []
        self.error = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = BrokerAddress(*self.listener.getsockname())
        self.hang_up = False
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            while head := connection.recv(4, socket.MSG_WAITALL):
                request = connection.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)
                if self.hang_up:
                    return
                partition, offset, _ = struct.unpack_from(">iqi", request, len(request) - 16)
                self.asked.append((partition, offset))
                batches = self.partitions[partition]
                there = [
                    batch for batch in batches
                    if struct.unpack_from(">q", batch)[0] + struct.unpack_from(">i", batch, 23)[0] >= offset
                ][:1]  # fmt: skip
                last = batches[-1]
                end = struct.unpack_from(">q", last)[0] + struct.unpack_from(">i", last, 23)[0] + 1
                message_set = b"".join(there)
                body = struct.pack(">iii", 0, 0, 1) + struct.pack(">h", 9) + b"changelog" + struct.pack(">i", 1)
                body += struct.pack(">ihqqi", partition, self.error, end, end, 1) + bytes(16)
                body += struct.pack(">i", len(message_set)) + message_set
                connection.sendall(struct.pack(">i", len(body)) + body)


@pytest.fixture
def broker() -> Iterator[Broker]:
    def batches(partition: int) -> list[bytes]:
        return [
            record_batch([(b"%d-%d" % (partition, start + n), bytes([partition]) * 40) for n in range(10)], start=start)
            for start in range(0, 50, 10)
        ]  # fmt: skip

    served = Broker({0: batches(0), 1: batches(1)})
    yield served
    served.listener.close()


async def test_partitions_are_read_to_their_ends(broker: Broker) -> None:
    reader = ChangelogReader(lambda _: broker.address, CONNECTION)
    positions = {TAIL: 0, TP("changelog", 1): 25}
    found: dict[TP, list[tuple[bytes, bytes]]] = {tp: [] for tp in positions}
    while any(offset < 50 for offset in positions.values()):
        for tp, block in (await reader.read(positions)).items():
            found[tp] += pairs_of(block.columns)
            positions[tp] = block.next_offset
            block.release()
    assert [key for key, _ in found[TAIL]] == [b"0-%d" % number for number in range(50)]
    # A batch comes whole, also from in its middle.
    assert [key for key, _ in found[TP("changelog", 1)]] == [b"1-%d" % number for number in range(20, 50)]
    assert await reader.read(positions) == {}
    reader.close()


async def test_a_released_buffer_is_used_again_and_no_other(broker: Broker) -> None:
    reader = ChangelogReader(lambda _: broker.address, CONNECTION)
    first = (await reader.read({TAIL: 0}))[TAIL]
    second = (await reader.read({TAIL: 10}))[TAIL]
    kept = pairs_of(second.columns)
    first.release()
    third = (await reader.read({TAIL: 20}))[TAIL]
    fourth = (await reader.read({TAIL: 30}))[TAIL]
    assert pairs_of(second.columns) == kept
    later = [block.columns[0][1] for block in (third, fourth)]
    assert any(np.may_share_memory(first.columns[0][1], values) for values in later)
    assert not any(np.may_share_memory(second.columns[0][1], values) for values in later)
    reader.close()


async def test_what_was_read_ahead_is_dropped_after_a_seek(broker: Broker) -> None:
    reader = ChangelogReader(lambda _: broker.address, CONNECTION)
    await reader.read({TAIL: 0})
    assert await reader.read({TAIL: 30}) == {}
    assert (await reader.read({TAIL: 30}))[TAIL].next_offset == 40
    reader.close()


async def test_errors_of_the_broker_end_the_reading(broker: Broker) -> None:
    broker.error = 6  # not the leader
    reader = ChangelogReader(lambda _: broker.address, CONNECTION)
    with pytest.raises(Unreadable, match="error 6"):
        await reader.read({TAIL: 0})
    broker.hang_up = True
    with pytest.raises(ConnectionResetError):
        await reader.read({TAIL: 0})
    reader.close()


@pytest.mark.parametrize("size", [-1, 2**31 - 1])
async def test_a_response_of_impossible_size_is_not_waited_for(size: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader = ChangelogReader(lambda _: BrokerAddress(*listener.getsockname()), CONNECTION)
        reading = asyncio.ensure_future(reader.read({TAIL: 0}))
        connection, _ = await asyncio.to_thread(listener.accept)
        with connection:
            connection.sendall(struct.pack(">i", size))
            with pytest.raises(Unreadable, match="announces a response"):
                await asyncio.wait_for(reading, 5)
        reader.close()


async def test_closing_wakes_who_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reader = ChangelogReader(lambda _: BrokerAddress(*silent.getsockname()), CONNECTION)
        waiting = asyncio.ensure_future(reader.read({TAIL: 0}))
        await asyncio.sleep(0.2)
        reader.close()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(waiting, 5)
