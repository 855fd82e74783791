"""Both embedded servers together: for the duration of a command (`EmbeddedStack`), or until `down` (`up`).

`stack.json` in the stack's folder holds the addresses of a running stack; it counts only while its processes live.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from stream.database.connection import DatabaseConnection
from stream.embedded.kafka import EmbeddedKafka
from stream.embedded.lock import file_lock
from stream.embedded.postgres import EmbeddedPostgres
from stream.embedded.server import EmbeddedError, Identity, stop_process
from stream.kafka.connection import KafkaConnection

Progress = Callable[[str, str], None]
"""Called with a server's name and what it is doing, from the thread that starts it."""

LOCK_TIMEOUT_S = 120.0
_STOP_SIGNALS = {EmbeddedKafka.name: EmbeddedKafka.stop_signal, EmbeddedPostgres.name: EmbeddedPostgres.stop_signal}


class StackAddress(msgspec.Struct, frozen=True):
    """Where a running stack is. `owner` is the process that it ends with; None for one that `up` detached."""

    bootstrap_servers: str
    database_url: str
    processes: dict[str, Identity]
    owner: Identity | None = None

    @property
    def kafka(self) -> KafkaConnection:
        return KafkaConnection.parse(self.bootstrap_servers)

    @property
    def database(self) -> DatabaseConnection:
        return DatabaseConnection(self.database_url)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by server name."""
        return {name: identity.pid for name, identity in self.processes.items()}


class EmbeddedStack:
    """Both servers, from `start` to `stop`, as a context manager; they end with this process in any case.

    With `detached` they stay after it. Use `up` for that: it also reuses a stack that is already there.
    """

    def __init__(
        self,
        directory: Path,
        *,
        detached: bool = False,
        heap_mb: int = 512,
        progress: Progress = lambda _server, _doing: None,
    ) -> None:
        self.directory = directory
        self.kafka = EmbeddedKafka(directory / "kafka", heap_mb=heap_mb, detached=detached)
        self.postgres = EmbeddedPostgres(directory / "postgres", detached=detached)
        self._detached = detached
        self._progress = progress
        self._address: StackAddress | None = None

    @property
    def address(self) -> StackAddress:
        if self._address is None:
            raise EmbeddedError("the embedded stack is not running; call start first")
        return self._address

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> StackAddress:
        """Starts both at once and returns when both answer; on any failure or interrupt stops what it started.

        Raises `EmbeddedError`, also when a stack already runs in this folder.
        """
        with _locked(self.directory):
            present = running(self.directory)
            if present is not None:
                raise EmbeddedError(_occupied(self.directory, present))
            _stop_leftovers(self.directory)
            return self._start()

    def stop(self) -> None:
        """Stops both and waits. Calling it again does nothing."""
        if self._address is None:
            return
        with _locked(self.directory):
            try:
                self._stop_servers()
            finally:
                self._address = None
                _address_file(self.directory).unlink(missing_ok=True)

    def _start(self) -> StackAddress:
        cancelled = threading.Event()
        with ThreadPoolExecutor(2, thread_name_prefix="embedded") as pool:
            futures = [
                pool.submit(server.start, self._reporter(server.name), cancelled)
                for server in (self.kafka, self.postgres)
            ]
            try:
                # Short waits: a signal's handler runs between them.
                while not all(future.done() for future in futures):
                    done, _ = wait(futures, timeout=0.2, return_when="FIRST_EXCEPTION")
                    if any(future.exception() for future in done):
                        break
                failures = [failure for future in futures if future.done() and (failure := future.exception())]
                if failures:
                    raise failures[0]
                self._address = StackAddress(
                    bootstrap_servers=str(self.kafka.connection),
                    database_url=self.postgres.connection.url,
                    processes={server.name: server.identity for server in (self.kafka, self.postgres)},
                    owner=None if self._detached else Identity.of(os.getpid()),
                )
                _write_address(self.directory, self._address)
                return self._address
            except BaseException:
                cancelled.set()
                wait(futures)
                self._address = None
                self._stop_servers()
                raise

    def _stop_servers(self) -> None:
        with ThreadPoolExecutor(2, thread_name_prefix="embedded") as pool:
            futures = [pool.submit(server.stop) for server in (self.kafka, self.postgres)]
        for future in futures:
            future.result()

    def _reporter(self, server: str) -> Callable[[str], None]:
        return lambda doing: self._progress(server, doing)


def up(directory: Path, *, heap_mb: int = 512, progress: Progress = lambda _server, _doing: None) -> StackAddress:
    """Starts a stack that stays after this process, or returns the address of one that already does.

    Raises `EmbeddedError`, also when the stack in this folder belongs to a process that will take it along.
    """
    with _locked(directory):
        present = running(directory)
        if present is not None:
            if present.owner is not None:
                raise EmbeddedError(_occupied(directory, present))
            return present
        _stop_leftovers(directory)
        return EmbeddedStack(directory, detached=True, heap_mb=heap_mb, progress=progress)._start()


def down(directory: Path) -> bool:
    """Stops the stack that `up` started in this folder, whatever is left of it; whether there was anything to stop.

    Raises `EmbeddedError` when the stack belongs to another running process: that one stops it.
    """
    if not directory.is_dir():
        return False
    with _locked(directory):
        present = _read_address(directory)
        if present is not None and present.owner is not None and present.owner.process() is not None:
            raise EmbeddedError(_occupied(directory, present))
        return _stop_leftovers(directory)


def running(directory: Path) -> StackAddress | None:
    """The address of the stack in this folder if all of its processes live, else None."""
    address = _read_address(directory)
    if address is None or any(identity.process() is None for identity in address.processes.values()):
        return None
    return address


def _stop_leftovers(directory: Path) -> bool:
    """Ends what a stack that is no longer whole has left, and forgets it; whether there was any process."""
    address = _read_address(directory)
    if address is None:
        _address_file(directory).unlink(missing_ok=True)
        return False
    alive = {name: identity for name, identity in address.processes.items() if identity.process() is not None}
    for name, identity in alive.items():
        stop_process(identity, _STOP_SIGNALS.get(name, signal.SIGTERM))
    _address_file(directory).unlink(missing_ok=True)
    return bool(alive)


def _address_file(directory: Path) -> Path:
    return directory / "stack.json"


def _read_address(directory: Path) -> StackAddress | None:
    try:
        return msgspec.json.decode(_address_file(directory).read_bytes(), type=StackAddress)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        # Of another version, or cut short by a full disk: it names no process that could be stopped safely.
        return None


def _write_address(directory: Path, address: StackAddress) -> None:
    draft = directory / "stack.json.draft"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(address), indent=2) + b"\n")
    draft.replace(_address_file(directory))


def _occupied(directory: Path, present: StackAddress) -> str:
    if present.owner is None:
        return f"an embedded stack already runs in {directory}; use it, or stop it with `foreshock down`"
    return (
        f"the embedded stack in {directory} belongs to process {present.owner.pid} and ends with it; "
        "wait for that or choose another folder with --stack-dir"
    )


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One process at a time starts or stops the stack of a folder."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(f"{directory} cannot be used: {error}; choose another folder with --stack-dir") from error

    def give_up() -> EmbeddedError:
        return EmbeddedError(
            f"another process has been starting or stopping the stack in {directory} for {LOCK_TIMEOUT_S:.0f} s; "
            "wait for it or choose another folder with --stack-dir"
        )

    with file_lock(directory / "stack.lock", LOCK_TIMEOUT_S, give_up):
        yield
