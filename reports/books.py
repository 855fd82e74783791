"""The portfolio from the tables: the users at risk now with their scores, and those at the start of earlier months.

A user's default date is read off the days past due and the status that scores carry, as in `reports.monitoring`. Only
reads.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from model.histories.labels import NEVER_MS
from model.outlook.backtest import month_starts
from model.outlook.outlook import OUTLOOK_DAYS, Book, TrackRecord
from reports.monitoring import IN_DEFAULT, snapshot
from stream.database.connection import Connection, DatabaseConnection
from stream.database.errors import DatabaseError

MOST_ORIGINS = 12
_DAY = dt.timedelta(days=1)

_OF_PRODUCTS: LiteralString = """
(%(products)s::text[] IS NULL
    OR user_id IN (SELECT user_id FROM contract_products WHERE product = ANY (%(products)s::text[])))
"""
_NOW: LiteralString = f"""
SELECT user_id, occurred_at, horizons, level, coalesce({IN_DEFAULT}, false)
FROM user_scores WHERE model = %(model)s AND {_OF_PRODUCTS} ORDER BY user_id
"""
_DEFAULT_DATES: LiteralString = f"""
SELECT user_id, min(occurred_at) FROM score_history WHERE {IN_DEFAULT} AND {_OF_PRODUCTS} GROUP BY user_id
"""
_FIRST = "SELECT min(occurred_at) FROM score_history WHERE model = %(model)s"
_THEN: LiteralString = f"""
SELECT DISTINCT ON (user_id) user_id, occurred_at, horizons FROM score_history
WHERE model = %(model)s AND occurred_at < %(at)s AND occurred_at >= %(since)s AND {_OF_PRODUCTS}
ORDER BY user_id, sequence DESC
"""


@dataclass(frozen=True)
class Books:
    """The book at `at` with the level of each of its users (`[n]`, in their order), and past outlooks."""

    at: dt.datetime
    now: Book
    levels: NDArray[np.str_]
    record: TrackRecord


def read_books(
    database: DatabaseConnection,
    model: str,
    horizons_days: Sequence[int],
    delinquency_days: int,
    stale_days: float,
    products: Sequence[str] | None = None,
) -> Books:
    """Books of a model (fingerprint) whose scores have `horizons_days`; with `products`, of the users with contracts of
    those.

    The book is that just after the latest score (event time). Past outlooks are judged at the starts of the last
    `MOST_ORIGINS` months whose horizon has passed; there are none where the sink keeps no history. Raises
    `DatabaseError` when the model has no score, and as `summarise` does.
    """
    with snapshot(database) as connection:
        shared = {"model": model, "delinquency_days": delinquency_days, "products": products}
        rows = connection.execute(_NOW, shared).fetchall()
        if not rows:
            of = "" if products is None else f" of users with {', '.join(products)}"
            raise DatabaseError(
                f"{database.address} holds no score of model {model}{of}; name the bundle of its workers with --bundle"
            )
        default_dates_ms = {str(row[0]): _ms(row[1]) for row in connection.execute(_DEFAULT_DATES, shared)}
        at_ms = max(_ms(row[1]) for row in rows) + 1
        at_risk = [row for row in rows if not row[4] and str(row[0]) not in default_dates_ms]
        book, kept = _book(at_risk, at_ms, horizons_days, stale_days)
        record = _record(connection, shared, default_dates_ms, at_ms, horizons_days, stale_days)
    levels = np.array([str(row[3]) for row in at_risk], dtype=np.str_)[kept]
    return Books(dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC), book, levels, record)


def _record(
    connection: Connection,
    shared: Mapping[str, Any],
    default_dates_ms: Mapping[str, int],
    at_ms: int,
    horizons_days: Sequence[int],
    stale_days: float,
) -> TrackRecord:
    record = TrackRecord(horizons_days)
    (first,) = connection.execute(_FIRST, shared).fetchone() or (None,)
    if first is None:
        return record
    for origin_ms in month_starts(_ms(first), at_ms - min(OUTLOOK_DAYS) * DAY_MS)[-MOST_ORIGINS:]:
        at = dt.datetime.fromtimestamp(origin_ms / 1000, dt.UTC)
        rows = connection.execute(_THEN, {**shared, "at": at, "since": at - stale_days * _DAY}).fetchall()
        at_risk = [row for row in rows if default_dates_ms.get(str(row[0]), NEVER_MS) >= origin_ms]
        book, _ = _book(at_risk, origin_ms, horizons_days, stale_days)
        if len(book.users):
            default_date_ms = np.array([default_dates_ms.get(str(row[0]), NEVER_MS) for row in at_risk], dtype=np.int64)
            record.add(book, default_date_ms[book.users])
    return record


def _book(
    rows: Sequence[Sequence[Any]], at_ms: int, horizons_days: Sequence[int], stale_days: float
) -> tuple[Book, NDArray[np.bool_]]:
    """A book of rows (user, time, horizons, …), whose users are positions of rows, and which rows are not stale."""
    times = np.array([_ms(row[1]) for row in rows], dtype=np.int64)
    chances = np.array([[row[2][str(days)] for days in horizons_days] for row in rows], dtype=np.float64)
    ages = (at_ms - times) / DAY_MS
    kept = ages <= stale_days
    chances = chances.reshape(len(rows), len(horizons_days))
    return Book(at_ms, np.flatnonzero(kept), ages[kept], chances[kept]), kept


def _ms(moment: object) -> int:
    assert isinstance(moment, dt.datetime)
    return round(moment.timestamp() * 1000)
