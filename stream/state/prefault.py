"""Takes memory pages from the system before they are written, on a thread of its own.

The first write to a page costs more than filling it, and many times more on a virtual machine whose host has no page
ready. The thread does this without Python's lock, on another core. Works on Linux from 5.14; elsewhere does nothing.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

AHEAD_BYTES = 64 * 1024 * 1024
STEP_BYTES = 8 * 1024 * 1024
_MADV_POPULATE_WRITE = 23


class Prefault:
    """Keeps the memory behind the used part of an array populated, at most `AHEAD_BYTES` of it."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._done: Future[None] | None = None
        self._array: NDArray[Any] | None = None
        self._reached = 0
        self._possible = sys.platform.startswith("linux")

    def ahead_of(self, array: NDArray[Any], used: int) -> None:
        """Populate pages behind the first `used` elements of the contiguous `array`; returns at once."""
        if not self._possible or (self._done is not None and not self._done.done()):
            return
        if array is not self._array:
            self._array, self._reached = array, 0
        used_bytes = used * array.itemsize
        end = min(used_bytes + AHEAD_BYTES, array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        start = max(self._reached, used_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end - start < STEP_BYTES:
            return
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="prefault")
        self._done = self._thread.submit(self._populate, array, start, end)

    def stop(self) -> None:
        """End the thread; `ahead_of` starts a new one."""
        if self._thread is not None:
            self._thread.shutdown()
        self._thread = self._done = self._array = None

    def _populate(self, array: NDArray[Any], start: int, end: int) -> None:
        populate = ctypes.CDLL(None).madvise
        populate.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        first = -(-array.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (array.ctypes.data + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        for step in range(first + start, min(first + end, last), STEP_BYTES):
            if populate(step, min(STEP_BYTES, min(first + end, last) - step), _MADV_POPULATE_WRITE):
                self._possible = False  # an older kernel, or no memory left, of which the write itself will fail
                return
        self._reached = end
