"""The writer while a real server refuses, drops or breaks what it does: told as transient, and well again after."""

import datetime as dt
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from psycopg import sql

from stream.database.connection import Connection, DatabaseConnection
from stream.database.errors import DatabaseOutdated, DatabaseUnavailable
from stream.database.migration import downgrade, upgrade
from stream.database.writer import DatabaseWriter, Written
from stream.embedded.postgres import EmbeddedPostgres
from stream.outputs import Score


def a_score(user_id: str, sequence: int = 1) -> Score:
    return Score(
        score_id=f"transactions:0:{user_id}-{sequence}",
        event_id="e",
        user_id=user_id,
        occurred_at=dt.datetime(2023, 5, 6, tzinfo=dt.UTC),
        sequence=sequence,
        score=0.25,
        horizons={"90": 0.25},
        level="LOW",
        baseline=0.125,
        delta=0.125,
        days_past_due=None,
        source_topic="transactions",
        source_partition=0,
        source_offset=sequence,
        model="m",
    )


@pytest.fixture
def upgraded(database: DatabaseConnection) -> DatabaseConnection:
    upgrade(database)
    return database


@pytest.fixture
def writer(upgraded: DatabaseConnection) -> Iterator[DatabaseWriter]:
    with DatabaseWriter(upgraded) as writer:
        yield writer


@pytest.fixture
def administrator(server_database: DatabaseConnection) -> Iterator[Connection]:
    """A connection to another database of the same server."""
    with server_database.connect("administrator") as connection:
        yield connection


def end_sinks(administrator: Connection) -> int:
    ended = administrator.execute(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = 'foreshock-sink'"
    ).fetchone()
    assert ended is not None
    return int(str(ended[0]))


def wait_until_blocked(administrator: Connection, future: Future[Written]) -> None:
    for _ in range(400):
        waiting = administrator.execute(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'foreshock-sink' AND wait_event_type = 'Lock'"
        ).fetchone()
        if waiting:
            return
        assert not future.done(), future.exception()
        time.sleep(0.01)
    raise AssertionError("the writer never waited for the lock")


def test_a_connection_that_was_cut_is_opened_again(writer: DatabaseWriter, administrator: Connection) -> None:
    writer.write_scores([a_score("ann", 1)])
    assert end_sinks(administrator) == 1

    with pytest.raises(DatabaseUnavailable, match="is not available"):
        writer.write_scores([a_score("ann", 2)])
    assert writer.write_scores([a_score("ann", 2)]) == Written(scores=1, users=1)


def test_an_outage_lasts_and_ends(
    writer: DatabaseWriter, upgraded: DatabaseConnection, administrator: Connection
) -> None:
    name = sql.Identifier(urlsplit(upgraded.url).path[1:])
    writer.write_scores([a_score("ann", 1)])
    administrator.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
    end_sinks(administrator)

    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            writer.write_scores([a_score("ann", 2)])

    administrator.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    assert writer.write_scores([a_score("ann", 2)]) == Written(scores=1, users=1)


def test_a_cut_in_the_middle_of_a_batch_leaves_nothing_of_it(
    writer: DatabaseWriter, upgraded: DatabaseConnection, administrator: Connection
) -> None:
    writer.write_scores([a_score("bob", 1)])
    with upgraded.connect() as blocker, ThreadPoolExecutor(1) as pool:
        with blocker.transaction():
            blocker.execute("SELECT 1 FROM user_scores WHERE user_id = 'bob' FOR UPDATE")
            future = pool.submit(writer.write_scores, [a_score("ann", 1), a_score("bob", 2)])
            wait_until_blocked(administrator, future)  # history is inserted, the user's row is not
            end_sinks(administrator)
            with pytest.raises(DatabaseUnavailable):
                future.result(timeout=20)
        assert blocker.execute("SELECT count(*) FROM score_history").fetchone() == (1,)

    assert writer.write_scores([a_score("ann", 1), a_score("bob", 2)]) == Written(scores=2, users=2)


