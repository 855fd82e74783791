"""What the table's store tells Faust's recovery, and when rows reach the disk beneath it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from stream.kafka.changelog import Block
from stream.kafka.connection import KafkaConnection
from stream.kafka.faust_app import faust_app
from stream.settings import load_settings
from stream.state.archive import Archive, Archives, Origin
from stream.state.resident import ResidentSlab
from stream.state.row import StateMismatch, blank_row, row_dtype
from stream.state.slab import Slab
from stream.worker.store import MOST_GAPS, IncompleteState, StateTable

DTYPE = row_dtype(5)
BLANK = blank_row(DTYPE, 0xABC)
CHANGELOG = "test-store-user_state-changelog"
TAIL = TP(CHANGELOG, 0)


class Broker:
    """Knows where the changelog ends, who owns what, and how far the changelog was when offsets were committed."""

    def __init__(self) -> None:
        self.end = 0
        self.log_end = 0
        self.fails = False
        self.committed: dict[int, int] = {}
        self.log: list[str] = []
        self.sought: list[tuple[TP, int]] = []

    async def own(self, partitions: frozenset[int]) -> None:
        if self.fails:
            raise ConnectionError("no coordinator")
        self.log.append(f"own {','.join(map(str, sorted(partitions)))}")

    async def committed_rows(self, partitions: frozenset[int]) -> dict[int, int]:
        return {partition: offset for partition, offset in self.committed.items() if partition in partitions}

    def read_again(self, tp: TP, offset: int) -> None:
        self.sought.append((tp, offset))

    async def log_ends(self, tps: Sequence[TP]) -> dict[TP, int]:
        self.log.append(f"log ends of {','.join(str(tp.partition) for tp in tps)}")
        return dict.fromkeys(tps, self.log_end)

    async def highwaters(self, *tps: TP) -> dict[TP, int]:
        self.log.append("highwaters")
        return dict.fromkeys(tps, self.end)


class Worker:
    """A table over a slab and its disk, beside a broker that takes no connection."""

    def __init__(self, folder: Path, model: int = 0xABC, changelog_id: str = "first") -> None:
        self.archives = Archives(folder, Origin(changelog_id, model, DTYPE.itemsize), 8 << 20)
        self.slab: Slab = ResidentSlab(BLANK, self.archives, None)
        self.failures: list[Exception] = []
        self.broker = Broker()
        self.app: Any = faust_app(load_settings(), KafkaConnection.parse("nowhere:9092"), "test-store")
        self.app._producer = self.app._consumer = self.broker
        self.table: Any = StateTable(
            self.app,
            name="user_state",
            key_type=bytes,
            value_type=bytes,
            partitions=1,
            options={
                "slab": self.slab,
                "own": self.broker.own,
                "committed_rows": self.broker.committed_rows,
                "log_ends": self.broker.log_ends,
                "read_again": self.broker.read_again,
                "on_failure": self.failures.append,
            },
        )
        self.app.tables.add(self.table)

    async def assign(self, end: int = 0, committed: dict[int, int] | None = None) -> None:
        """A rebalance, when the changelog ended there and offsets were committed with these rows."""
        self.broker.end, self.broker.committed = end, committed or {}
        await self.table.on_rebalance({TAIL, TP("transactions", 0)}, set(), set())

    async def own_and_commit(self, offset: int) -> None:
        """A user's row stands in the changelog at this offset, by this worker."""
        await self.assign()
        self.slab.locate(0, [b"u"])
        self.table.data.archive(TAIL, [(b"u", row(1))], offset)

    async def stand_by(self, end: int, log_end: int) -> None:
        """A rebalance after which another worker owns the partition, with a transaction that may not be completed."""
        self.broker.end, self.broker.log_end = end, log_end
        await self.table.on_rebalance({TAIL, TP("transactions", 1)}, set(), set())

    def restore(self, offset: int, *pairs: tuple[bytes, bytes | None], start: int | None = None, tp: TP = TAIL) -> None:
        """A block up to `offset`, from `start` or from where the one before it ended."""
        records = [SimpleNamespace(key=key, value=value, offset=offset) for key, value in pairs]
        begin = self.table.persisted_offset(tp) + 1 if start is None else start
        self.table.data.take(tp, Block.of(records, begin, offset + 1))

    async def complete(self, *active: TP) -> frozenset[int]:
        """The partitions whose events may be scored then."""
        await self.table.data.on_recovery_completed(set(active), set())
        restored: frozenset[int] = self.table.data.restored
        return restored


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def row(sequence: int) -> bytes:
    value = BLANK.copy()
    value["sequence"] = sequence
    return value.tobytes()


