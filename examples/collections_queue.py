"""A collections consumer: keeps the list of open alerts, most expected loss first.

    python collections_queue.py --bootstrap-servers localhost:9092 --state queue.db

Reads `alerts` as a consumer group; several share the partitions if they share the file's place (here a SQLite file, so
one). What was read is committed to Kafka after it was stored: a record that comes twice is recognised by its
`transition_id`, and changes nothing. Needs kafka-python and nothing of Foreshock.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from typing import Any

from kafka import KafkaConsumer

TABLES = """
CREATE TABLE IF NOT EXISTS open_alerts (alert_id TEXT PRIMARY KEY, user_id TEXT, level TEXT, expected_loss REAL,
    score REAL, since TEXT, say TEXT);
CREATE TABLE IF NOT EXISTS seen (transition_id TEXT PRIMARY KEY, user_id TEXT);
"""


def store(file: sqlite3.Connection, records: list[Any]) -> None:
    """Take transitions into the list, all or nothing."""
    with file:
        for record in records:
            if record.value is None:  # the borrower is forgotten
                for table in ("open_alerts", "seen"):
                    file.execute(f"DELETE FROM {table} WHERE user_id = ?", (record.key.decode(),))
                continue
            alert = json.loads(record.value)
            added = file.execute(
                "INSERT OR IGNORE INTO seen VALUES (?, ?)", (alert["transition_id"], alert["user_id"])
            ).rowcount
            if not added:
                continue
            if alert["kind"] == "cleared":
                file.execute("DELETE FROM open_alerts WHERE alert_id = ?", (alert["alert_id"],))
                continue
            say = alert["reasons"][0]["text"] if alert["reasons"] else ""
            file.execute(
                "INSERT OR REPLACE INTO open_alerts VALUES (?, ?, ?, ?, ?, ?, ?)",
                (alert["alert_id"], alert["user_id"], alert["level_to"], alert["expected_loss"], alert["score"],
                 alert["opened_at"], say),
            )  # fmt: skip


def main() -> None:
    """Read options, then follow the topic."""
    parser = argparse.ArgumentParser(description="Keeps the list of open alerts.")
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topic", default="alerts")
    parser.add_argument("--group", default="collections")
    parser.add_argument("--state", default="queue.db", help="SQLite file of the list")
    parser.add_argument("--until-idle", action="store_true", help="stop when nothing has come for three seconds")
    options = parser.parse_args()

    file = sqlite3.connect(options.state)
    file.executescript(TABLES)
    consumer = KafkaConsumer(
        options.topic, bootstrap_servers=options.bootstrap_servers, group_id=options.group, enable_auto_commit=False,
        auto_offset_reset="earliest", isolation_level="read_committed",
    )  # fmt: skip
    idle = 0
    while not (options.until_idle and consumer.assignment() and idle >= 6):
        batches = consumer.poll(timeout_ms=500)
        idle = 0 if batches else idle + 1
        for records in batches.values():
            store(file, records)
        if batches:
            consumer.commit()
    consumer.close()
    for user_id, level, loss, say in file.execute(
        "SELECT user_id, level, expected_loss, say FROM open_alerts ORDER BY expected_loss IS NULL, expected_loss DESC"
    ):
        print(json.dumps({"user_id": user_id, "level": level, "expected_loss": loss, "say": say}))


if __name__ == "__main__":
    main()
