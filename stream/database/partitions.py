"""Month partitions of `score_history`: made when first needed, by any number of sinks at once.

A row whose month has no partition lands in the default partition, so writing never fails for want of one; making the
partition later moves such rows into it. A function of the database makes them (`migrations`), with the rights of the
tables' owner: whoever writes rows needs none to make or change tables.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from psycopg import errors as sql_errors

from stream.database.connection import Connection

LOCK_TIMEOUT_MS = 2_000


def month_of(moment: dt.datetime) -> dt.date:
    """First day of the UTC month of an aware moment."""
    if moment.tzinfo is not dt.UTC:
        moment = moment.astimezone(dt.UTC)
    return dt.date(moment.year, moment.month, 1)


def partition_name(month: dt.date) -> str:
    """Name of a month's partition, e.g. `score_history_2023_01`."""
    return f"score_history_{month.year:04d}_{month.month:02d}"


def next_month(month: dt.date) -> dt.date:
    """First day of the month after; `month` is a first day."""
    return dt.date(month.year + month.month // 12, month.month % 12 + 1, 1)


def ensure_months(
    connection: Connection, months: Iterable[dt.date], *, lock_timeout_ms: int = LOCK_TIMEOUT_MS
) -> set[dt.date]:
    """Make the partitions of `months` (first days) that do not exist; returns the months that have one afterwards.

    A month is left out when a lock could not be had within `lock_timeout_ms`: a long reader of `score_history`, such as
    a backup, holds the default partition. Waiting on would stop every other reader too, so the caller writes to the
    default partition meanwhile and tries again. Each partition is a transaction of its own, so `connection` must not
    be inside one.
    """
    ready: set[dt.date] = set()
    for month in sorted(months):
        try:
            with connection.transaction():
                _ensure_month(connection, month, lock_timeout_ms)
        except sql_errors.LockNotAvailable:
            continue
        ready.add(month)
    return ready


def _ensure_month(connection: Connection, month: dt.date, lock_timeout_ms: int) -> None:
    if not _exists(connection, partition_name(month)):
        connection.execute("SELECT make_score_history_month(%s, %s)", (month, f"{lock_timeout_ms}ms"))


def _exists(connection: Connection, name: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
        "WHERE inhparent = 'score_history'::regclass AND relname = %s",
        (name,),
    )
    return found.fetchone() is not None
