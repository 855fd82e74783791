"""Month partitions of `score_history` and `user_events`: made when first needed, by any number of sinks at once.

A row whose month has no partition lands in the default partition, so writing never fails for want of one; making the
partition later moves such rows into it. A function of the database for each table makes them (`migrations`), with the
rights of the tables' owner: whoever writes rows needs none to make or change tables.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Literal, TypeAlias

from psycopg import errors as sql_errors

from stream.database.connection import Connection

LOCK_TIMEOUT_MS = 2_000

ByMonth: TypeAlias = Literal["score_history", "user_events"]
"""A table with a partition for each month."""

_MAKE: dict[ByMonth, str] = {
    "score_history": "SELECT make_score_history_month(%s, %s)",
    "user_events": "SELECT make_user_events_month(%s, %s)",
}


def month_of(moment: dt.datetime) -> dt.date:
    """First day of the UTC month of an aware moment."""
    if moment.tzinfo is not dt.UTC:
        moment = moment.astimezone(dt.UTC)
    return dt.date(moment.year, moment.month, 1)


def partition_name(table: ByMonth, month: dt.date) -> str:
    """Name of a month's partition, e.g. `score_history_2023_01`."""
    return f"{table}_{month.year:04d}_{month.month:02d}"


def next_month(month: dt.date) -> dt.date:
    """First day of the month after; `month` is a first day."""
    return dt.date(month.year + month.month // 12, month.month % 12 + 1, 1)


def ensure_months(
    connection: Connection, table: ByMonth, months: Iterable[dt.date], *, lock_timeout_ms: int = LOCK_TIMEOUT_MS
) -> set[dt.date]:
    """Make the partitions of `months` (first days) that do not exist; returns the months that have one afterwards.

    A month is left out when a lock could not be had within `lock_timeout_ms`: a long reader of the table, such as a
    backup, holds the default partition. Waiting on would stop every other reader too, so the caller writes to the
    default partition meanwhile and tries again. Each partition is a transaction of its own, so `connection` must not
    be inside one.
    """
    ready: set[dt.date] = set()
    for month in sorted(months):
        try:
            with connection.transaction():
                _ensure_month(connection, table, month, lock_timeout_ms)
        except sql_errors.LockNotAvailable:
            continue
        ready.add(month)
    return ready


def _ensure_month(connection: Connection, table: ByMonth, month: dt.date, lock_timeout_ms: int) -> None:
    if not _exists(connection, table, partition_name(table, month)):
        connection.execute(_MAKE[table].encode(), (month, f"{lock_timeout_ms}ms"))


def _exists(connection: Connection, table: ByMonth, name: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
        "WHERE inhparent = %s::regclass AND relname = %s",
        (table, name),
    )
    return found.fetchone() is not None
