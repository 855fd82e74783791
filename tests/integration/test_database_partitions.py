"""Month partitions on a real server: made once by many, never in the way of writers, whatever lies in the default."""

import datetime as dt
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from stream.database.connection import Connection, DatabaseConnection
from stream.database.migration import upgrade
from stream.database.partitions import ensure_months
from stream.database.writer import PARTITION_RETRY_S, DatabaseWriter, Written
from stream.outputs import Score

JANUARY, FEBRUARY, MARCH = (dt.date(2023, month, 1) for month in (1, 2, 3))


def a_score(day: dt.date, sequence: int = 1) -> Score:
    return Score(
        score_id=f"transactions:0:{sequence}",
        event_id="e",
        user_id="ann",
        occurred_at=dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC),
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


def partitions(connection: Connection) -> dict[str, int]:
    """Rows per partition of the history."""
    found = connection.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'score_history'::regclass"
    ).fetchall()
    counts: dict[str, int] = {}
    for (name,) in found:
        row = connection.execute(f"SELECT count(*) FROM {name}").fetchone()
        assert row is not None
        counts[str(name)] = int(str(row[0]))
    return counts


def test_a_batch_makes_the_months_it_needs(upgraded: DatabaseConnection) -> None:
    with DatabaseWriter(upgraded) as writer, upgraded.connect() as connection:
        writer.write_scores([a_score(JANUARY, 1), a_score(dt.date(2023, 1, 31), 2), a_score(MARCH, 3)])

        assert partitions(connection) == {
            "score_history_2023_01": 2,
            "score_history_2023_03": 1,
            "score_history_default": 0,
        }


def test_a_month_partition_has_every_index_and_check_of_its_parent(upgraded: DatabaseConnection) -> None:
    with upgraded.connect() as connection:
        ensure_months(connection, "score_history", [JANUARY])
        ours = {}
        for table in ("score_history_2023_01", "score_history_default"):
            ours[table] = connection.execute(
                "SELECT (SELECT count(*) FROM pg_index WHERE indrelid = %(table)s::regclass), "
                "(SELECT array_agg(pg_get_constraintdef(oid) ORDER BY contype, conname) FROM pg_constraint "
                "WHERE conrelid = %(table)s::regclass AND contype = 'c')",
                {"table": table},
            ).fetchone()
    assert ours["score_history_2023_01"] == ours["score_history_default"]
    assert ours["score_history_default"] is not None
    assert ours["score_history_default"][0] == 2


def test_many_sinks_at_once_make_each_month_once(upgraded: DatabaseConnection) -> None:
    months = [dt.date(2023, month, 1) for month in range(1, 9)]
    together = Barrier(4)

    def one_sink(_: int) -> set[dt.date]:
        with upgraded.connect() as connection:
            together.wait(timeout=20)
            return ensure_months(connection, "score_history", months)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(one_sink, range(4)))
    with upgraded.connect() as connection:
        assert made == [set(months)] * 4
        assert len(partitions(connection)) == len(months) + 1


def test_rows_that_wait_in_the_default_partition_move_into_their_month(upgraded: DatabaseConnection) -> None:
    with DatabaseWriter(upgraded) as writer, upgraded.connect() as connection:
        writer.write_scores([a_score(JANUARY, 1), a_score(FEBRUARY, 2)])
        connection.execute("ALTER TABLE score_history DETACH PARTITION score_history_2023_02")
        connection.execute("INSERT INTO score_history SELECT * FROM score_history_2023_02")
        connection.execute("DROP TABLE score_history_2023_02")
        assert partitions(connection) == {"score_history_2023_01": 1, "score_history_default": 1}

        assert ensure_months(connection, "score_history", [FEBRUARY]) == {FEBRUARY}

        assert partitions(connection) == {
            "score_history_2023_01": 1,
            "score_history_2023_02": 1,
            "score_history_default": 0,
        }
        assert writer.write_scores([a_score(FEBRUARY, 2)]) == Written(), "the same score twice"


def test_a_month_dropped_behind_the_writers_back_falls_to_the_default(upgraded: DatabaseConnection) -> None:
    with DatabaseWriter(upgraded) as writer, upgraded.connect() as connection:
        writer.write_scores([a_score(JANUARY, 1)])
        connection.execute("DROP TABLE score_history_2023_01")

        assert writer.write_scores([a_score(JANUARY, 2)]) == Written(scores=1, users=1)
        assert partitions(connection) == {"score_history_default": 1}


def test_a_long_reader_delays_a_partition_but_no_score(upgraded: DatabaseConnection) -> None:
    now = 1_000.0
    with (
        DatabaseWriter(upgraded, clock=lambda: now, partition_lock_timeout_ms=50) as writer,
        upgraded.connect() as connection,
    ):
        with upgraded.connect() as reader, reader.transaction():
            reader.execute("SELECT count(*) FROM score_history").fetchone()

            assert writer.write_scores([a_score(JANUARY, 1)]) == Written(scores=1, users=1)
            assert partitions(connection) == {"score_history_default": 1}

        now += PARTITION_RETRY_S / 2
        writer.write_scores([a_score(JANUARY, 2)])
        assert partitions(connection) == {"score_history_default": 2}, "tried again too soon"

        now += PARTITION_RETRY_S
        writer.write_scores([a_score(JANUARY, 3)])
        assert partitions(connection) == {"score_history_2023_01": 3, "score_history_default": 0}


def test_a_new_month_does_not_wait_for_a_batch_in_another(upgraded: DatabaseConnection) -> None:
    """A sink that is still inside its transaction on January must not keep another from making February."""
    with upgraded.connect() as busy, upgraded.connect() as connection:
        ensure_months(connection, "score_history", [JANUARY])
        with busy.transaction():
            busy.execute(
                "INSERT INTO score_history "
                "VALUES ('t:0:1', '2023-01-05', 'ann', 'e', 1, 0.5, '{}', 'LOW', 0.5, 0, NULL, 'm')"
            )
            assert ensure_months(connection, "score_history", [FEBRUARY], lock_timeout_ms=500) == {FEBRUARY}


def test_a_row_on_its_way_into_the_default_partition_is_waited_for_and_moved(upgraded: DatabaseConnection) -> None:
    with upgraded.connect() as busy, upgraded.connect("partition-maker") as connection, ThreadPoolExecutor(1) as pool:
        with busy.transaction():
            busy.execute(
                "INSERT INTO score_history "
                "VALUES ('t:0:1', '2023-02-05', 'ann', 'e', 1, 0.5, '{}', 'LOW', 0.5, 0, NULL, 'm')"
            )
            made = pool.submit(ensure_months, connection, "score_history", [FEBRUARY], lock_timeout_ms=20_000)
            with upgraded.connect() as observer:
                for _ in range(400):
                    if observer.execute(
                        "SELECT 1 FROM pg_stat_activity "
                        "WHERE application_name = 'partition-maker' AND wait_event_type = 'Lock'"
                    ).fetchone():
                        break
                    time.sleep(0.01)
                else:
                    raise AssertionError("the maker of the partition never waited")
        assert made.result(timeout=20) == {FEBRUARY}
        assert partitions(connection) == {"score_history_2023_02": 1, "score_history_default": 0}
