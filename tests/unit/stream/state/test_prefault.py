"""Memory is populated before it is written, and no more of it than the bound allows."""

from __future__ import annotations

import mmap
import sys

import numpy as np
import psutil
import pytest

from stream.state.prefault import AHEAD_BYTES, Prefault

MIB = 1 << 20


def resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs madvise with MADV_POPULATE_WRITE")
def test_memory_behind_what_is_used_is_there() -> None:
    array = np.zeros(512 * MIB // 64, dtype="V64")
    array[:1000] = array[2000]
    prefault = Prefault()
    before = resident_bytes()
    prefault.ahead_of(array, 1_000)
    prefault.stop()
    grown = resident_bytes() - before
    assert AHEAD_BYTES - 8 * MIB < grown < AHEAD_BYTES + 8 * MIB
    assert not np.frombuffer(array.tobytes()[-mmap.PAGESIZE :], dtype=np.uint8).any()


def test_content_and_short_arrays_are_left_alone() -> None:
    prefault = Prefault()
    for size in (10, 20 * MIB):
        array = np.arange(size // 8 + 1, dtype=np.int64)
        prefault.ahead_of(array, len(array) // 2)
        prefault.ahead_of(array, len(array))
        prefault.stop()
        np.testing.assert_array_equal(array, np.arange(size // 8 + 1))
