"""The rows of all users on this machine's disk: one RocksDB for each partition of the changelog.

An archive is a copy of the changelog up to an offset, never beyond it. The archive and the records after that offset
give the exact state, so an archive may be lost or out of date at any time. Must use neither Kafka nor Faust.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import msgspec
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from stream.state.row import NEVER, OTHER_MODEL, StateMismatch

DUE, ABOUT = "due", "about"
"""Column families beside the rows: users by the due date of their first open instalment, and the rows' origin."""

_ORIGIN, _OFFSET, _WRITTEN = b"origin", b"offset", b"written"

DAY_MS = 86_400_000

WRITE_BUFFER_BYTES = 16 << 20
WRITE_BUFFER_SHARE = 0.5
"""Share of the memory for rows not yet written to a file; the rest is for blocks of files, indexes and filters."""

BLOCK_BYTES = 4_096
BLOOM_BITS = 10
LOG_FILES, LOG_BYTES = 2, 1 << 20

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding JSON can raise, whatever the bytes are."""

CORRUPTION = "Corruption"
"""What RocksDB's messages about damaged files begin with."""

DAMAGED = "damaged"
"""A file in an archive's folder that says so."""

logger = logging.getLogger("foreshock.archive")


class ArchiveError(RuntimeError):
    """The folder of the archives, or what is in it, cannot be used; the message names it and says what to do."""


class Origin(msgspec.Struct, frozen=True):
    """What an archive's rows were copied from. Rows of another changelog are discarded; another model is an error."""

    changelog_id: str
    model: int
    row_bytes: int
    layout: int = 1


