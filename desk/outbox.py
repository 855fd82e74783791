"""What was done about alerts, published from the database in the topic `alert-actions`: at least once, and in order per
user.

An action is committed with the case that it changes, and published afterwards: whatever ends between the two, it is
still to be published. It counts as published once the brokers have it and the row says so; what ends between these is
published again, with the same id and the same bytes. One process publishes at a time (`desk.clerk`).

The order is that of the numbers, which actions get as they are done. Transactions end in another order: of two cases of
one borrower, what was done later may be there to be seen first. So nothing is published before those who were writing
have ended: then every lower number is there, or never will be.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from kafka.errors import KafkaError
from sqlalchemy import Connection, func, select, text, update

from stream.case_records import AlertAction, encode_action
from stream.database.case_tables import CaseActionRow
from stream.kafka.clients import open_producer
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings

PUBLISHED_AT_ONCE = 1_000
SEND_TIMEOUT_S = 30.0

LOOK_EVERY_S, LOOKS = 0.01, 20
"""How often it is looked whether writers have ended, before the next turn looks again."""

_NAMES = (
    "action_id", "alert_id", "user_id", "action", "status_from", "status_to", "level", "product", "actor", "at",
    "reason", "version",
)  # fmt: skip
_UNPUBLISHED = (
    select(CaseActionRow.number, CaseActionRow.details, *(getattr(CaseActionRow, name) for name in _NAMES))
    .where(CaseActionRow.published_at.is_(None))
    .order_by(CaseActionRow.number)
)
_LAST_UNPUBLISHED = select(func.max(CaseActionRow.number)).where(CaseActionRow.published_at.is_(None))
_WRITERS = text("""
SELECT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND relation = 'case_actions'::regclass AND mode = 'RowExclusiveLock' AND granted
    AND pid IS DISTINCT FROM pg_backend_pid()
""")


class NotPublished(RuntimeError):
    """The brokers did not take an action; it is still to be published. The message says why."""


Send = Callable[[Sequence[tuple[bytes, bytes]]], None]
"""Publishes records of the topic, key and value, in order; returns when the brokers have all. Raises `NotPublished`."""


class ActionProducer:
    """Sends records to `alert-actions`. Connects when first used, and again after a failure."""

    def __init__(self, connection: KafkaConnection, settings: Settings) -> None:
        self._connection = connection
        self._topic = settings.topics.alert_actions
        self._producer: Any = None

    def __call__(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Raises `NotPublished`."""
        try:
            if self._producer is None:
                # Idempotent: the client's own tries again leave the order as it is.
                self._producer = open_producer(self._connection, acks="all", enable_idempotence=True)
            sent = [self._producer.send(self._topic, key=key, value=value) for key, value in records]
            self._producer.flush(SEND_TIMEOUT_S)
            for future in sent:
                future.get(SEND_TIMEOUT_S)
        except (KafkaError, OSError) as error:
            self.close()
            raise NotPublished(
                f"{self._topic} on {self._connection}: {type(error).__name__}: {error}; actions wait in case_actions"
            ) from error

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=1)


class Outbox:
    """Publishes actions; of one process, the one that publishes."""

    def __init__(self, send: Send, sleep: Callable[[float], None] = time.sleep) -> None:
        self._send, self._sleep = send, sleep
        self._end: int | None = None
        """Up to this number all actions are there to be seen, once `_writers` have ended."""
        self._writers: frozenset[str] = frozenset()

    def publish(self, connection: Connection, now: dt.datetime, *, most: int = PUBLISHED_AT_ONCE) -> int:
        """Publish up to `most` actions in the order in which they were done; returns how many. None while others that
        are done before may still come to light: they are published at a later call. Raises `NotPublished`, after which
        none of them counts as published."""
        end = self._complete_up_to(connection)
        if end is None:
            return 0
        rows = connection.execute(_UNPUBLISHED.where(CaseActionRow.number <= end).limit(most)).all()
        if len(rows) < most:
            self._end = None
        if not rows:
            return 0
        self._send([(row.user_id.encode(), encode_action(action_record(row))) for row in rows])
        connection.execute(
            update(CaseActionRow).where(CaseActionRow.number.in_([row.number for row in rows])).values(published_at=now)
        )
        return len(rows)

    def _complete_up_to(self, connection: Connection) -> int | None:
        """The number up to which every action can be seen now; None where there is nothing to publish, or some are
        still being written."""
        if self._end is None:
            self._end = connection.execute(_LAST_UNPUBLISHED).scalar()
            if self._end is None:
                return None
            # After the number was read: whoever took a lower one holds the table, or has ended.
            self._writers = _writers(connection)
        else:
            self._writers &= _writers(connection)
        for _ in range(LOOKS):
            if not self._writers:
                return self._end
            self._sleep(LOOK_EVERY_S)
            self._writers &= _writers(connection)
        return None if self._writers else self._end


def _writers(connection: Connection) -> frozenset[str]:
    """Transactions of others that have written actions, or are about to, and have not ended."""
    return frozenset(connection.execute(_WRITERS).scalars())


def action_record(row: Any) -> AlertAction:
    """The record of a row of `case_actions`, or of what `desk.cases.actions` gives."""
    said = {name: getattr(row, name) for name in _NAMES}
    return msgspec.convert({**said, "action_id": str(row.action_id), **row.details}, AlertAction)
