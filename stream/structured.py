"""Structured records moved as the bytes that they are.

numpy copies a structured record field by field, up to thirty times slower than its bytes. Pure; knows no layout.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Records = NDArray[np.void]
Columns = tuple[list[bytes], NDArray[np.uint8] | None]
"""Keys, and as many values of one size: uint8 `[n, size]`, each value contiguous. None where keys are deleted."""


def take_records(records: Records, index: Any) -> Records:
    """A copy of the records at `index`, an array of positions (or a tuple of them)."""
    return np.asarray(_raw(records)[index]).view(records.dtype)


def put_records(records: Records, index: Any, values: Records) -> None:
    """Write `values`, contiguous and of the same dtype, to `index`; of repeated positions the last one stands."""
    _raw(records)[index] = _raw(values)


def copy_records(records: Records) -> Records:
    """A contiguous copy, also of records that lie far apart inside wider ones."""
    return _raw(records).copy().view(records.dtype)


def take_floats(records: Records, name: str, part: slice, index: NDArray[np.int64]) -> NDArray[np.float32]:
    """A copy of the numbers `part` of the float32 field `name` of the records at `index`: `[index, part]`."""
    return np.asarray(_floats(records, name, part)[index]).view(np.float32).reshape(len(index), part.stop - part.start)


def put_floats(records: Records, name: str, part: slice, index: NDArray[np.int64], values: NDArray[np.float32]) -> None:
    """Write contiguous `values` `[index, part]` where `take_floats` reads them."""
    raw = _floats(records, name, part)
    raw[index] = values.reshape(-1).view(raw.dtype)


def _floats(records: Records, name: str, part: slice) -> Records:
    """The bytes of a part of a field, one item per record."""
    offset: int = records.dtype.fields[name][1]  # type: ignore[index]
    size = np.dtype(np.float32).itemsize
    return np.ndarray(
        len(records),
        _bytes_dtype((part.stop - part.start) * size),
        buffer=records,
        offset=offset + part.start * size,
        strides=records.strides,
    )


def _raw(records: Records) -> Records:
    return records.view(_bytes_dtype(records.dtype.itemsize))


@functools.cache
def _bytes_dtype(size: int) -> np.dtype[np.void]:
    return np.dtype((np.void, size))
