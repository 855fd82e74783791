"""Processes of Foreshock that are forked from one that has already imported what they import.

`ForkedProcess` stands in for `ServerProcess` where many processes come and go, and what counts is what they do and not
how they come to be: their start takes a tenth of a second of a processor instead of seconds. For Linux.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench import fork_server
from stream.embedded.server import Identity, ServerProcess

MODULES = (
    "foreshock.services",
    "foreshock.replay",
    "foreshock.explanation",
    "stream.worker.app",
    "stream.worker.metrics",
    "stream.state.archive",
    "stream.sink",
    "stream.kafka.service",
    "stream.least_rights",
    "stream.database.migration",
    "stream.database.summary",
    # What the libraries import when they are at work.
    "encodings.idna",
    "faust.app.router",
    "faust.assignor.partition_assignor",
    "faust.fixups.django",
    "faust.tables.objects",
    "faust.tables.sets",
    "faust.topics",
    "faust.transport.utils",
    "numpy.ma",
    "uvloop",
)
"""What the server imports. Not `onnxruntime`, which begins a thread."""

_LIMIT_S = 300.0
"""The first process comes when the server has imported everything, for which a machine with much else to do takes
minutes."""

_SLICE_S = 0.05
"""So long one thread waits for the end of its process before another one has its turn."""


class ForkServer:
    """The process that forks. A context: leaving it ends that, and all that it has started."""

    def __init__(self, modules: Sequence[str] = MODULES) -> None:
        # A pool of threads, as NumPy would start, is lost in a fork.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process: subprocess.Popen[bytes] | _Copy = subprocess.Popen(
            [sys.executable, "-m", "bench.fork_server", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._begin()

    def _begin(self) -> None:
        # Each thread that starts processes must be told of its own.
        self._turn = threading.Lock()
        self._unread = b""
        self._started: dict[int, float] = {}
        self._codes: dict[int, int] = {}

    @classmethod
    def of_this_process(cls) -> Self:
        """One that forks from what this process is now, with what it has imported. Before this has a second thread."""
        server = cls.__new__(cls)
        server._process = _Copy()
        server._begin()
        return server

    def start(self, command: Sequence[str], output: Path, errors: Path, environment: Mapping[str, str]) -> Identity:
        """Forks a process that does what `python COMMAND…` does, in the current folder; returns at once."""
        request = {
            "command": list(command),
            "environment": dict(environment),
            "folder": os.getcwd(),
            "output": str(output),
            "errors": str(errors),
        }
        assert self._process.stdin is not None
        with self._turn:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            deadline_s = time.monotonic() + _LIMIT_S
            while not self._started:
                if not self._read(deadline_s):
                    raise RuntimeError(f"no process was forked within {_LIMIT_S:.0f} s")
            return Identity(*self._started.popitem())

    def await_end(self, identity: Identity, timeout_s: float) -> int | None:
        """The exit code, a negative one of who was ended by a signal; None where it does not end in time."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            with self._turn:
                if identity.pid in self._codes:
                    return self._codes.pop(identity.pid)
                if self._read(min(deadline_s, time.monotonic() + _SLICE_S)):
                    continue
            if time.monotonic() >= deadline_s:
                return None
            time.sleep(0)  # or another thread might wait for its turn for long

    def process(self, name: str, command: Sequence[str | Path], log: Path) -> ForkedProcess:
        """One that is not yet started, of a command `[sys.executable, "-c" or "-m", …]`."""
        return ForkedProcess(name, command, log, forks=lambda: self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all that it has started, and the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _read(self, deadline_s: float) -> bool:
        """Takes in what the server says; False when that is nothing until the deadline."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], max(deadline_s - time.monotonic(), 0))[0]:
            return False
        said = os.read(self._process.stdout.fileno(), 65_536)
        if not said:
            raise RuntimeError(f"the server of forks has ended with {self._process.wait()}; its words stand above")
        *lines, self._unread = (self._unread + said).split(b"\n")
        for line in lines:
            reply: dict[str, Any] = json.loads(line)
            if "started" in reply:
                self._started[reply["started"]] = reply["created_s"]
                self._codes.pop(reply["started"], None)  # of an earlier process by the same id
            else:
                self._codes[reply["ended"]] = reply["code"]
        return True


class _Copy:
    """A copy of this process that serves forks; what `ForkServer` uses of a `subprocess.Popen`."""

    def __init__(self) -> None:
        requests, asked = os.pipe()
        told, replies = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.dup2(requests, 0)
            os.dup2(replies, 1)
            for number in (requests, asked, told, replies):
                os.close(number)
            fork_server.main(())
            sys.exit()
        os.close(requests)
        os.close(replies)
        self.stdin, self.stdout = os.fdopen(asked, "wb"), os.fdopen(told, "rb")

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class ForkedProcess(ServerProcess):
    """A server whose command is `[sys.executable, "-c" or "-m", …]`, forked by the server that `forks` gives."""

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, *, forks: Callable[[], ForkServer], **options: Any
    ) -> None:
        """`options` as those of `ServerProcess`; a forked process is neither detached nor another user's."""
        super().__init__(name, command, log, **options)
        self._forks = forks

    def start(self) -> None:
        """Forks the process and returns at once."""
        python, *command = self._command
        assert python == sys.executable
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._identity = self._forks().start(command, self.log, self.log, os.environ)
