"""A lock on a file, held by one thread of one process at a time and let go by the system when that process ends."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.05


@contextmanager
def file_lock(path: Path, timeout_s: float, give_up: Callable[[], Exception]) -> Iterator[None]:
    """Holds the lock on `path`, which is made if missing; raises what `give_up` returns after `timeout_s`."""
    # flock and not lockf: record locks belong to the process, so two threads of it would both get one.
    with path.open("ab") as file:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise give_up() from None
                time.sleep(POLL_S)
        yield
