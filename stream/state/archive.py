"""Rows of users on this machine's disk, beneath the slab: one RocksDB for each partition of the changelog.

An archive is a copy of the changelog up to an offset, and never ahead of it: that offset and the records after it give
the exact state, so an archive may be lost, or left behind, at any time. Knows neither Kafka nor Faust.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
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

from stream.state.row import NEVER, StateMismatch

DUE, ABOUT = "due", "about"
"""Column families beside the rows: users by the due date of their first open instalment, and what the rows are."""

_ORIGIN, _OFFSET = b"origin", b"offset"

WRITE_BUFFER_BYTES = 16 << 20
WRITE_BUFFER_SHARE = 0.5
"""Of the memory given: rows not yet written to a file. The rest is for blocks of files, their indexes and filters."""

BLOCK_BYTES = 4_096
BLOOM_BITS = 10
LOG_FILES, LOG_BYTES = 2, 1 << 20

logger = logging.getLogger("foreshock.archive")


class ArchiveError(RuntimeError):
    """The folder of the archives cannot be used; the message names it and says what to do."""


class Origin(msgspec.Struct, frozen=True):
    """What an archive's rows were copied from. Rows of another changelog are of no use, those of another model stop."""

    changelog_id: str
    model: int
    row_bytes: int
    layout: int = 1


class Archive:
    """The rows of one partition and the changelog offset that they stand for; opened by `Archives`.

    Written without RocksDB's own log: the changelog is one. What a crash takes away is what was not yet in a file, rows
    together with the offset and the due dates, and its successor reads that from the changelog.
    """

    def __init__(self, folder: Path, memory: Memory) -> None:
        self._database = Rdict(str(folder), memory.options(), {DUE: memory.options(), ABOUT: memory.options()})
        without_log: Any = WriteOptions()
        without_log.disable_wal = True
        self._database.set_write_options(without_log)
        self._about = self._database.get_column_family(ABOUT)
        self._dues = self._database.get_column_family(DUE)
        self._about_family = self._database.get_column_family_handle(ABOUT)
        self._due_family = self._database.get_column_family_handle(DUE)
        self._first_due = b""
        """No entry stands before this one. A look from the start would step over all that were taken away there."""
        found = self._about.get(_OFFSET)
        self.offset: int | None = None if found is None else int.from_bytes(found, "big")
        found = self._about.get(_ORIGIN)
        self.origin: Origin | None = None if found is None else msgspec.json.decode(found, type=Origin)

    def begin(self, origin: Origin) -> None:
        """Say what the rows of a new archive will be."""
        batch = WriteBatch(raw_mode=True)
        batch.put(_ORIGIN, msgspec.json.encode(origin), self._about_family)
        self._database.write(batch)
        self.origin = origin

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Bytes of users' rows, None for those that are not there."""
        found: Any = self._database.get(list(keys))
        return cast(list[bytes | None], found)

    def write(
        self, rows: Sequence[tuple[bytes, bytes]], offset: int, due_ms: Sequence[int], former_ms: Sequence[int]
    ) -> None:
        """Take over rows that stand in the changelog up to `offset`: after a crash all of it is there, or none.

        `due_ms` are the due dates of the rows' first open instalments, `NEVER` for none, and `former_ms` those that
        they replace where that is known. Where it is not, the old entry stays and `due_until` names it still.
        """
        batch = WriteBatch(raw_mode=True)
        for (key, row), due, former in zip(rows, due_ms, former_ms, strict=True):
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
        self._database.write(batch)
        self.offset = offset

    def due_until(self, until_ms: int) -> list[tuple[int, bytes]]:
        """Due dates up to `until_ms` and their users, the earliest first; the row has the last word on each."""
        bounds = ReadOptions()
        bounds.set_iterate_upper_bound(_entry(until_ms + 1, b""))
        found: Any = self._dues.keys(from_key=self._first_due, read_opt=bounds)
        entries: list[bytes] = list(found)
        self._first_due = max(self._first_due, entries[0] if entries else _entry(until_ms + 1, b""))
        return [(int.from_bytes(entry[:8], "big") - _BIAS, entry[8:]) for entry in entries]

    def forget_due(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Take away due dates that the rows no longer have."""
        batch = WriteBatch(raw_mode=True)
        for due_ms, key in entries:
            batch.delete(_entry(due_ms, key), self._due_family)
        self._database.write(batch)

    def delete(self, key: bytes) -> None:
        """Forget one user."""
        self._database.delete(key)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and bytes of all rows."""
        found: Any = self._database.items()
        yield from found

    def close(self) -> None:
        """Give the files up; the archive is not to be used any more."""
        del self._about_family, self._due_family
        self._about.close()
        self._dues.close()
        self._database.close()


class Memory:
    """What all archives of a worker share: one bound on blocks in memory and on rows not yet in a file."""

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
        options.set_atomic_flush(True)  # of all column families: there is no log to make them agree after a crash
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_keep_log_file_num(LOG_FILES)
        options.set_max_log_file_size(LOG_BYTES)
        return options


class Archives:
    """The archives of one worker's partitions, in a folder of its own."""

    def __init__(self, folder: Path, origin: Origin, memory_bytes: int) -> None:
        """Raises `ArchiveError` when the folder cannot be written or another worker uses it."""
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
        """Open a partition's archive, empty where there is none, or none of this changelog.

        Raises `StateMismatch` for rows of another model or layout.
        """
        if partition in self._open:
            return self._open[partition]
        archive = self._readable(partition)
        if archive.origin is not None and archive.origin.changelog_id != self._origin.changelog_id:
            archive.close()
            self._remove(partition, "it was copied from a changelog topic that has been made anew since")
            archive = self._readable(partition)
        if archive.origin is None:
            archive.begin(self._origin)
        elif archive.origin != self._origin:
            found = archive.origin
            archive.close()
            raise StateMismatch(
                f"{self._path(partition)} holds state of model {found.model:016x} in rows of {found.row_bytes} bytes, "
                f"this worker runs {self._origin.model:016x} with {self._origin.row_bytes}. Replay under the new model "
                "with another application_id, then hand over"
            )
        self._open[partition] = archive
        return archive

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
        """Close every archive and let another worker have the folder."""
        for partition in self.partitions():
            self.close(partition)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _readable(self, partition: int) -> Archive:
        """An archive as it is on disk, or an empty one in place of one that is damaged."""
        path = self._path(partition)
        try:
            return Archive(path, self._memory)
        except Exception as error:  # RocksDB's errors have no class of their own
            if not str(error).startswith("Corruption") and not isinstance(error, msgspec.DecodeError):
                raise ArchiveError(
                    f"state_dir: {path} cannot be opened ({error}); check the disk and its permissions"
                ) from error
            self._remove(partition, f"it is damaged ({error})")
            return Archive(path, self._memory)

    def _remove(self, partition: int, cause: str) -> None:
        path = self._path(partition)
        logger.warning("discarding %s: %s; its partition is recovered from the whole changelog", path, cause)
        doomed = path.with_suffix(".discarded")  # a folder that is only half there must not be found after a crash
        if doomed.exists():
            shutil.rmtree(doomed)
        path.rename(doomed)
        shutil.rmtree(doomed)

    def _path(self, partition: int) -> Path:
        return self._folder / f"partition-{partition}"


_BIAS = 1 << 63
"""Added to a time, so that those before 1970 stand before the others."""


def _entry(due_ms: int, key: bytes) -> bytes:
    return (due_ms + _BIAS).to_bytes(8, "big") + key


def _locked(folder: Path) -> int:
    """Descriptor of the folder's lock, which ends with the process."""
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
