"""What the table's store tells Faust's recovery, and when rows reach the disk beneath it."""

from __future__ import annotations

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
from stream.worker.store import StateTable

DTYPE = row_dtype(5)
BLANK = blank_row(DTYPE, 0xABC)
CHANGELOG = "test-store-user_state-changelog"
TAIL = TP(CHANGELOG, 0)


class Broker:
    """Knows where the changelog ends and who owns what."""

    def __init__(self) -> None:
        self.end = 0
        self.fails = False
        self.log: list[str] = []

    async def own(self, partitions: frozenset[int]) -> None:
        if self.fails:
            raise ConnectionError("no coordinator")
        self.log.append(f"own {','.join(map(str, sorted(partitions)))}")

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
            options={"slab": self.slab, "own": self.broker.own, "on_failure": self.failures.append},
        )

    async def assign(self) -> None:
        await self.table.on_rebalance({TAIL, TP("transactions", 0)}, set(), set())

    def restore(self, offset: int, *pairs: tuple[bytes, bytes | None]) -> None:
        records = [SimpleNamespace(key=key, value=value, offset=offset) for key, value in pairs]
        message = SimpleNamespace(tp=TAIL, value=Block.of(records, offset + 1))
        self.table.apply_changelog_batch([SimpleNamespace(message=message)])


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
    assert worker.broker.log == ["own 0"]
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
    assert worker.table.persisted_offset(TAIL) is None
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
    second.broker.end = 7
    await second.assign()
    assert second.table.persisted_offset(TAIL) == 6
    assert dict(second.table.data._iteritems()) == {b"u": row(5), b"v": row(1)}
    await second.table.data.on_recovery_completed(set(), set())
    assert second.archives.partitions() == []
    assert second.table.persisted_offset(TAIL) is None
    await second.assign()
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
    second.broker.end = 6
    await second.assign()
    assert second.table.persisted_offset(TAIL) is None
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
    assert worker.table.persisted_offset(TAIL) is None
    worker.archives.close_all()
