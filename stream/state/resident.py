"""A slab over archives: the rows in use are in memory, all rows are on this machine's disk.

Does no I/O except through `stream.state.archive`; `stream.worker.checkpoint` decides what is durable.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stream.state.row import NEVER, NO_OFFSET, Rows, first_due_day
from stream.state.slab import Slab
from stream.structured import Columns, put_records, take_records

if TYPE_CHECKING:  # RocksDB is loaded by those who ask for it
    from stream.state.archive import Archives

SLACK = 16
"""One row in so many, the least recently used, is evicted at once: the search costs the same for one or many."""

ROWS_AT_ONCE = 4_096
"""So many archived rows are looked at together."""


class ResidentSlab(Slab):
    """Loads a row from its partition's archive when it is first located, and holds about `most_rows` rows in memory.

    A row that was located may change until it is archived, so it stays in memory until it was frozen after that and
    `archive` was told that what was frozen is in the changelog. Rows of one batch are therefore never evicted by
    locating others of it, and memory exceeds `most_rows` while more rows than that wait for a checkpoint. What was
    frozen is archived before more is frozen.
    """

    def __init__(
        self,
        blank: Rows,
        archives: Archives,
        most_rows: int | None,
        capacity: int = 1024,
        *,
        reserve_bytes: int = 0,
    ) -> None:
        super().__init__(blank, capacity, reserve_bytes=reserve_bytes)
        self._archives = archives
        self._most_rows = most_rows
        self._batch_no = 0
        self._used_in = np.zeros(len(self._rows), dtype=np.int64)
        """Per row, the number of the last batch that located it; 0 for a row without a user."""
        self._changed = np.zeros(len(self._rows), dtype=np.bool_)
        self._changed_since_frozen = np.zeros(len(self._rows), dtype=np.bool_)
        self._archived_due_day = np.full(len(self._rows), NEVER, dtype=np.int64)
        self._none_to_evict = False

    def partitions(self) -> list[int]:
        return self._archives.partitions()

    def open_partition(self, partition: int) -> int | None:
        return self._archives.open(partition).offset

    def discard_partition(self, partition: int, cause: str) -> None:
        self._leave(partition)
        self._archives.discard(partition, cause)

    def drop_partition(self, partition: int) -> None:
        """Forget every user of a partition; its archive stays on disk as it is."""
        self._leave(partition)
        self._archives.close(partition)

    def locate(self, partition: int, keys: Sequence[bytes]) -> NDArray[np.int64]:
        located = super().locate(partition, keys)
        self._batch_no += 1
        self._used_in[located] = self._batch_no
        self._changed[located] = True
        self._changed_since_frozen[located] = True
        if self._most_rows is not None and len(self) > self._most_rows and not self._none_to_evict:
            self._evict(self._most_rows)
        return located

    def freeze(self, rows: NDArray[np.int64]) -> None:
        super().freeze(rows)
        self._changed_since_frozen[rows] = False

    def archive(self, partition: int, pairs: Sequence[tuple[bytes, bytes | None]], offset: int) -> None:
        numbers = self._numbers(partition, [key for key, _ in pairs])
        if partition not in self._archives or (numbers < 0).any():
            return  # the partition was revoked while the changelog took the rows; its archive keeps the older offset
        self._write(partition, pairs, offset, numbers)
        self._changed[numbers] = self._changed_since_frozen[numbers]
        self._none_to_evict = False
        for row in self._gone.intersection(numbers.tolist()):
            if not self._changed[row]:
                self._leave_memory(row)

    def _let_go(self, told: Iterable[int]) -> None:
        """Nothing yet: until the archive has no row of theirs, only the blank one in memory says that they are gone."""

    def _leave_memory(self, row: int) -> None:
        self._used_in[row] = 0
        super().remove(*self._owners[row])

    def put(self, partition: int, items: Iterable[tuple[bytes, bytes]], offset: int = NO_OFFSET) -> int:
        """Write rows to the archive, and over those in memory."""
        return self._store(partition, dict(items), offset)

    def _store(self, partition: int, latest: Mapping[bytes, bytes | None], offset: int) -> int:
        """Write rows as `put`, and remove users whose bytes are None."""
        if latest:
            there = {key: row for key, row in latest.items() if row is not None}
            rows = self._checked(partition, there) if there else self._blank[:0]
            self._write(partition, list(latest.items()), offset, self._numbers(partition, list(latest)))
            numbers = self._numbers(partition, list(there))
            here = np.flatnonzero(numbers >= 0)
            put_records(self._rows, numbers[here], take_records(rows, here))
            self._changed[numbers[here]] = False
            self._gone.difference_update(numbers[here].tolist())
            removed = self._numbers(partition, list(latest.keys() - there.keys()))
            for row in removed[removed >= 0].tolist():
                self._leave_memory(row)
        return len(latest)

    def restore(self, partition: int, columns: Sequence[Columns], offset: int) -> int:
        """As `put`, in one write: the archive's offset is never ahead of its rows."""
        latest: dict[bytes, bytes | None] = {}
        for keys, values in columns:
            if values is None:
                latest.update(dict.fromkeys(keys))
            else:
                self._check(partition, keys, values)
                latest.update((key, row.tobytes()) for key, row in zip(keys, values, strict=True))
        return self._store(partition, latest, offset)

    def get(self, partition: int, key: bytes) -> bytes | None:
        found = super().get(partition, key)
        if found is None and key not in self._index.get(partition, {}) and partition in self._archives:
            (found,) = self._archives[partition].read([key])
        return found

    def remove(self, partition: int, key: bytes) -> None:
        row = self._index.get(partition, {}).get(key)
        if row is not None:
            self._used_in[row] = 0
        super().remove(partition, key)
        self._archives[partition].delete(key)

    def items(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Partition, key and row bytes of every user, in memory or not."""
        yield from super().items()
        for partition in self.partitions():
            index = self._index.get(partition, {})
            yield from ((partition, key, row) for key, row in self._archives[partition].items() if key not in index)

    def keys_where(
        self, partition: int, field: str, chosen: Callable[[NDArray[Any]], NDArray[np.bool_]]
    ) -> list[bytes]:
        keys = super().keys_where(partition, field, chosen)
        index = self._index.get(partition, {})
        archived = self._archives[partition].items() if partition in self._archives else iter(())
        absent = ((key, row) for key, row in archived if key not in index)
        while pairs := list(itertools.islice(absent, ROWS_AT_ONCE)):
            rows = np.frombuffer(b"".join(row for _, row in pairs), dtype=self.dtype)
            keys += [pairs[number][0] for number in np.flatnonzero(chosen(rows[field])).tolist()]
        return keys

    def owing(self, partition: int, until_day: int) -> tuple[list[bytes], Rows]:
        keys, rows = super().owing(partition, until_day)
        if partition not in self._archives:
            return keys, rows
        archive, index = self._archives[partition], self._index.get(partition, {})
        absent = [(due_day, key) for due_day, key in archive.due_until(until_day) if key not in index]
        if not absent:
            return keys, rows
        found = archive.read([key for _, key in absent])
        there = [entry for entry, row in zip(absent, found, strict=True) if row is not None]
        archived = np.frombuffer(b"".join(row for row in found if row is not None), dtype=self.dtype)
        right = first_due_day(archived) == np.array([due_day for due_day, _ in there], dtype=np.int64)
        owing = {entry: number for number, entry in enumerate(there) if right[number]}
        archive.forget_due([entry for entry in absent if entry not in owing])
        chosen = np.fromiter(owing.values(), dtype=np.int64, count=len(owing))
        return keys + [key for _, key in owing], np.concatenate((rows, archived[chosen]))

    def _fill(self, partition: int, new: list[int]) -> None:
        self._keep_up()
        found = self._archives[partition].read([self._owners[row][1] for row in new])
        numbers, is_known = np.array(new), np.array([row is not None for row in found])
        if not is_known.all():
            super()._fill(partition, numbers[~is_known].tolist())
        self._archived_due_day[numbers] = NEVER
        known = numbers[is_known]
        if known.size:
            rows = np.frombuffer(b"".join(row for row in found if row is not None), dtype=self.dtype)
            put_records(self._rows, known, rows)
            self._archived_due_day[known] = first_due_day(rows)
            self.counts["rows_loaded"] += len(known)

    def _keep_up(self) -> None:
        """Extend the arrays per row to the number of rows."""
        more = len(self._rows) - len(self._used_in)
        if more:
            self._used_in = np.concatenate((self._used_in, np.zeros(more, dtype=np.int64)))
            self._changed = np.concatenate((self._changed, np.zeros(more, dtype=np.bool_)))
            self._changed_since_frozen = np.concatenate((self._changed_since_frozen, np.zeros(more, dtype=np.bool_)))
            self._archived_due_day = np.concatenate((self._archived_due_day, np.full(more, NEVER, dtype=np.int64)))

    def _numbers(self, partition: int, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Row numbers of users, -1 for those not in memory."""
        index = self._index.get(partition, {})
        return np.array([index.get(key, -1) for key in keys], dtype=np.int64)

    def _write(
        self,
        partition: int,
        pairs: Sequence[tuple[bytes, bytes | None]],
        offset: int,
        numbers: NDArray[np.int64],
    ) -> None:
        due_day = np.full(len(pairs), NEVER, dtype=np.int64)
        there = np.flatnonzero(np.array([row is not None for _, row in pairs], dtype=np.bool_))
        due_day[there] = first_due_day(np.frombuffer(b"".join(row for _, row in pairs if row), dtype=self.dtype))
        here = numbers >= 0
        former_day = np.where(here, self._archived_due_day[numbers], NEVER)
        self._archives[partition].write(pairs, offset, due_day.tolist(), former_day.tolist())
        self._archived_due_day[numbers[here]] = due_day[here]
        self.counts["rows_archived"] += len(pairs)

    def _evict(self, most_rows: int) -> None:
        """Evict the least recently used of the rows that equal their archived content."""
        candidates = np.flatnonzero((self._used_in[: self._used] > 0) & ~self._changed[: self._used])
        wanted = min(len(self) - most_rows + most_rows // SLACK, len(candidates))
        self._none_to_evict = wanted == len(candidates)
        if not wanted:
            return
        victims = candidates[np.argpartition(self._used_in[candidates], wanted - 1)[:wanted]]
        self._used_in[victims] = 0
        rows = victims.tolist()
        for row in rows:
            partition, key = self._owners[row]
            del self._index[partition][key]
        self._free.extend(rows)
        self.counts["rows_evicted"] += len(rows)

    def _leave(self, partition: int) -> None:
        """Forget the users of a partition that are in memory."""
        index = self._index.get(partition, {})
        self._used_in[np.fromiter(index.values(), dtype=np.int64, count=len(index))] = 0
        super().drop_partition(partition)
