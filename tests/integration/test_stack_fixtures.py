"""The session fixtures themselves: a real broker and a real database, fresh names for each test."""

from __future__ import annotations

import psycopg
from kafka import KafkaAdminClient


def test_broker_answers(kafka: str, topic_prefix: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics({f"{topic_prefix}some": {"num_partitions": 3, "replication_factor": 1}})
    (described,) = admin.describe_topics([f"{topic_prefix}some"])
    admin.close()
    assert len(described["partitions"]) == 3


def test_database_is_fresh_and_utc(database: str, database_url: str) -> None:
    assert database != database_url
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT current_setting('timezone'), current_setting('server_version_num')").fetchone()
        connection.execute("CREATE TABLE left_over (id int)")
    assert row is not None
    assert row[0] == "UTC"
    assert int(row[1]) // 10_000 == 18


def test_database_of_the_test_before_is_gone(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test%'").fetchall()
    assert rows == []