async def test_partitions_are_owned_before_anything_of_them_is_looked_at(folder: Path) -> None:
    worker = Worker(folder)
    await worker.assign()
    assert worker.broker.log == ["own 0", "highwaters"]
    worker.archives.close_all()
    again = Worker(folder)
    again.broker.fails = True
    await again.assign()
    assert [str(failure) for failure in again.failures] == ["no coordinator"]
    assert again.archives.partitions() == []
    again.archives.close_all()


async def test_rows_are_archived_when_they_are_committed(folder: Path) -> None:
    worker = Worker(folder)
    await worker.assign()
    assert worker.table.persisted_offset(TAIL) == -1
    worker.slab.locate(0, [b"u"])
    worker.table.data.archive(TAIL, [(b"u", row(1))], 7)
    assert worker.archives[0].offset == worker.table.persisted_offset(TAIL) == 7
    worker.archives.close_all()


async def test_recovery_goes_on_from_the_disk(folder: Path) -> None:
    first = Worker(folder)
    await first.assign()
    first.restore(4, (b"u", row(3)), (b"gone", None), (b"v", row(1)))
    first.restore(6, (b"u", row(5)))
    first.archives.close_all()
    second = Worker(folder)
    await second.assign(7)
    assert second.table.persisted_offset(TAIL) == 6
    assert dict(second.table.data._iteritems()) == {b"u": row(5), b"v": row(1)}
    await second.table.data.on_recovery_completed(set(), set())
    assert second.archives.partitions() == []
    assert second.table.persisted_offset(TAIL) == -1
    await second.assign(7)
    assert second.table.persisted_offset(TAIL) == 6, "it came back"
    second.archives.close_all()


async def test_a_changelog_that_ends_before_the_disk_does_is_read_from_its_beginning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Worker(folder)
    await first.assign()
    first.restore(6, (b"u", row(5)))
    first.archives.close_all()
    second = Worker(folder)
    await second.assign(6)
    assert second.table.persisted_offset(TAIL) == -1
    assert list(second.slab.items()) == []
    assert "stands for offset 6" in caplog.text
    assert second.failures == []
    second.archives.close_all()


async def test_state_of_another_model_stops_the_worker(folder: Path) -> None:
    first = Worker(folder)
    await first.assign()
    first.restore(0, (b"u", blank_row(DTYPE, 0xDEF).tobytes()))
    first.archives.close_all()
    second = Worker(folder, model=0xDEF)
    await second.assign()
    assert [type(failure) for failure in first.failures + second.failures] == [StateMismatch, StateMismatch]
    second.archives.close_all()


async def test_a_disk_that_fails_stops_the_worker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust's recovery would log the error and go on without the rows."""

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    worker = Worker(folder)
    await worker.assign()
    monkeypatch.setattr(Archive, "write", full)
    worker.restore(0, (b"u", row(1)))
    assert [str(failure) for failure in worker.failures] == ["no space left on device"]
    assert worker.table.persisted_offset(TAIL) == -1
    worker.archives.close_all()


async def test_states_are_used_once_the_changelog_was_read_to_its_end(folder: Path) -> None:
    worker = Worker(folder)
    await worker.assign(8, {0: 6})
    assert worker.table.data.restored == frozenset()
    worker.restore(4, (b"u", row(1)))
    worker.restore(7, (b"v", row(1)))
    assert await worker.complete(TAIL) == {0}
    assert worker.failures == []
    await worker.assign(8)
    assert worker.table.data.restored == frozenset(), "who knows what happened meanwhile"
    worker.archives.close_all()


