"""Commands of Foreshock in processes of their own, forked from one that has already imported what they import.

`ForkedProcess` and `run` stand in for `ServerProcess` and `subprocess.run` where a test is of what a command does, and
not of how its process comes to be. One server (`bench.forks`) for each test session, started when it is first asked
for. Where the coverage tool is to look into these processes they are started as ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import forks
from bench.forks import ForkServer
from stream.embedded.server import ServerProcess

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


REPLAYS = "from tests.forked import fork_workers_of_replays\nfork_workers_of_replays()\n"
"""What a forked command runs first that replays: else each of its workers is started as ever."""


def fork_workers_of_replays() -> None:
    """Have this process fork workers of replays from itself."""
    from foreshock import replay_run

    forking = ForkServer.of_this_process()
    replay_run.ServerProcess = forking.process  # type: ignore[assignment,misc]


def may_fork() -> bool:
    """Whether processes are forked here, and not started as ever."""
    return "COVERAGE_PROCESS_CONFIG" not in os.environ


class ForkedProcess(forks.ForkedProcess):
    """A server whose command is `[sys.executable, "-c" or "-m", …]`."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, **options: Any) -> None:
        super().__init__(name, command, log, forks=server, **options)

    def start(self) -> None:
        """Forks the process and returns at once."""
        if may_fork():
            super().start()
        else:
            ServerProcess.start(self)


def run(
    command: Sequence[str], timeout_s: float = 300, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What `foreshock COMMAND…` writes and its exit code; `environment` is that of this process where none is given."""
    environment = os.environ if environment is None else environment
    arguments = ["-m", "foreshock", *command]
    if not may_fork():
        return subprocess.run(
            [sys.executable, *arguments],
            env=dict(environment), capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        if list(command[:2]) == ["replay", "run"]:
            arguments = ["-c", f"{REPLAYS}from foreshock import main\nmain()", *command]
        identity = server().start(arguments, output, errors, environment)
        code = server().await_end(identity, timeout_s)
        if code is None:
            process = identity.process()
            assert process is not None
            process.kill()
            raise subprocess.TimeoutExpired(arguments, timeout_s, output.read_bytes(), errors.read_bytes())
        return subprocess.CompletedProcess(arguments, code, output.read_text(), errors.read_text())