def test_a_deadlock_is_transient(
    writer: DatabaseWriter, upgraded: DatabaseConnection, administrator: Connection
) -> None:
    writer.write_scores([a_score("ann", 1), a_score("bob", 1)])
    batch = [a_score("ann", 2), a_score("bob", 2)]
    with upgraded.connect() as other, ThreadPoolExecutor(1) as pool:
        other.execute("SET deadlock_timeout = '60s'")  # so that it is the writer whom the server sends away
        with other.transaction():
            other.execute("SELECT 1 FROM user_scores WHERE user_id = 'bob' FOR UPDATE")
            future = pool.submit(writer.write_scores, batch)
            wait_until_blocked(administrator, future)
            other.execute("SELECT 1 FROM user_scores WHERE user_id = 'ann' FOR UPDATE")
        with pytest.raises(DatabaseUnavailable, match="deadlock detected"):
            future.result(timeout=20)

    assert writer.write_scores(batch) == Written(scores=2, users=2)


def test_a_read_only_server_is_transient(writer: DatabaseWriter, upgraded: DatabaseConnection) -> None:
    """What a client meets that reaches the old primary after a failover."""
    writer.write_scores([a_score("ann", 1)])
    with upgraded.connect() as connection:
        database = connection.info.dbname
        connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        writer.close()
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            writer.write_scores([a_score("ann", 2)])
        connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")

    assert writer.write_scores([a_score("ann", 2)]) == Written(scores=1, users=1)


def test_an_empty_database_says_what_to_run(database: DatabaseConnection) -> None:
    with DatabaseWriter(database) as writer:
        for _ in range(2):
            with pytest.raises(DatabaseOutdated, match="run `foreshock db upgrade`"):
                writer.write_scores([a_score("ann")])
        upgrade(database)
        assert writer.write_scores([a_score("ann")]) == Written(scores=1, users=1)


def test_a_schema_taken_away_says_so_and_comes_back(writer: DatabaseWriter, upgraded: DatabaseConnection) -> None:
    writer.write_scores([a_score("ann")])
    downgrade(upgraded, "base")
    with pytest.raises(DatabaseOutdated):
        writer.write_scores([a_score("ann", 2)])
    upgrade(upgraded)

    assert writer.write_scores([a_score("ann", 2)]) == Written(scores=1, users=1)
    with upgraded.connect() as connection:
        assert connection.execute("SELECT count(*) FROM score_history_2023_05").fetchone() == (1,), (
            "month not made again"
        )


def test_what_was_written_survives_a_crash_of_the_server(tmp_path: Path) -> None:
    """Also on a server set to answer commits before they are on disk: the sink's offsets are committed by then."""
    server = EmbeddedPostgres(tmp_path)
    try:
        upgraded = server.start()
        upgrade(upgraded)
        with upgraded.connect() as connection:
            connection.execute("ALTER SYSTEM SET synchronous_commit = off")
            # Long enough that nothing reaches the disk by chance before the crash.
            connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("CHECKPOINT")
        with DatabaseWriter(upgraded) as writer:
            writer.write_scores([a_score("ann", 1)])
            crash(tmp_path / "data")
            server.stop()
            assert server.start() == upgraded

            with upgraded.connect() as connection:
                assert connection.execute("SELECT count(*) FROM score_history").fetchone() == (1,)
            with pytest.raises(DatabaseUnavailable):
                writer.write_scores([a_score("ann", 2)])
            assert writer.write_scores([a_score("ann", 1), a_score("ann", 2)]) == Written(scores=1, users=1)
    finally:
        server.stop()


def crash(data: Path) -> None:
    """End a server as a crash would, without a checkpoint: PostgreSQL's immediate shutdown."""
    process = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
    process.send_signal(signal.SIGQUIT)
    psutil.wait_procs([process], timeout=20)