class Archive:
    """The rows of one partition and the changelog offset up to which they are a copy; opened by `Archives`.

    Written without RocksDB's own log, since the changelog serves as one. A crash loses what was not yet in a file, rows
    together with their offset and due dates; the next start reads it from the changelog.
    """

    def __init__(self, folder: Path, memory: Memory, now_ms: Callable[[], int]) -> None:
        self._folder = folder
        self._now_ms = now_ms
        self._database = Rdict(str(folder), memory.options(), {DUE: memory.options(), ABOUT: memory.options()})
        self._about = self._database.get_column_family(ABOUT)
        self._dues = self._database.get_column_family(DUE)
        try:
            found = self._about.get(_OFFSET)
            self.offset: int | None = None if found is None else int.from_bytes(found, "big")
            found = self._about.get(_WRITTEN)
            self.written_ms: int | None = None if found is None else int.from_bytes(found, "big")
            """When rows were last written, by this machine's clock."""
            found = self._about.get(_ORIGIN)
            self.origin: Origin | None = None if found is None else msgspec.json.decode(found, type=Origin)
        except BaseException:
            for opened in (self._about, self._dues, self._database):  # or this process could not open it again
                opened.close()
            raise
        without_log: Any = WriteOptions()
        without_log.disable_wal = True
        self._database.set_write_options(without_log)
        self._about_family = self._database.get_column_family_handle(ABOUT)
        self._due_family = self._database.get_column_family_handle(DUE)
        self._first_due = b""
        """No entry is before this one. A scan from the very start would pass over all deleted entries."""

    def begin(self, origin: Origin) -> None:
        """Store the origin of a new archive's rows."""
        batch = WriteBatch(raw_mode=True)
        batch.put(_ORIGIN, msgspec.json.encode(origin), self._about_family)
        self._database.write(batch)
        self.origin = origin

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Bytes of users' rows, None for those that are not there."""
        with self._in_words():
            found: Any = self._database.get(list(keys))
        return cast(list[bytes | None], found)

    def write(
        self, rows: Sequence[tuple[bytes, bytes | None]], offset: int, due_day: Sequence[int], former_day: Sequence[int]
    ) -> None:
        """Store rows that the changelog holds up to `offset`, and delete those that are None, atomically. Raises
        `ArchiveError` where they cannot be stored.

        `due_day` are the due days of the rows' first open instalments, `NEVER` for none, and `former_day` the dates
        that they replace, where known. Where unknown, the old entry stays and `due_until` still returns it.
        """
        batch = WriteBatch(raw_mode=True)
        for (key, row), due, former in zip(rows, due_day, former_day, strict=True):
            if row is None:
                batch.delete(key)
            else:
                batch.put(key, row)
            if due == former:
                continue
            if former != NEVER:
                batch.delete(_entry(former, key), self._due_family)
            if due != NEVER:
                entry = _entry(due, key)
                batch.put(entry, b"", self._due_family)
                self._first_due = min(self._first_due, entry)
        batch.put(_OFFSET, offset.to_bytes(8, "big"), self._about_family)
        batch.put(_WRITTEN, self._now_ms().to_bytes(8, "big"), self._about_family)
        with self._in_words():
            self._database.write(batch)
        self.offset = offset

    def due_until(self, until_day: int) -> list[tuple[int, bytes]]:
        """Due dates up to `until_day` and their users, earliest first. Some may be outdated: the rows are right."""
        bounds = ReadOptions()
        bounds.set_iterate_upper_bound(_entry(until_day + 1, b""))
        entries = [entry for entry, _ in self._each(self._dues, self._first_due, bounds)]
        self._first_due = max(self._first_due, entries[0] if entries else _entry(until_day + 1, b""))
        return [(int.from_bytes(entry[:8], "big") - _BIAS, entry[8:]) for entry in entries]

    def forget_due(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Delete due dates that the rows no longer have."""
        batch = WriteBatch(raw_mode=True)
        for due_day, key in entries:
            batch.delete(_entry(due_day, key), self._due_family)
        with self._in_words():
            self._database.write(batch)

    def delete(self, key: bytes) -> None:
        """Forget one user."""
        with self._in_words():
            self._database.delete(key)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and bytes of all rows."""
        yield from self._each(self._database, b"", ReadOptions())

    def _each(self, family: Rdict, first: bytes, bounds: ReadOptions) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values from `first` on. RocksDB's iterators end at what is damaged as if nothing came after it; only
        their status tells."""
        with self._in_words():
            found: Any = family.iter(bounds)
            found.seek(first)
            while found.valid():
                yield found.key(), found.value()
                found.next()
            found.status()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Turns errors of RocksDB, which have no class of their own, into `ArchiveError`. What is damaged is marked, to
        be discarded by whoever opens it next."""
        try:
            yield
        except Exception as error:
            if not str(error).startswith(CORRUPTION):
                raise ArchiveError(
                    f"state_dir: {self._folder} cannot be used ({error}); check that its disk has room, and start the "
                    "worker again. Nothing is lost: what is missing there is read from the changelog"
                ) from error
            with suppress(OSError):
                (self._folder / DAMAGED).touch()
            raise ArchiveError(
                f"state_dir: {self._folder} is damaged ({error}); check its disk, and start the worker again: it "
                "discards what is there, and recovers the partition from the whole changelog"
            ) from error

    def close(self) -> None:
        """Close the files; the archive cannot be used afterwards. What they have no room for is told in the log."""
        del self._about_family, self._due_family
        told = False
        for opened in (self._about, self._dues, self._database):
            try:
                opened.close()
            except Exception as error:
                if not told:
                    logger.error(
                        "state_dir: %s cannot be written (%s); check that its disk has room. Nothing is lost: what is "
                        "missing there is read from the changelog at the next start",
                        self._folder,
                        error,
                    )
                told = True


class Memory:
    """One bound, for all archives of a worker, on blocks in memory and on rows not yet in a file."""

    def __init__(self, size_bytes: int) -> None:
        self._cache = Cache(size_bytes)
        self._buffers = WriteBufferManager.new_write_buffer_manager_with_cache(
            int(size_bytes * WRITE_BUFFER_SHARE), False, self._cache
        )

    def options(self) -> Options:
        """Options of one column family."""
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self._cache)
        blocks.set_block_size(BLOCK_BYTES)
        blocks.set_bloom_filter(BLOOM_BITS, False)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_manager(self._buffers)
        options.set_write_buffer_size(WRITE_BUFFER_BYTES)
        options.set_compression_type(DBCompressionType.none())  # most of a row is floats
        options.set_atomic_flush(True)  # of all column families, which no log would make consistent after a crash
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_keep_log_file_num(LOG_FILES)
        options.set_max_log_file_size(LOG_BYTES)
        return options


