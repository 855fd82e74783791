"""An archive stores each write atomically, and is discarded when it is of another changelog, or damaged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rocksdict import WriteBatch

from stream.state.archive import Archive, ArchiveError, Archives, Origin
from stream.state.row import NEVER, StateMismatch

ORIGIN = Origin("first", 0xABC, 8)
Opener = Callable[..., Archives]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Opens the same folder again and again, after closing it."""
    last: list[Archives] = []

    def open_again(origin: Origin = ORIGIN) -> Archives:
        while last:
            last.pop().close_all()
        last.append(Archives(tmp_path / "changelog", origin, 8 << 20))
        return last[0]

    yield open_again
    last[0].close_all()


def write(archive: Archive, rows: dict[bytes, bytes], offset: int) -> None:
    archive.write(list(rows.items()), offset, [NEVER] * len(rows), [NEVER] * len(rows))


def test_rows_and_offset_are_there_again(opened: Opener) -> None:
    archive = opened().open(3)
    assert archive.offset is None
    assert archive.read([b"a"]) == [None]
    write(archive, {b"a": b"1", b"b": b"2"}, 5)
    write(archive, {b"b": b"3"}, 6)
    archive = opened().open(3)
    assert archive.offset == 6
    assert archive.read([b"b", b"c", b"a"]) == [b"3", None, b"1"]
    assert dict(archive.items()) == {b"a": b"1", b"b": b"3"}
    assert opened().open(4).offset is None, "another partition"


def test_another_changelog_is_another_story(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    write(opened().open(0), {b"a": b"1"}, 5)
    archive = opened(Origin("second", 0xABC, 8)).open(0)
    assert archive.offset is None
    assert archive.read([b"a"]) == [None]
    assert "made anew" in caplog.text


@pytest.mark.parametrize("origin", [Origin("first", 0xDEF, 8), Origin("first", 0xABC, 16)])
def test_state_of_another_model_stops(opened: Opener, origin: Origin) -> None:
    write(opened().open(0), {b"a": b"1"}, 5)
    with pytest.raises(StateMismatch, match=r"0000000000000abc in rows of 8 bytes.*shadow remove"):
        opened(origin).open(0)
    assert opened().open(0).offset == 5, "it is left as it is"


def test_a_damaged_archive_is_discarded(opened: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    archives = opened()
    write(archives.open(0), {b"a": b"1"}, 5)
    archives.close(0)
    (manifest,) = (tmp_path / "changelog" / "partition-0").glob("MANIFEST*")
    manifest.write_bytes(b"not a manifest")
    assert archives.open(0).offset is None
    assert "it is damaged (Corruption" in caplog.text


@pytest.mark.parametrize("origin", [b"", b"{}", b'{"changelog_id":"\xff","model":1,"row_bytes":8}', b"[" * 100_000])
def test_an_archive_whose_origin_cannot_be_read_is_discarded(
    opened: Opener, caplog: pytest.LogCaptureFixture, origin: bytes
) -> None:
    archive = opened().open(0)
    write(archive, {b"a": b"1"}, 5)
    batch = WriteBatch(raw_mode=True)
    batch.put(b"origin", origin, archive._about_family)
    archive._database.write(batch)
    assert opened().open(0).offset is None
    assert "it is damaged" in caplog.text


def damage(path: Path) -> None:
    """Change every block of a file of RocksDB, but for its index."""
    content = bytearray(path.read_bytes())
    for place in range(30, max(len(content) - 2_000, 31), 400):
        content[place] ^= 0x55
    path.write_bytes(content)


def test_damage_to_what_is_read_first_is_discarded_at_once(
    opened: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(opened().open(0), {b"a": b"1"}, 5)
    archives = opened()
    for path in (tmp_path / "changelog" / "partition-0").glob("*.sst"):
        damage(path)
    assert archives.open(0).offset is None
    assert "it is damaged (Corruption" in caplog.text


@pytest.mark.parametrize("used", ["read", "due_until", "items"])
def test_damage_that_shows_in_use_stops_the_worker_and_its_successor_discards_it(
    opened: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture, used: str
) -> None:
    """RocksDB opens a database whose rows are damaged; reading them one after another just ends."""
    keys = [b"u%03d" % number for number in range(400)]
    archive = opened().open(0)
    archive.write([(key, os.urandom(400)) for key in keys], 5, list(range(400)), [NEVER] * 400)
    opened()
    files = [path for path in (tmp_path / "changelog" / "partition-0").glob("*.sst") if path.stat().st_size > 4_000]
    assert len(files) == 2, "rows and due dates"
    for path in files:
        damage(path)
    archive = opened().open(0)
    assert archive.offset == 5
    with pytest.raises(ArchiveError, match=r"partition-0 is damaged \(Corruption.*start the worker again"):
        archive.read(keys) if used == "read" else list(
            archive.due_until(500) if used == "due_until" else archive.items()
        )
    archive = opened().open(0)
    assert (archive.offset, archive.read(keys[:1]), archive.due_until(500)) == (None, [None], [])
    assert "it was found to be damaged" in caplog.text


FILLS = """
import logging, os, resource, sys
from pathlib import Path
from stream.state.archive import ArchiveError, Archives, Origin
logging.basicConfig()
archives = Archives(Path(sys.argv[1]), Origin("first", 0xABC, 8), 8 << 20)
archive = archives.open(0)
archive.write([(b"early", b"row")], 1, [0], [0])
archives.close(0)
archive = archives.open(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, -1))
try:
    for number in range(20_000):
        archive.write([(b"u%d" % (number % 60), os.urandom(4_000))], number, [0], [0])
except ArchiveError as error:
    print(error, flush=True)
archives.close_all()
"""


def test_a_disk_that_is_full_is_told_and_leaves_what_was_there(tmp_path: Path) -> None:
    """No file may grow beyond a limit, which RocksDB sees as it sees a disk without room."""
    folder = tmp_path / "changelog"
    command = [sys.executable, "-c", FILLS, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.startswith(f"state_dir: {folder / 'partition-0'} cannot be used (IO error")
    assert "check that its disk has room" in ended.stdout
    assert ended.stderr.count("cannot be written (IO error") == 1, "closing it tells once, and goes on"
    archives = Archives(folder, ORIGIN, 8 << 20)
    assert archives.open(0).offset == 1
    assert archives.open(0).read([b"early", b"u1"]) == [b"row", None]
    archives.close_all()


def test_discarding_leaves_an_empty_one_open(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    archives = opened()
    write(archives.open(0), {b"a": b"1"}, 5)
    archives.discard(0, "for a test")
    assert archives[0].offset is None
    assert archives[0].read([b"a"]) == [None]
    assert "for a test" in caplog.text


def test_one_folder_is_one_workers(opened: Opener, tmp_path: Path) -> None:
    opened()
    with pytest.raises(ArchiveError, match="in use by another worker; give each worker"):
        Archives(tmp_path / "changelog", ORIGIN, 8 << 20)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="cannot be written"):
        Archives(tmp_path / "file" / "changelog", ORIGIN, 8 << 20)


steps = st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 12), st.booleans()), max_size=30)


@settings(max_examples=25, deadline=None)
@given(steps, st.integers(-4, 13))
def test_due_dates_are_found(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, bool]], until: int
) -> None:
    """Users with an instalment due by the date are returned; outdated entries only where the former date was
    unknown."""
    archives = Archives(tmp_path_factory.mktemp("due"), ORIGIN, 8 << 20)
    archive = archives.open(0)
    owed: dict[bytes, int] = {}
    unknown: set[tuple[int, bytes]] = set()
    for number, due_ms, known in steps:
        key, due = b"u%d" % number, NEVER if due_ms == 12 else due_ms
        former = owed.get(key, NEVER)
        if not known and former != NEVER:
            unknown.add((former, key))
        archive.write([(key, b"row")], 1, [due], [former if known else NEVER])
        owed[key] = due
        if not number:
            archive.due_until(due_ms)
    expected = {(due, key) for key, due in owed.items() if due <= until}
    found = archive.due_until(until)
    assert found == sorted(found)
    assert expected <= set(found) <= expected | {entry for entry in unknown if entry[0] <= until}
    archive.forget_due(set(found) - expected)
    assert set(archive.due_until(until)) == expected
    archives.close_all()


