"""A credit-limit service: follows `scores.latest` and keeps each borrower's share of their granted limit.

    python limit_service.py --bootstrap-servers localhost:9092 --state limits.db

A borrower whose score reaches `HIGH` may use half of their limit, until the score has fallen below `LOW`: between the
two nothing changes (hysteresis), and no share changes more than once a day, nor more than `--daily-cap` in all. It
starts from the topic's beginning, which is each borrower's latest score, and goes on as new ones come. Scores that are
older than `--stale-hours` decide nothing: the share is held as it is. So it is while scores do not come at all.

Shares and offsets are in one SQLite file and change in one transaction: killed at any moment, the service goes on where
it was, and a score counts once, by its `score_id`. Needs kafka-python and nothing of Foreshock.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sqlite3
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition

HIGH, LOW = 0.20, 0.10
FULL, REDUCED = 1.0, 0.5

TABLES = """
CREATE TABLE IF NOT EXISTS shares (user_id TEXT PRIMARY KEY, share REAL, score_id TEXT, sequence INTEGER, model TEXT,
    changed_on TEXT);
CREATE TABLE IF NOT EXISTS decisions (score_id TEXT PRIMARY KEY, user_id TEXT, share REAL, score REAL, decided_on TEXT);
CREATE TABLE IF NOT EXISTS offsets (topic TEXT, partition INTEGER, next INTEGER, PRIMARY KEY (topic, partition));
"""


class Share(NamedTuple):
    """A borrower's share, by the score that was counted last, and the day of its last change."""

    share: float = FULL
    score_id: str = ""
    sequence: int = 0
    model: str = ""
    changed_on: str = ""


def wanted_share(share: float, score: float) -> float:
    """Where the score asks for another share; between the two thresholds the share stays."""
    if score >= HIGH:
        return REDUCED
    return FULL if score < LOW else share


class Limits:
    """The shares in their file."""

    def __init__(self, path: str, daily_cap: int, stale_hours: float) -> None:
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.executescript(TABLES)
        self._daily_cap, self._stale = daily_cap, dt.timedelta(hours=stale_hours)

    def offset(self, topic: str, partition: int) -> int | None:
        """Where to go on, None for the beginning."""
        found = self._file.execute(
            "SELECT next FROM offsets WHERE topic = ? AND partition = ?", (topic, partition)
        ).fetchone()
        return None if found is None else int(found[0])

    def take(self, records: list[Any], now: dt.datetime) -> list[dict[str, Any]]:
        """Count the scores of one partition and note how far it was read, all or nothing; returns what was decided."""
        decisions = []
        self._file.execute("BEGIN IMMEDIATE")
        try:
            for record in records:
                user_id = record.key.decode()
                if record.value is None:  # a tombstone: the borrower is forgotten
                    self._file.execute("DELETE FROM shares WHERE user_id = ?", (user_id,))
                    self._file.execute("DELETE FROM decisions WHERE user_id = ?", (user_id,))
                else:
                    published = dt.datetime.fromtimestamp(record.timestamp / 1000, dt.UTC)
                    decisions += self._count(json.loads(record.value), published, now)
            last = records[-1]
            self._file.execute(
                "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", (last.topic, last.partition, last.offset + 1)
            )
            self._file.execute("COMMIT")
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        return decisions

    def _count(self, score: dict[str, Any], published: dt.datetime, now: dt.datetime) -> Iterator[dict[str, Any]]:
        user_id, today = score["user_id"], f"{now:%Y-%m-%d}"
        row = self._file.execute(
            "SELECT share, score_id, sequence, model, changed_on FROM shares WHERE user_id = ?", (user_id,)
        ).fetchone()
        own = Share(*row) if row else Share()
        if own.score_id == score["score_id"] or (own.model == score["model"] and own.sequence >= score["sequence"]):
            return  # a repeat
        share, changed_on = wanted_share(own.share, score["score"]), own.changed_on
        (changed_today,) = self._file.execute(
            "SELECT count(*) FROM decisions WHERE decided_on = ?", (today,)
        ).fetchone()
        if now - published > self._stale or changed_on == today or changed_today >= self._daily_cap:
            share = own.share
        if share != own.share:
            changed_on = today
            self._file.execute(
                "INSERT OR IGNORE INTO decisions VALUES (?, ?, ?, ?, ?)",
                (score["score_id"], user_id, share, score["score"], today),
            )
            yield {"user_id": user_id, "share": share, "score_id": score["score_id"], "score": score["score"]}
        self._file.execute(
            "INSERT OR REPLACE INTO shares VALUES (?, ?, ?, ?, ?, ?)",
            (user_id, share, score["score_id"], score["sequence"], score["model"], changed_on),
        )


def main() -> None:
    """Read options, then follow the topic."""
    parser = argparse.ArgumentParser(description="Keeps the share of their limit that each borrower may use.")
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topic", default="scores.latest")
    parser.add_argument("--state", default="limits.db", help="SQLite file of shares and offsets")
    parser.add_argument("--daily-cap", type=int, default=1000, help="most changes a day")
    parser.add_argument("--stale-hours", type=float, default=24.0, help="scores that are older decide nothing")
    parser.add_argument("--until-end", action="store_true", help="stop at the end of the topic")
    options = parser.parse_args()

    limits = Limits(options.state, options.daily_cap, options.stale_hours)
    consumer = KafkaConsumer(
        bootstrap_servers=options.bootstrap_servers, enable_auto_commit=False, auto_offset_reset="earliest",
        isolation_level="read_committed",
    )  # fmt: skip
    partitions = [TopicPartition(options.topic, each) for each in consumer.partitions_for_topic(options.topic)]
    consumer.assign(partitions)
    for partition in partitions:
        offset = limits.offset(*partition)
        if offset is None:
            consumer.seek_to_beginning(partition)
        else:
            consumer.seek(partition, offset)
    ends = consumer.end_offsets(partitions)
    heard_s = time.monotonic()
    while not options.until_end or any(consumer.position(each) < ends[each] for each in partitions):
        batches = consumer.poll(timeout_ms=500)
        for records in batches.values():
            for decision in limits.take(records, dt.datetime.now(dt.UTC)):
                print(json.dumps(decision), flush=True)
        if batches:
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > 3600 * options.stale_hours:
            print("no score has come for too long: all shares are held", flush=True)
            heard_s = time.monotonic()
    consumer.close()


if __name__ == "__main__":
    main()
