"""The slab: the rows of all users in one array, found by partition and key. No I/O; must not interpret a row's
fields."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.state.row import NO_OFFSET, OTHER_MODEL, Rows, StateMismatch, first_due_day
from stream.structured import Columns, put_records, take_records

Pairs = list[tuple[bytes, bytes | None]]
"""Keys and the bytes of their rows, None for a forgotten user: keys and values of changelog records."""


class Slab:
    """Rows of users by partition and key, in one array that grows by doubling.

    The same key on two partitions is two users: a partition is never computed from a key. Rows of a dropped partition
    are used again.

    `reserve_bytes` reserves address space, so that growing within it copies nothing; memory is taken only as rows are
    written. Where the system refuses the reservation, the array grows by doubling alone.
    """

    def __init__(self, blank: Rows, capacity: int = 1024, *, reserve_bytes: int = 0) -> None:
        self._blank = blank
        self._rows = _reserved(blank.dtype, capacity, reserve_bytes)
        self._whole = np.dtype((np.void, blank.dtype.itemsize))
        model: Any = blank["model"]
        start = model.ctypes.data - blank.ctypes.data
        self._model_bytes = slice(start, start + model.itemsize)
        self._index: dict[int, dict[bytes, int]] = {}
        self._owners: list[tuple[int, bytes]] = []
        self._partition_of = np.zeros(len(self._rows), dtype=np.int64)
        """By row, the partition of its owner: as in `_owners`, for many rows at once."""
        self._used = 0
        self._free: list[int] = []
        self._frozen = np.zeros(len(self._rows), dtype=np.bool_)
        """By row, whether `frozen` is still to give it as it is now."""
        self._kept: dict[int, bytes | None] = {}
        """Bytes of frozen rows that were located since, as they were before; None of a forgotten user."""
        self._gone: set[int] = set()
        """Blank rows of forgotten users, who are to be removed from wherever rows are kept as well."""
        self.counts: Counter[str] = Counter()
        """Rows moved between memory and disk; empty for a slab without disk."""

    @property
    def dtype(self) -> np.dtype[np.void]:
        return self._rows.dtype

    @property
    def rows(self) -> Rows:
        """All rows, to read and to write in place; valid until the next `locate` or `put`, which may move them."""
        return self._rows

    @property
    def extent(self) -> int:
        """How many of `rows` have ever been in use; the others were never written."""
        return self._used

    def __len__(self) -> int:
        return self._used - len(self._free) - len(self._gone)

    def partitions(self) -> list[int]:
        return list(self._index)

    def locate(self, partition: int, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Row numbers of users, int64 `[n]`; a user not seen before gets a blank row.

        Whoever locates a row may change it.
        """
        found, new = self._find_or_add(partition, keys)
        self._keep(found)
        if self._gone:
            self._gone.difference_update(found.tolist())
        if new:
            self._fill(partition, new)
        return found

    def forget(self, partition: int, key: bytes) -> int:
        """Forget a user; returns the number of their row, which is blank from now on.

        It stays theirs until `frozen` has told of it, so that no other user's row can take its place before that. A
        user who is located again meanwhile begins with it.
        """
        (row,) = located = self.locate(partition, [key])
        put_records(self._rows, located, self._blank)
        self._gone.add(int(row))
        return int(row)

    def _let_go(self, told: Iterable[int]) -> None:
        """Remove forgotten users, of whose rows `frozen` has told."""
        for row in told:
            self.remove(*self._owners[row])

    def _fill(self, partition: int, new: list[int]) -> None:  # noqa: ARG002
        """Write the first content of new rows."""
        put_records(self._rows, np.array(new), np.repeat(self._blank, len(new)))

    def gather(self, rows: NDArray[np.int64]) -> Rows:
        """A copy of rows."""
        return take_records(self._rows, rows)

    def scatter(self, rows: NDArray[np.int64], values: Rows) -> None:
        """Write rows back; `rows` must not repeat."""
        put_records(self._rows, rows, values)

    def partitions_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The partition of each of `rows`, int64 `[n]`."""
        return self._partition_of[rows]

    def freeze(self, rows: NDArray[np.int64]) -> None:
        """Let `frozen` give `rows`, int64 `[n]`, as they are now, however they are changed after being located."""
        if len(self._frozen) < len(self._rows):
            self._frozen = np.concatenate((self._frozen, np.zeros(len(self._rows) - len(self._frozen), np.bool_)))
        self._frozen[rows] = True

    def frozen(self, rows: NDArray[np.int64]) -> dict[int, Pairs]:
        """Keys and bytes, by partition, that frozen `rows` had when they were frozen; they are not frozen any more."""
        untouched = self._frozen[rows]
        self._frozen[rows] = False
        found = self.by_partition(rows[untouched])
        for row in rows[~untouched].tolist():
            partition, key = self._owners[row]
            found.setdefault(partition, []).append((key, self._kept.pop(row)))
        if self._gone:
            self._let_go(self._gone.intersection(rows[untouched].tolist()))
        return found

    def thaw(self) -> None:
        """Nothing is frozen any more."""
        self._frozen[:] = False
        self._kept.clear()

    def _keep(self, located: NDArray[np.int64]) -> None:
        """Before rows may change: remember those that are frozen."""
        held = np.unique(located[located < len(self._frozen)])
        held = held[self._frozen[held]]
        if held.size:
            size = self._rows.dtype.itemsize
            content = take_records(self._rows, held).tobytes()
            parts = (content[at : at + size] for at in range(0, len(content), size))
            self._kept.update(
                (row, None if row in self._gone else part) for row, part in zip(held.tolist(), parts, strict=True)
            )
            self._frozen[held] = False

    def by_partition(self, rows: NDArray[np.int64]) -> dict[int, Pairs]:
        """Keys and bytes of rows, by partition. `rows` must not repeat."""
        size = self._rows.dtype.itemsize
        content = memoryview(take_records(self._rows, rows).tobytes())
        found: dict[int, Pairs] = {}
        for start, row in zip(range(0, len(content), size), rows.tolist(), strict=True):
            partition, key = self._owners[row]
            value = None if row in self._gone else bytes(content[start : start + size])
            found.setdefault(partition, []).append((key, value))
        return found

    def column(self, partition: int, field: str) -> tuple[list[bytes], NDArray[Any]]:
        """Keys of a partition and a copy of one field of their rows, in the same order."""
        index = self._index.get(partition, {})
        return list(index), take_records(
            self._rows[field], np.fromiter(index.values(), dtype=np.int64, count=len(index))
        )

    def keys_where(
        self, partition: int, field: str, chosen: Callable[[NDArray[Any]], NDArray[np.bool_]]
    ) -> list[bytes]:
        """Keys of those users of a partition of whose `field` `chosen` says so."""
        keys, values = self.column(partition, field)
        return [keys[number] for number in np.flatnonzero(chosen(values)).tolist()] if keys else []

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Bytes of a user's row, or None."""
        row = self._index.get(partition, {}).get(key)
        return None if row is None or row in self._gone else self._rows[row].tobytes()

    def put(self, partition: int, items: Iterable[tuple[bytes, bytes]], offset: int = NO_OFFSET) -> int:  # noqa: ARG002
        """Write rows from their bytes and return how many; the last one of a key wins.

        `offset` is the changelog offset up to which these are the rows; a slab with a disk stores it. Raises
        `StateMismatch` when a value has the wrong size or was written by another model.
        """
        latest = dict(items)
        if latest:
            rows = self._checked(partition, latest)
            located, _ = self._find_or_add(partition, list(latest))
            self._gone.difference_update(located.tolist())
            self.scatter(located, rows)
        return len(latest)

    def restore(self, partition: int, columns: Sequence[Columns], offset: int) -> int:  # noqa: ARG002
        """Write rows from columns of keys and rows' bytes, uint8 `[n, size]`, and return how many; else as `put`.

        Users whose column has no bytes are removed.
        """
        count = 0
        for keys, values in columns:
            if values is None:
                for key in keys:
                    self.remove(partition, key)
                continue
            self._check(partition, keys, values)
            located, _ = self._find_or_add(partition, keys)
            # Copied once, from wherever the values are. Of a repeated position the last value stays.
            put_records(self._rows, located, values.view(self._whole)[:, 0])
            count += len(keys)
        return count

    def _checked(self, partition: int, values: Mapping[bytes, bytes]) -> Rows:
        """The rows `[n]` that are in `values`, by key."""
        for size, some in itertools.groupby(values.items(), key=lambda item: len(item[1])):
            keys, parts = zip(*some, strict=True)
            self._check(partition, keys, np.ndarray((len(keys), size), dtype=np.uint8, buffer=b"".join(parts)))
        return np.frombuffer(b"".join(values.values()), dtype=self._rows.dtype)

    def _check(self, partition: int, keys: Sequence[bytes], values: NDArray[np.uint8]) -> None:
        """Raise `StateMismatch` for rows' bytes, uint8 `[n, size]`, that are of another size or model."""
        size, expected = self._rows.dtype.itemsize, int(self._blank["model"][0])
        if values.shape[1] != size:
            raise StateMismatch(
                f"state of user {keys[0]!r} on partition {partition} has {values.shape[1]} bytes, this worker's rows "
                f"have {size}: it was written by another version or model. {OTHER_MODEL}"
            )
        models = np.ascontiguousarray(values[:, self._model_bytes]).view("u8")
        strange = models[models != expected]
        if strange.size:
            raise StateMismatch(
                f"partition {partition} holds state of model {int(strange[0]):016x}, this worker runs "
                f"{expected:016x}. {OTHER_MODEL}"
            )

    def open_partition(self, partition: int) -> int | None:  # noqa: ARG002
        """Open a partition's rows on disk; returns the changelog offset that they are up to, None without any."""
        return None

    def discard_partition(self, partition: int, cause: str) -> None:
        """Forget a partition's rows in memory and on disk; `cause` is for the log."""

    def archive(self, partition: int, pairs: Sequence[tuple[bytes, bytes | None]], offset: int) -> None:
        """Note that the changelog holds these rows, as `by_partition` gave them, up to `offset`."""

    def owing(self, partition: int, until_day: int) -> tuple[list[bytes], Rows]:
        """Keys and rows of users with an instalment due by `until_day` that is unpaid and not yet named as missed."""
        index = self._index.get(partition, {})
        numbers = np.fromiter(index.values(), dtype=np.int64, count=len(index))
        keys = list(index)
        owing = np.flatnonzero(first_due_day(self._rows, numbers) <= until_day) if len(index) else numbers
        return [keys[number] for number in owing.tolist()], take_records(self._rows, numbers[owing])

    def remove(self, partition: int, key: bytes) -> None:
        row = self._index.get(partition, {}).pop(key, None)
        if row is not None:
            self._gone.discard(row)
            self._free.append(row)

    def drop_partition(self, partition: int) -> None:
        """Forget every user of a partition."""
        rows = self._index.pop(partition, {}).values()
        self._gone.difference_update(rows)
        self._free.extend(rows)

    def clear(self) -> None:
        for partition in self.partitions():
            self.drop_partition(partition)

    def items(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Partition, key and row bytes of every user."""
        for partition, index in self._index.items():
            for key, row in index.items():
                if row not in self._gone:
                    yield partition, key, self._rows[row].tobytes()

    def _find_or_add(self, partition: int, keys: Sequence[bytes]) -> tuple[NDArray[np.int64], list[int]]:
        """Row numbers, int64 `[n]`, and those of them that are new, whose content is undefined."""
        index = self._index.setdefault(partition, {})
        found = [index.get(key, -1) for key in keys]
        new: list[int] = []
        if -1 in found:
            # A key may stand twice.
            unknown = list(dict.fromkeys(key for key, row in zip(keys, found, strict=True) if row < 0))
            new = self._take_rows(len(unknown))
            index.update(zip(unknown, new, strict=True))
            for key, row in zip(unknown, new, strict=True):
                self._owners[row] = (partition, key)
            self._partition_of[new] = partition
            found = [index[key] for key in keys]
        return np.array(found, dtype=np.int64), new

    def _take_rows(self, count: int) -> list[int]:
        """Numbers of rows without a user; rows of former users first."""
        again = [self._free.pop() for _ in range(min(count, len(self._free)))]
        start, self._used = self._used, self._used + count - len(again)
        if self._used > len(self._rows):
            grown = np.zeros(max(2 * len(self._rows), self._used), dtype=self._rows.dtype)
            put_records(grown, slice(start), self._rows[:start])
            self._rows = grown
            self._partition_of = np.concatenate(
                (self._partition_of, np.zeros(len(grown) - len(self._partition_of), np.int64))
            )
        self._owners += itertools.repeat((-1, b""), self._used - start)
        return again + list(range(start, self._used))


def _reserved(dtype: np.dtype[np.void], capacity: int, reserve_bytes: int) -> Rows:
    """Zeros for `capacity` rows, or for as many as fit into `reserve_bytes` if the system grants them."""
    if reserve_bytes > capacity * dtype.itemsize:
        try:
            return np.zeros(reserve_bytes // dtype.itemsize, dtype=dtype)
        except MemoryError:
            pass
    return np.zeros(capacity, dtype=dtype)
