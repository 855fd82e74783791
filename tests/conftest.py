"""The embedded stack as fixtures: one broker and one database server per session, started when a test first asks.

Names are what keeps tests apart: `topic_prefix` for topics and groups, `database` for a database of one's own.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from psycopg import sql

from stream.database.connection import DatabaseConnection
from stream.embedded.kafka import EmbeddedKafka
from stream.embedded.postgres import EmbeddedPostgres
from stream.kafka.connection import KafkaConnection

_NUMBERS = itertools.count(1)

# A deadline for an example would measure the machine, which others use too, and not the code.
hypothesis.settings.register_profile("foreshock", deadline=None)
hypothesis.settings.load_profile("foreshock")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own `FORESHOCK_*` variables or `foreshock.toml` must not decide what a test sees."""
    for name in [name for name in os.environ if name.startswith("FORESHOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FORESHOCK_CONFIG", str(Path(__file__).with_name("no-such-file.toml")))


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """Where servers keep their data. Not under pytest's own temporary folder: each session that starts takes that away
    from other system users, and PostgreSQL, which refuses to run as root, may be one."""
    with tempfile.TemporaryDirectory(prefix="foreshock-tests-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def kafka(server_folder: Path) -> Iterator[KafkaConnection]:
    """A real broker."""
    broker = EmbeddedKafka(server_folder / "kafka")
    try:
        yield broker.start()
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def server_database(server_folder: Path) -> Iterator[DatabaseConnection]:
    """An empty database on a real server. Tests that write take `database` instead."""
    server = EmbeddedPostgres(server_folder / "postgres")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test of this session uses, e.g. for `Settings.topic_prefix` and group names."""
    return f"test{next(_NUMBERS)}."


@pytest.fixture
def database(server_database: DatabaseConnection) -> Iterator[DatabaseConnection]:
    """A fresh, empty database that is dropped afterwards, whoever is still connected."""
    name = f"test{next(_NUMBERS)}"
    with server_database.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield DatabaseConnection(f"{server_database.url.rsplit('/', 1)[0]}/{name}")
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
