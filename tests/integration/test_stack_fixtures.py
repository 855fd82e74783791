"""The fixtures themselves: a real broker and a real database, fresh names for each test, outcomes that are compared."""

from __future__ import annotations

import psycopg

from stream.database.connection import DatabaseConnection
from stream.kafka.clients import open_admin
from stream.kafka.connection import KafkaConnection
from tests.integration.conftest import Outcome


def test_broker_answers(kafka: KafkaConnection, topic_prefix: str) -> None:
    admin = open_admin(kafka)
    admin.create_topics({f"{topic_prefix}some": {"num_partitions": 3, "replication_factor": 1}})
    admin.wait_for_topics([f"{topic_prefix}some"])  # a broker that is busy tells of its partitions late
    (described,) = admin.describe_topics([f"{topic_prefix}some"])
    admin.close()
    assert len(described["partitions"]) == 3


def test_database_is_fresh_and_utc(database: DatabaseConnection, server_database: DatabaseConnection) -> None:
    assert database != server_database
    with psycopg.connect(database.url) as connection:
        row = connection.execute("SELECT current_setting('timezone'), current_setting('server_version_num')").fetchone()
        connection.execute("CREATE TABLE left_over (id int)")
    assert row is not None
    assert row[0] == "UTC"
    assert int(row[1]) // 10_000 == 18


def test_database_of_the_test_before_is_gone(server_database: DatabaseConnection) -> None:
    with server_database.connect() as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test%'").fetchall()
    assert rows == []


def test_what_differs_is_named() -> None:
    score = {f"score-{number}": b"{}" for number in range(80_000)}
    one = Outcome(score, {}, {(0, b"u"): b"row"}, {}, {})
    other = Outcome(score | {"score-7": b"{ }", "late": b"{}"}, {}, {}, {}, {})
    assert one.differences(one) == ""
    assert one.differences(other) == (
        "scores: 1 of 80001 missing: late; scores: 1 of 80001 different: score-7; rows: 1 of 0 too many: (0, b'u')"
    )
    assert repr(one) == "Outcome(80000 scores, 0 alerts, 1 rows, 0 latest, 0 contracts)"
