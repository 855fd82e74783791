"""Month partitions of `score_history`: made when first needed, by any number of sinks at once.

A row whose month has no partition lands in the default partition, so writing never fails for want of one; making the
partition later moves such rows into it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from psycopg import errors as sql_errors
from psycopg import sql

from stream.database.connection import Connection

DEFAULT_PARTITION = "score_history_default"
LOCK_TIMEOUT_MS = 2_000
_LOCK_KEY = 0x666F_7265_0001
"""Advisory lock that makers of partitions take in turn."""


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
    name = partition_name(month)
    if _exists(connection, name):
        return
    connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{lock_timeout_ms}ms",))
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
    if _exists(connection, name):
        return
    names = {
        "partition": sql.Identifier(name),
        "default": sql.Identifier(DEFAULT_PARTITION),
        "first": sql.Literal(f"{month.isoformat()} 00:00:00+00"),
        "end": sql.Literal(f"{next_month(month).isoformat()} 00:00:00+00"),
    }
    # Attaching, unlike CREATE TABLE … PARTITION OF, leaves writers to the other months undisturbed; it does lock the
    # default partition, which is taken first so that no row slips in between the move and the attachment.
    for statement in (
        "LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE",
        "CREATE TABLE {partition} (LIKE score_history INCLUDING ALL)",
        "WITH moved AS (DELETE FROM {default} WHERE occurred_at >= {first} AND occurred_at < {end} RETURNING *) "
        "INSERT INTO {partition} SELECT * FROM moved",
        "ALTER TABLE score_history ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({end})",
    ):
        connection.execute(sql.SQL(statement).format(**names))


def _exists(connection: Connection, name: str) -> bool:
    # By a join, which sees what has been committed. `to_regclass` would answer from the session's cache of names, which
    # after waiting for the advisory lock may not yet know the table that another sink has just made.
    found = connection.execute(
        "SELECT 1 FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
        "WHERE inhparent = 'score_history'::regclass AND relname = %s",
        (name,),
    )
    return found.fetchone() is not None
