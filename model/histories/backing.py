"""Where the large arrays of histories live: in memory, or in files, of which the system holds in memory what is in use.
Knows nothing of what the arrays hold.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Arrays: TypeAlias = tuple[NDArray[Any], ...]
USERS_AT_ONCE = 4_096
"""Of so many users the events are in memory together while they are put in order."""


class Pieces(Protocol):
    """Tuples of arrays that are put one after another under a number, and taken again, in order, number by number."""

    def put(self, number: int, arrays: Arrays) -> None:
        """Keep a piece."""
        ...

    def take(self, number: int) -> list[Arrays]:
        """The pieces of a number, which are forgotten."""
        ...


class Backing(Protocol):
    """Makes arrays."""

    users_at_once: int | None
    """Users whose events are put in order in one go; None for all."""

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """An array of zeros, to be filled."""
        ...

    def pieces(self) -> Pieces:
        """A new store of pieces."""
        ...


class InMemory:
    """Arrays and pieces in memory."""

    users_at_once: int | None = None

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        return np.zeros(tuple(shape), dtype=dtype)

    def pieces(self) -> Pieces:
        return _PiecesInMemory()


class OnDisk:
    """Arrays and pieces in files of `folder`, which have no name there: they vanish with the arrays, or with the
    process."""

    def __init__(self, folder: Path, users_at_once: int = USERS_AT_ONCE) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.users_at_once: int | None = users_at_once

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        size = int(np.prod(tuple(shape))) * np.dtype(dtype).itemsize
        if not size:
            return np.zeros(tuple(shape), dtype=dtype)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            file.truncate(size)
            mapped = np.memmap(file, dtype=dtype, mode="r+", shape=tuple(shape))
        # A plain array: numpy's own functions would else make subclasses of everything that is computed from it.
        return mapped.view(np.ndarray)

    def pieces(self) -> Pieces:
        return _PiecesOnDisk(self.folder)


class _PiecesInMemory:
    def __init__(self) -> None:
        self._held: dict[int, list[Arrays]] = {}

    def put(self, number: int, arrays: Arrays) -> None:
        self._held.setdefault(number, []).append(arrays)

    def take(self, number: int) -> list[Arrays]:
        return self._held.pop(number, [])


class _PiecesOnDisk:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, IO[bytes]] = {}
        self._widths: dict[int, int] = {}

    def put(self, number: int, arrays: Arrays) -> None:
        file = self._files.get(number)
        if file is None:
            file = self._files[number] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by `take`
        self._widths[number] = len(arrays)
        for array in arrays:
            np.save(file, array, allow_pickle=False)

    def take(self, number: int) -> list[Arrays]:
        file = self._files.pop(number, None)
        if file is None:
            return []
        with file:
            end = file.tell()
            file.seek(0)
            pieces = list[Arrays]()
            while file.tell() < end:
                pieces.append(tuple(np.load(file, allow_pickle=False) for _ in range(self._widths[number])))
        return pieces


def joined(parts: Iterable[Arrays]) -> Arrays:
    """Pieces one after another, column by column. Needs at least one."""
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
