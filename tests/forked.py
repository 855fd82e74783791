"""Commands of Foreshock in processes of their own, forked from one that has already imported what they import.

`ForkedProcess` and `run` stand in for `ServerProcess` and `subprocess.run` where a test is of what a command does, and
not of how its process comes to be. One server (`tests.fork_server`) for each test session, started when it is first
asked for. Where the coverage tool is to look into these processes they are started as ever.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stream.embedded.server import Identity, ServerProcess

MODULES = (
    "foreshock.services",
    "foreshock.replay",
    "foreshock.explanation",
    "bench.chaos.fault_points",
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
    """The process that forks."""

    def __init__(self) -> None:
        # A pool of threads, as NumPy would start, is lost in a fork.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", *MODULES],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=Path(__file__).parents[1],
            start_new_session=True,
        )  # fmt: skip
        # Threads of a test start processes too: each must be told of its own.
        self._turn = threading.Lock()
        self._unread = b""
        self._started: dict[int, float] = {}
        self._codes: dict[int, int] = {}

    def start(self, command: Sequence[str], output: Path, errors: Path, environment: Mapping[str, str]) -> Identity:
        """Forks a process that does what `python COMMAND…` does, in the current folder; returns at once."""
        request = {
            "command": list(command), "environment": dict(environment), "folder": os.getcwd(), "output": str(output),
            "errors": str(errors),
        }  # fmt: skip
        assert self._process.stdin is not None
        with self._turn:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            deadline_s = time.monotonic() + _LIMIT_S
            while not self._started:
                assert self._read(deadline_s), f"no process within {_LIMIT_S} s"
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
        assert said, f"the server of forks has ended with {self._process.wait()}; its words are among those of pytest"
        *lines, self._unread = (self._unread + said).split(b"\n")
        for line in lines:
            reply: dict[str, Any] = json.loads(line)
            if "started" in reply:
                self._started[reply["started"]] = reply["created_s"]
                self._codes.pop(reply["started"], None)  # of an earlier process by the same id
            else:
                self._codes[reply["ended"]] = reply["code"]
        return True


_servers: list[ForkServer] = []


def server() -> ForkServer:
    """That of this session."""
    if not _servers:
        _servers.append(ForkServer())
    return _servers[0]


def close() -> None:
    """At the end of the session."""
    while _servers:
        _servers.pop().close()


def _may_fork() -> bool:
    return "COVERAGE_PROCESS_CONFIG" not in os.environ


class ForkedProcess(ServerProcess):
    """A server whose command is `[sys.executable, "-c" or "-m", …]`."""

    def start(self) -> None:
        """Forks the process and returns at once."""
        if not _may_fork():
            super().start()
            return
        python, *command = self._command
        assert python == sys.executable
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._identity = server().start(command, self.log, self.log, os.environ)


def run(
    command: Sequence[str], timeout_s: float = 300, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What `foreshock COMMAND…` writes and its exit code; `environment` is that of this process where none is given."""
    environment = os.environ if environment is None else environment
    arguments = ["-m", "foreshock", *command]
    if not _may_fork():
        return subprocess.run(
            [sys.executable, *arguments],
            env=dict(environment), capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        identity = server().start(arguments, output, errors, environment)
        code = server().await_end(identity, timeout_s)
        if code is None:
            process = identity.process()
            assert process is not None
            process.kill()
            raise subprocess.TimeoutExpired(arguments, timeout_s, output.read_bytes(), errors.read_bytes())
        return subprocess.CompletedProcess(arguments, code, output.read_text(), errors.read_text())
