"""Reads from the tables what monitoring needs: a sample of recent scores, and the scores whose outcome is known.

The outcome follows from the scores: each carries the borrower's days past due, of the worst contract, so a user's
default date is that of the first score with the model's `delinquency_days`, or with a contract that is written off.
Only reads, in one snapshot. The server sorts and chooses, so that one row per user, or per user and month, is sent.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import numpy as np
import psycopg
from numpy.typing import NDArray

from model.evaluation.panel import Panel, months_of
from stream.database.connection import Connection, DatabaseConnection
from stream.database.errors import DatabaseError, translated

_LATEST = "SELECT max(occurred_at) FROM score_history WHERE model = %(model)s"
_MODELS = "SELECT model FROM user_scores GROUP BY model ORDER BY count(*) DESC, model LIMIT 5"

# At risk means before the default date. Which score of a user is taken depends on its id alone, not on time or value.
IN_DEFAULT: LiteralString = "(days_past_due >= %(delinquency_days)s OR status = 'written_off')"
_DEFAULT_DATES: LiteralString = f"""
WITH default_dates AS (
    SELECT user_id, min(occurred_at) AS default_at FROM score_history
    WHERE {IN_DEFAULT} AND occurred_at < %(until)s GROUP BY user_id
)
"""
_SAMPLE: LiteralString = (
    _DEFAULT_DATES
    + """
SELECT DISTINCT ON (user_id) score, days_past_due
FROM score_history LEFT JOIN default_dates USING (user_id)
WHERE model = %(model)s AND occurred_at >= %(begin)s AND occurred_at < %(end)s
    AND (default_at IS NULL OR occurred_at < default_at)
ORDER BY user_id, md5(score_id)
"""
)
_MATURED: LiteralString = (
    _DEFAULT_DATES
    + """
SELECT DISTINCT ON (user_id, date_trunc('month', occurred_at)) user_id, occurred_at, score,
    coalesce(default_at - occurred_at <= %(horizon)s, false)
FROM score_history LEFT JOIN default_dates USING (user_id)
WHERE model = %(model)s AND occurred_at >= %(since)s AND occurred_at < %(until)s::timestamptz - %(horizon)s::interval
    AND (default_at IS NULL OR occurred_at < default_at)
ORDER BY user_id, date_trunc('month', occurred_at), sequence
"""
)
_OPENED = """
SELECT count(*) FROM alert_events
WHERE model = %(model)s AND kind = 'opened' AND occurred_at >= %(begin)s AND occurred_at < %(end)s
"""


@dataclass(frozen=True)
class ScoreSample:
    """One score per user at risk of a window of event time: both float64 `[users]`, days NaN where never reported."""

    scores: NDArray[np.float64]
    days_past_due: NDArray[np.float64]


@dataclass(frozen=True)
class MonitoredScores:
    """Samples of a recent window and of the one before it, matured scores; `opened` alerts in the recent window."""

    until: dt.datetime
    recent: ScoreSample
    before: ScoreSample
    matured: Panel
    opened: int


def read_monitored(
    database: DatabaseConnection,
    model: str,
    *,
    horizon_days: int,
    delinquency_days: int,
    window_days: float,
    reference_days: float,
    months: int,
    until: dt.datetime | None = None,
) -> MonitoredScores:
    """Scores of a model (fingerprint) up to `until` (event time; default: just after its latest score).

    The recent window is the last `window_days`, the one before it `reference_days` long; matured scores are those of
    the last `months` calendar months whose `horizon_days` have passed. Raises `DatabaseError` when the model has no
    score there, and as `summarise` does.
    """
    with snapshot(database) as connection:
        end = until or _latest(connection, model, database)
        begin = end - dt.timedelta(days=window_days)
        horizon = dt.timedelta(days=horizon_days)
        shared = {"model": model, "delinquency_days": delinquency_days, "until": end}
        recent = _sample(connection, {**shared, "begin": begin, "end": end})
        before = _sample(connection, {**shared, "begin": begin - dt.timedelta(days=reference_days), "end": begin})
        since = _months_before(end - horizon, months)
        rows = connection.execute(_MATURED, {**shared, "horizon": horizon, "since": since}).fetchall()
        (opened,) = connection.execute(_OPENED, {"model": model, "begin": begin, "end": end}).fetchone() or (0,)
    return MonitoredScores(end, recent, before, _panel(rows, horizon_days), int(str(opened)))


@contextmanager
def snapshot(database: DatabaseConnection) -> Iterator[Connection]:
    """A read-only connection that sees one moment. Raises `DatabaseUnavailable` or `DatabaseOutdated`."""
    with translated(database.address):
        connection = database.connect("foreshock-monitoring")
        try:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            with connection.transaction():
                yield connection
        finally:
            connection.close()


def _latest(connection: Connection, model: str, database: DatabaseConnection) -> dt.datetime:
    (latest,) = connection.execute(_LATEST, {"model": model}).fetchone() or (None,)
    if not isinstance(latest, dt.datetime):
        present = ", ".join(str(row[0]) for row in connection.execute(_MODELS)) or "no model at all"
        raise DatabaseError(
            f"{database.address} keeps no score history of model {model}, but of {present}; name its bundle with "
            "--bundle, and let the sink keep the history (`score_history`)"
        )
    return latest + dt.timedelta(milliseconds=1)


def _sample(connection: Connection, parameters: Mapping[str, Any]) -> ScoreSample:
    rows = connection.execute(_SAMPLE, parameters).fetchall()
    values = np.array(rows, dtype=np.float64).reshape(len(rows), 2)
    return ScoreSample(values[:, 0], values[:, 1])


def _panel(rows: list[tuple[Any, ...]], horizon_days: int) -> Panel:
    _, users = np.unique(np.array([row[0] for row in rows], dtype=np.str_), return_inverse=True)
    times_ms = np.array([round(row[1].timestamp() * 1000) for row in rows], dtype=np.int64)
    return Panel(
        users=users.astype(np.int64),
        months=months_of(times_ms),
        scores=np.array([row[2] for row in rows], dtype=np.float64),
        happened=np.array([row[3] for row in rows], dtype=bool),
        horizon_days=horizon_days,
    )


def _months_before(moment: dt.datetime, months: int) -> dt.datetime:
    """Start of the month that is `months` - 1 before that of `moment`."""
    years, month = divmod(moment.year * 12 + moment.month - months, 12)
    return dt.datetime(years, month + 1, 1, tzinfo=dt.UTC)
