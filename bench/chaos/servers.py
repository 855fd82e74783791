"""The broker and the database of runs, and what may happen to them: killed, frozen, torn, slow, full, used up.

They serve one run after the other, which keep to topics and a database of their own. A broker or database of somebody
else is never touched.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
from psycopg import sql

from stream.database import migration
from stream.database.connection import Connection, DatabaseConnection
from stream.embedded.kafka import EmbeddedKafka
from stream.embedded.postgres import EmbeddedPostgres
from stream.embedded.server import EmbeddedError, Identity
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import reachable

Tell = Callable[[str], None]

PORTS = range(20_000, 32_000)
"""Below those that a system gives to whoever connects: a client that tries again and again while a server is down would
at last get the server's own port, and the server not."""

BROKER_PROPERTIES = {
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "400",
}
"""How often the broker looks for transactions whose time has passed (by default every 10 s), and how long one that was
killed and started again is still taken for its former self, and has to wait (9 s)."""

MAX_CONNECTIONS = 20
TORN_BYTES = 100

_FULL = """
CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$
"""
_TABLES = ("user_scores", "score_history", "alert_events", "dead_letters")


class Servers:
    """The servers of runs that follow one another. A context: leaving it stops those that it started."""

    def __init__(self, folder: Path, kafka: KafkaConnection | None, tell: Tell = lambda _: None) -> None:
        """With `kafka`, somebody else's broker, there is no broker and no database to disturb."""
        self._folder = folder
        self._tell = tell
        self._running = ExitStack()
        self._broker: EmbeddedKafka | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._given = kafka

    def __enter__(self) -> Servers:
        if self._given is not None:
            reachable(self._given)
            return self
        self._broker = EmbeddedKafka(_folder_with_ports(self._folder / "kafka", 2), properties=BROKER_PROPERTIES)
        self._running.callback(self._broker.stop)
        self._broker.start(lambda doing: self._tell(f"Kafka: {doing}"))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def kafka(self) -> KafkaConnection:
        return self._given or self._owned_broker().connection

    @property
    def are_owned(self) -> bool:
        return self._broker is not None

    # The broker.

    def kill_broker(self, chance: random.Random, *, torn: str = "", away_s: float = 0.0) -> None:
        """End it as a crash would; with `torn`, the logs of topics that begin so end in the middle of a write."""
        broker = self._owned_broker()
        os.kill(broker.identity.pid, signal.SIGKILL)
        broker.stop()
        if torn:
            self._tear_logs(torn, chance)
        time.sleep(away_s)
        self._start_again(broker)

    def restart_broker(self) -> None:
        """Stop it in order, and start it again."""
        broker = self._owned_broker()
        broker.stop()
        self._start_again(broker)

    def freeze_broker(self, seconds: float) -> None:
        """Let it do nothing for so long."""
        pid = self._owned_broker().identity.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)

    def _owned_broker(self) -> EmbeddedKafka:
        assert self._broker is not None, "the broker is somebody else's"
        return self._broker

    @staticmethod
    def _start_again(server: EmbeddedKafka | EmbeddedPostgres) -> None:
        """Raises `EmbeddedError` where it does not come back to where its clients look for it."""
        before = server.connection
        if server.start() != before:
            raise EmbeddedError(f"{server.name} came back at another address; its port was taken meanwhile")

    def _tear_logs(self, prefix: str, chance: random.Random) -> None:
        for folder in sorted((self._folder / "kafka" / "data").glob(f"{prefix}*")):
            if chance.random() < 0.5:
                last = max(folder.glob("*.log"))
                with last.open("ab") as log:
                    log.write(chance.randbytes(chance.randint(1, TORN_BYTES)))

    # The database.

    @contextmanager
    def database(self, name: str) -> Iterator[DatabaseConnection]:
        """A database of that name with the current schema, dropped afterwards."""
        server = self._started_postgres()
        own = sql.Identifier(name)
        with server.connection.connect() as template:
            template_name = template.info.dbname
        with self._administrator() as administrator:
            administrator.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(own, sql.Identifier(template_name)))
        yield _named(server.connection, name)
        with self._administrator() as administrator:
            administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(own))

    def kill_database(self, away_s: float) -> None:
        """End the server and its processes as a crash would, and start it again."""
        server = self._started_postgres()
        identity = server.identity
        doomed = [*_children(identity), psutil.Process(identity.pid)]
        for process in reversed(doomed):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, timeout=10)
        server.stop()
        time.sleep(away_s)
        self._start_again(server)

    def lock_table(self, database: DatabaseConnection, seconds: float) -> None:
        """Let nobody read or write users' scores for so long."""
        with database.connect("chaos") as connection, connection.transaction(force_rollback=True):
            connection.execute("LOCK TABLE user_scores IN ACCESS EXCLUSIVE MODE")
            time.sleep(seconds)

    def fill_disk(self, database: DatabaseConnection, seconds: float) -> None:
        """Let every table answer as when there is no room, for so long."""
        with database.connect("chaos") as connection:
            connection.execute(_FULL)
            # Table by table: locks on several at once would be in a circle with those of a sink.
            for table in _TABLES:
                connection.execute(f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} EXECUTE FUNCTION disk_is_full()")
            time.sleep(seconds)
            for table in _TABLES:
                connection.execute(f"DROP TRIGGER full_disk ON {table}")
            connection.execute("DROP FUNCTION disk_is_full")

    def use_up_connections(self, database: DatabaseConnection, seconds: float) -> None:
        """Hold every connection that the server gives, for so long, and take those of the sinks away."""
        until_s = time.monotonic() + seconds
        held: list[Connection] = []
        try:
            held.append(database.connect("chaos"))
            while time.monotonic() < until_s:
                held[0].execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'foreshock-sink'"
                )
                with suppress(psycopg.OperationalError):
                    while len(held) <= MAX_CONNECTIONS:
                        held.append(psycopg.connect(database.connection_string("chaos"), autocommit=True))
                time.sleep(0.1)
        finally:
            for connection in held:
                connection.close()

    def _started_postgres(self) -> EmbeddedPostgres:
        if self._postgres is None:
            assert self._broker is not None, "runs on somebody else's broker have no database"
            server = EmbeddedPostgres(_folder_with_ports(self._folder / "postgres", 1))
            self._running.callback(server.stop)
            database = server.start(lambda doing: self._tell(f"PostgreSQL: {doing}"))
            with _ONE_AT_A_TIME:  # Alembic keeps what it works on in globals
                migration.upgrade(database)
            with database.connect() as connection:
                connection.execute(f"ALTER SYSTEM SET max_connections = {MAX_CONNECTIONS}")
            server.stop()
            self._start_again(server)
            self._postgres = server
        return self._postgres

    def _administrator(self) -> Connection:
        """A connection to no run's database."""
        return _named(self._started_postgres().connection, "postgres").connect("chaos")


def _named(connection: DatabaseConnection, name: str) -> DatabaseConnection:
    """Another database of the same server."""
    return replace(connection, url=urlsplit(connection.url)._replace(path=f"/{name}").geturl())


def _children(identity: Identity) -> list[psutil.Process]:
    try:
        return psutil.Process(identity.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


_ONE_AT_A_TIME = threading.Lock()
_ports_given: set[int] = set()


def _folder_with_ports(folder: Path, count: int) -> Path:
    """A server's folder in which it finds the ports to take, as those of its last run."""
    folder.mkdir(parents=True)
    with _ONE_AT_A_TIME:
        ports: list[int] = []
        for port in random.sample(PORTS, len(PORTS)):
            if len(ports) == count:
                break
            if port not in _ports_given and _is_free(port):
                _ports_given.add(port)
                ports.append(port)
    (folder / "ports").write_text(" ".join(map(str, ports)) + "\n")
    return folder


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