@pytest.mark.parametrize(("end", "committed"), [(9, {}), (8, {0: 8}), (8, {0: 20, 1: 3})])
async def test_states_that_lack_what_was_committed_are_not_used(
    folder: Path, end: int, committed: dict[int, int]
) -> None:
    """The end that recovery was told may be an old one: also what stands beside the group's offsets counts."""
    worker = Worker(folder)
    await worker.assign(end, committed)
    worker.restore(7, (b"u", row(1)))
    assert await worker.complete(TAIL) == frozenset()
    assert [type(failure) for failure in worker.failures] == [IncompleteState]
    assert f"{CHANGELOG}-0 to 7 of {max(end - 1, committed.get(0, -1))}" in str(worker.failures[0])
    worker.archives.close_all()


async def test_what_is_still_to_be_read_is_told_to_whoever_watches(folder: Path) -> None:
    worker = Worker(folder)
    await worker.assign(8, {0: 9})
    told = worker.table.data.restoration
    assert (told.owned, told.restored, told.remaining, told.row_count) == ({0}, frozenset(), {0: 10}, 0)
    worker.restore(4, (b"u", row(1)), (b"v", row(1)))
    assert (told.remaining, told.row_count) == ({0: 5}, 2)
    worker.restore(9, (b"u", row(2)))
    await worker.complete(TAIL)
    assert (told.restored, told.remaining, told.unready) == ({0}, {0: 0}, None)
    worker.broker.fails = True
    await worker.assign(12)
    assert told.owned is None, "partitions that could not be taken over are not this worker's"
    worker.archives.close_all()


async def test_what_others_add_while_a_worker_is_frozen_is_not_missing(folder: Path) -> None:
    """It does not know yet that its partitions have another owner; the rebalance that tells it will come."""
    worker = Worker(folder)
    await worker.assign(8)
    worker.restore(7, (b"u", row(1)))
    worker.broker.end, worker.broker.committed = 20, {0: 18}
    assert await worker.complete(TAIL) == {0}
    assert worker.failures == []
    worker.archives.close_all()


async def test_a_recovery_that_another_rebalance_overtakes_says_nothing(folder: Path) -> None:
    """At every moment of the next rebalance: while partitions are taken over, before recovery knows, and until it has
    begun anew."""
    worker = Worker(folder)
    await worker.assign(8)
    recovery = worker.app.tables.recovery

    async def own(_: object) -> None:
        assert await worker.complete(TAIL) == frozenset()

    worker.table.data._own = own
    worker.broker.end = 12
    await worker.table.on_rebalance({TAIL, TP("transactions", 0)}, set(), set(), 1)
    assert await worker.complete(TAIL) == frozenset(), "recovery is not told yet"
    recovery._generation_id = 1
    recovery.signal_recovery_start.set()
    assert await worker.complete(TAIL) == frozenset(), "recovery has not begun anew yet"
    assert worker.failures == []
    recovery.signal_recovery_start.clear()
    worker.restore(11, (b"u", row(1)))
    assert await worker.complete(TAIL) == {0}
    worker.archives.close_all()


async def test_what_a_broken_connection_hides_stops_the_worker(folder: Path) -> None:
    worker = Worker(folder)

    async def committed_rows(_: object) -> dict[int, int]:
        raise ConnectionError("gone")

    worker.table.data._committed_rows = committed_rows
    await worker.assign()
    assert [str(failure) for failure in worker.failures] == ["gone"]
    assert await worker.complete(TAIL) == frozenset()
    worker.archives.close_all()


async def test_recovery_does_not_end_with_a_block_that_leaves_something_out(folder: Path) -> None:
    """Faust's own loop over what is read, told that all is read up to the last block."""
    worker = Worker(folder)
    await worker.assign(8)
    tables = worker.app.tables
    recovery = tables.recovery
    recovery.add_active(worker.table, TAIL)
    recovery.active_highwaters[TAIL] = 7
    recovery._set_recovery_started()
    worker.app.flow_control.resume()
    reading = asyncio.create_task(recovery._slurp_changelogs.fun(recovery))
    held: list[int] = []
    for start, end in ((0, 2), (2, 4), (6, 8), (4, 8)):
        block = Block.of([SimpleNamespace(key=b"u", value=row(end))], start, end)
        message = SimpleNamespace(tp=TAIL, offset=end - 1, value=block)
        tables.changelog_queue.put_nowait(SimpleNamespace(message=message))
        for _ in range(9):
            await asyncio.sleep(0)
        held.append(worker.table.persisted_offset(TAIL))
        assert recovery.in_recovery is (held[-1] < 7)
    assert held == [1, 3, 3, 7]
    assert worker.broker.sought == [(TAIL, 4)]
    reading.cancel()
    worker.archives.close_all()