WRITER = """
import sys
from pathlib import Path
from stream.state.archive import Archives, Origin
archive = Archives(Path(sys.argv[1]), Origin("first", 0xABC, 8), 8 << 20).open(0)
number = 0
while True:
    rows = [(b"u%d" % user, number.to_bytes(8, "big") * 10_000) for user in range(50)]
    archive.write(rows, number, [number] * 50, [number - 1] * 50)
    number += 1
    if number == 20:
        print("writing", flush=True)
"""


def test_a_killed_writer_leaves_rows_due_dates_and_offset_of_one_moment(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    archives = Archives(tmp_path, ORIGIN, 8 << 20)
    archive = archives.open(0)
    offset = archive.offset
    assert offset is not None
    assert dict(archive.items()) == {b"u%d" % user: offset.to_bytes(8, "big") * 10_000 for user in range(50)}
    assert sorted(archive.due_until(1 << 62)) == sorted((offset, b"u%d" % user) for user in range(50))
    archives.close_all()


def test_a_worker_in_memory_needs_no_database() -> None:
    program = "import sys; sys.modules['rocksdict'] = None; import stream.worker.app, foreshock.services"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_row_that_is_none_is_deleted_with_its_due_date(opened: Opener) -> None:
    archive = opened().open(0)
    archive.write([(b"a", b"1"), (b"b", b"2")], 3, [5, 5], [NEVER, NEVER])
    archive.write([(b"a", None), (b"b", b"3")], 7, [NEVER, 5], [5, 5])
    archive = opened().open(0)
    assert dict(archive.items()) == {b"b": b"3"}
    assert (archive.offset, archive.due_until(9)) == (7, [(5, b"b")])


def test_rows_that_may_have_missed_a_deletion_are_not_gone_on_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    day_ms = 86_400_000
    for now_days, is_kept in ((0, True), (29, True), (58, True), (88, False)):
        archives = Archives(
            tmp_path / "changelog", ORIGIN, 8 << 20, most_days_away=29, now_ms=lambda at=now_days: at * day_ms
        )
        try:
            archive = archives.open(0)
            assert (archive.offset is not None) == (is_kept and now_days > 0)
            write(archive, {b"a": b"1"}, 5)
        finally:
            archives.close_all()
    assert "not written for 29 days" in caplog.text
