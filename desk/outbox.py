"""What was done about alerts, published from the database in the topic `alert-actions`: at least once, in order.

An action is committed with the case that it changes, and published afterwards: whatever ends between the two, it is
still to be published. It counts as published once the brokers have it and the row says so; what ends between these is
published again, with the same id and the same bytes. One process publishes at a time (`desk.clerk`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from kafka.errors import KafkaError
from sqlalchemy import Connection, select, update

from stream.case_records import AlertAction, encode_action
from stream.database.case_tables import CaseActionRow
from stream.kafka.clients import open_producer
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings

PUBLISHED_AT_ONCE = 1_000
SEND_TIMEOUT_S = 30.0

_NAMES = (
    "action_id", "alert_id", "user_id", "action", "status_from", "status_to", "level", "product", "actor", "at",
    "reason", "version",
)  # fmt: skip
_UNPUBLISHED = (
    select(CaseActionRow.number, CaseActionRow.details, *(getattr(CaseActionRow, name) for name in _NAMES))
    .where(CaseActionRow.published_at.is_(None))
    .order_by(CaseActionRow.number)
)


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


def publish_actions(connection: Connection, send: Send, now: dt.datetime, *, most: int = PUBLISHED_AT_ONCE) -> int:
    """Publish up to `most` actions in the order in which they were done; returns how many. Raises `NotPublished`, after
    which none of them counts as published."""
    rows = connection.execute(_UNPUBLISHED.limit(most)).all()
    if not rows:
        return 0
    send([(row.user_id.encode(), encode_action(action_record(row))) for row in rows])
    connection.execute(
        update(CaseActionRow).where(CaseActionRow.number.in_([row.number for row in rows])).values(published_at=now)
    )
    return len(rows)


def action_record(row: Any) -> AlertAction:
    """The record of a row of `case_actions`, or of what `desk.cases.actions` gives."""
    said = {name: getattr(row, name) for name in _NAMES}
    return msgspec.convert({**said, "action_id": str(row.action_id), **row.details}, AlertAction)
