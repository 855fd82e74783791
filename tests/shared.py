"""What workers of pytest-xdist share: made by the one that asks first, and used by all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream.embedded.lock import file_lock

MAKING_LIMIT_S = 300.0

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
"""Name of this worker of pytest-xdist, empty without it."""


def session_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a session have in common."""
    own = factory.getbasetemp()
    return own.parent if WORKER else own


@contextmanager
def one_at_a_time(folder: Path, what: str) -> Iterator[None]:
    """Held by one worker: the others wait until it has made `what`, or found that somebody has."""
    with file_lock(folder / f"{what}.lock", MAKING_LIMIT_S, lambda: TimeoutError(f"{what} in another worker")):
        yield


@contextmanager
def server(folder: Path, what: str, start: Callable[[], str], stop: Callable[[], None]) -> Iterator[str]:
    """The address of a server, as `start` of the worker says that has started it.

    That worker calls `stop` when nobody uses the server any more, and waits for that: it is its server, and ends with
    it should it be killed. Who asks after that starts one anew.
    """
    address = folder / f"{what}.address"
    with (folder / f"{what}.users").open("ab") as users:
        with one_at_a_time(folder, what):
            # Kept until `users` is closed, also by a worker that is killed.
            fcntl.flock(users, fcntl.LOCK_SH)
            is_ours = not address.exists()
            if is_ours:
                address.write_text(start())
            found = address.read_text()
        try:
            yield found
        finally:
            if is_ours:
                fcntl.flock(users, fcntl.LOCK_EX)
                address.unlink()
                stop()
