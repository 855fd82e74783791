"""The session fixtures themselves: a real broker and a real database, fresh names for each test."""

from __future__ import annotations

import psycopg

from stream.database.connection import DatabaseConnection
from stream.kafka.clients import open_admin
from stream.kafka.connection import KafkaConnection


def test_broker_answers(kafka: KafkaConnection, topic_prefix: str) -> None:
    admin = open_admin(kafka)
    admin.create_topics({f"{topic_prefix}some": {"num_partitions": 3, "replication_factor": 1}})
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