async def test_a_block_that_leaves_something_out_is_read_again_from_there(folder: Path) -> None:
    worker = Worker(folder)
    await worker.assign()
    recovery = worker.app.tables.recovery
    recovery.active_offsets[TAIL] = 7
    worker.restore(4, (b"u", row(1)))
    worker.restore(7, (b"v", row(1)), start=6)
    assert worker.table.persisted_offset(TAIL) == 4
    assert worker.broker.sought == [(TAIL, 5)]
    assert recovery.active_offsets[TAIL] == 4, "or Faust would not pass on what comes again"
    assert dict(worker.table.data._iteritems()) == {b"u": row(1)}
    worker.restore(7, (b"w", row(2)), (b"v", row(1)), start=5)
    assert worker.table.persisted_offset(TAIL) == 7
    worker.archives.close_all()


@pytest.mark.parametrize("restarted", [False, True])
async def test_who_stands_by_keeps_what_it_committed_before_its_marker_is_written(
    folder: Path, restarted: bool
) -> None:
    """A commit is confirmed first: for a moment, the end that readers of committed records see lies before it."""
    worker = Worker(folder)
    await worker.own_and_commit(7)
    if restarted:
        worker.archives.close_all()
        worker = Worker(folder)
    await worker.stand_by(end=7, log_end=9)
    assert worker.failures == []
    assert worker.broker.log[-1] == "log ends of 0"
    assert worker.table.persisted_offset(TAIL) == 7
    worker.archives.close_all()


async def test_who_stands_by_and_has_more_than_the_changelog_holds_stops(folder: Path) -> None:
    worker = Worker(folder)
    await worker.own_and_commit(7)
    await worker.stand_by(end=3, log_end=7)
    assert [type(failure) for failure in worker.failures] == [IncompleteState]
    assert "ahead of its changelog: it stands for offset 7" in str(worker.failures[0])
    worker.archives.close_all()


async def test_what_is_owned_has_no_transaction_under_way(folder: Path) -> None:
    worker = Worker(folder)
    await worker.own_and_commit(7)
    worker.broker.log_end = 9
    await worker.assign(7)
    assert [type(failure) for failure in worker.failures] == [IncompleteState]
    assert "log ends of 0" not in worker.broker.log
    worker.archives.close_all()


@pytest.mark.parametrize("start", [-1, 9])
async def test_a_partition_that_cannot_be_read_on_stops_the_worker(folder: Path, start: int) -> None:
    worker = Worker(folder)
    await worker.assign()
    for _ in range(MOST_GAPS):
        worker.restore(12, (b"v", row(1)), start=start)
    assert worker.failures == []
    worker.restore(12, (b"v", row(1)), start=start)
    assert [type(failure) for failure in worker.failures] == [IncompleteState]
    worker.archives.close_all()


async def test_a_block_that_comes_twice_or_overlaps_changes_nothing_in_the_end(folder: Path) -> None:
    worker = Worker(folder)
    await worker.assign()
    for _ in range(2):
        worker.restore(4, (b"u", row(1)), start=0)
        worker.restore(7, (b"u", row(2)), start=5)
    assert worker.table.persisted_offset(TAIL) == 7
    assert dict(worker.table.data._iteritems()) == {b"u": row(2)}
    worker.archives.close_all()


async def test_a_block_of_a_partition_that_was_given_away_is_dropped(folder: Path) -> None:
    worker = Worker(folder)
    await worker.assign()
    other = TP(CHANGELOG, 1)
    worker.restore(3, (b"x", row(1)), tp=other)
    assert worker.table.persisted_offset(other) == -1
    assert list(worker.slab.items()) == []
    assert worker.broker.sought == []
    worker.archives.close_all()


async def test_a_state_in_memory_that_is_ahead_of_its_changelog_stops_the_worker(folder: Path) -> None:
    """As after an unclean election of a leader that lacks the end: others would go on with less."""
    worker = Worker(folder)
    await worker.assign()
    worker.restore(7, (b"u", row(1)))
    await worker.assign(7)
    assert [type(failure) for failure in worker.failures] == [IncompleteState]
    assert "stands for offset 7" in str(worker.failures[0])
    worker.archives.close_all()