class Archives:
    """The archives of one worker's partitions, in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        origin: Origin,
        memory_bytes: int,
        *,
        most_days_away: float = math.inf,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Raises `ArchiveError` when the folder cannot be written or another worker uses it.

        Rows that were not written for `most_days_away` are discarded when they are opened: the changelog may no longer
        say whom of them to forget.
        """
        self._longest_away_ms = most_days_away * DAY_MS
        self._now_ms = now_ms
        self._folder = folder
        self._origin = origin
        self._memory = Memory(memory_bytes)
        self._open: dict[int, Archive] = {}
        self._lock: int | None = _locked(folder)

    def __getitem__(self, partition: int) -> Archive:
        """An archive that is open."""
        return self._open[partition]

    def __contains__(self, partition: int) -> bool:
        return partition in self._open

    def partitions(self) -> list[int]:
        """Partitions whose archives are open."""
        return list(self._open)

    def open(self, partition: int) -> Archive:
        """Open a partition's archive; it is empty where there was none, or one of another changelog, or one too old.

        Raises `StateMismatch` for rows of another model or layout.
        """
        if partition in self._open:
            return self._open[partition]
        archive = self._readable(partition)
        if archive.origin is not None and archive.origin.changelog_id != self._origin.changelog_id:
            archive.close()
            self._remove(partition, "it was copied from a changelog topic that has been made anew since")
            archive = self._readable(partition)
        elif archive.offset is not None and self._away_ms(archive) > self._longest_away_ms:
            archive.close()
            days = self._longest_away_ms / DAY_MS
            self._remove(partition, f"it was not written for {days:.0f} days, and the changelog forgets deletions")
            archive = self._readable(partition)
        if archive.origin is None:
            archive.begin(self._origin)
        elif archive.origin != self._origin:
            found = archive.origin
            archive.close()
            raise StateMismatch(
                f"{self._path(partition)} holds state of model {found.model:016x} in rows of {found.row_bytes} bytes, "
                f"this worker runs {self._origin.model:016x} with {self._origin.row_bytes}. {OTHER_MODEL}"
            )
        self._open[partition] = archive
        return archive

    def _away_ms(self, archive: Archive) -> float:
        return math.inf if archive.written_ms is None else self._now_ms() - archive.written_ms

    def discard(self, partition: int, cause: str) -> None:
        """Empty an open archive, with a warning that gives the cause."""
        self._open.pop(partition).close()
        self._remove(partition, cause)
        self.open(partition)

    def close(self, partition: int) -> None:
        """Close an archive; what is in it stays."""
        archive = self._open.pop(partition, None)
        if archive is not None:
            archive.close()

    def close_all(self) -> None:
        """Close every archive and release the folder's lock."""
        for partition in self.partitions():
            self.close(partition)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _readable(self, partition: int) -> Archive:
        """An archive as it is on disk, or an empty one in place of one that is damaged."""
        path = self._path(partition)
        if (path / DAMAGED).exists():
            self._remove(partition, "it was found to be damaged when it was last used")
        try:
            return Archive(path, self._memory, self._now_ms)
        except Exception as error:
            if not str(error).startswith(CORRUPTION) and not isinstance(error, UNREADABLE):
                raise ArchiveError(
                    f"state_dir: {path} cannot be opened ({error}); check the disk and its permissions"
                ) from error
            self._remove(partition, f"it is damaged ({error})")
            return Archive(path, self._memory, self._now_ms)

    def _remove(self, partition: int, cause: str) -> None:
        path = self._path(partition)
        logger.warning("discarding %s: %s; its partition is recovered from the whole changelog", path, cause)
        doomed = path.with_suffix(".discarded")  # after a crash, a half-deleted folder must not have the old name
        if doomed.exists():
            shutil.rmtree(doomed)
        path.rename(doomed)
        shutil.rmtree(doomed)

    def _path(self, partition: int) -> Path:
        return self._folder / f"partition-{partition}"


_BIAS = 1 << 63
"""Added to a time, so that times before 1970 sort before the others."""


def _entry(due_day: int, key: bytes) -> bytes:
    return (due_day + _BIAS).to_bytes(8, "big") + key


def _locked(folder: Path) -> int:
    """File descriptor of the folder's lock, which the end of the process releases."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ArchiveError(f"state_dir: {folder} cannot be written ({error}); name a folder that can") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ArchiveError(
            f"state_dir: {folder} is in use by another worker; give each worker on a machine a state_dir of its own"
        ) from error
    return lock
