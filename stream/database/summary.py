"""Counts of scores and alerts, the users with open alerts who stand to lose the lender most, and those whose amounts
cannot be added up. Reads only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from stream.database.connection import DatabaseConnection
from stream.database.errors import translated
from stream.database.tables import AlertEvent, AlertState, ContractState, RefusedInput, ScoreHistory, UserScore
from stream.outputs import LEVELS, Level, Reason, Trigger


@dataclass(frozen=True)
class WorryingUser:
    """A user with an open alert. `score` is the latest, `score_at_alert` that of the alert's latest transition.

    `contracts` (how many are open), `exposure` and `expected_loss` are those of the latest score, None where it has
    none.
    """

    user_id: str
    alert_id: str
    level: Level
    score: float
    score_at_alert: float
    baseline: float
    days_past_due: float | None
    contracts: int | None
    exposure: float | None
    expected_loss: float | None
    opened_at: dt.datetime
    triggers: tuple[Trigger, ...]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Summary:
    """The tables at one moment.

    `alerts` counts alerts, `alert_events` their transitions (as many as records in the topic); `alerts_by_level` every
    alert by the highest level it reached, `open_by_level` the open ones by their level now.
    """

    users: int
    scores: int
    alerts: int
    alert_events: int
    dead_letters: int
    alerts_by_level: dict[Level, int]
    open_by_level: dict[Level, int]
    most_worrying: tuple[WorryingUser, ...]


def summarise(
    database: DatabaseConnection, most_worrying: int = 10, *, less_than_days_past_due: float | None = None
) -> Summary:
    """Counts and the `most_worrying` users with open alerts, by expected loss; those of whom it is not known come last,
    by latest score. One consistent snapshot.

    `less_than_days_past_due` leaves out of the latter who is already that late: it is too late to warn of them.

    Raises `DatabaseUnavailable` or `DatabaseOutdated`.
    """
    with _snapshot(database) as connection:
        by_level = _by_level(connection, is_open=False)
        return Summary(
            users=_count(connection, UserScore),
            scores=_count(connection, ScoreHistory),
            alerts=sum(by_level.values()),
            alert_events=_count(connection, AlertEvent),
            dead_letters=_count(connection, RefusedInput),
            alerts_by_level=by_level,
            open_by_level=_by_level(connection, is_open=True),
            most_worrying=tuple(_most_worrying(connection, most_worrying, less_than_days_past_due)),
        )


def first_alerts(database: DatabaseConnection, least_level: Level = "MEDIUM") -> dict[str, dt.datetime]:
    """When each user first had an alert of `least_level` or above (event time): the start of a lead time.

    Raises `DatabaseUnavailable` or `DatabaseOutdated`.
    """
    reached = (
        select(AlertEvent.user_id, func.min(AlertEvent.occurred_at))
        .where(AlertEvent.level_to >= least_level, AlertEvent.kind != "cleared")
        .group_by(AlertEvent.user_id)
    )
    with _snapshot(database) as connection:
        return {row[0]: row[1] for row in connection.execute(reached)}


@dataclass(frozen=True)
class WithoutAmounts:
    """Borrowers whose amounts are null, since they cannot be added up: how many, and the first few by id. `currencies`
    are those that lack a rate."""

    borrowers: int
    examples: tuple[str, ...]
    currencies: tuple[str, ...]


def without_amounts(database: DatabaseConnection, rates: Collection[str], examples: int = 3) -> WithoutAmounts:
    """Who has contracts, closed ones apart, in a currency without a rate; as long as there are no `rates` at all, in
    several currencies.

    Raises `DatabaseUnavailable` or `DatabaseOutdated`.
    """
    lacking = func.array_agg(ContractState.currency.distinct())
    query = (
        select(ContractState.user_id, lacking)
        .where(
            ContractState.status != "closed",
            ContractState.currency.is_not(None),
            ContractState.currency.not_in(list(rates)),
        )
        .group_by(ContractState.user_id)
        .order_by(ContractState.user_id)
    )
    if not rates:
        query = query.having(func.count(ContractState.currency.distinct()) > 1)
    with _snapshot(database) as connection:
        found = connection.execute(query).all()
    currencies = sorted({str(name) for _, names in found for name in names})
    return WithoutAmounts(len(found), tuple(user_id for user_id, _ in found[:examples]), tuple(currencies))


@contextmanager
def _snapshot(database: DatabaseConnection) -> Iterator[Connection]:
    with translated(database.address):
        try:
            with database.open_engine("foreshock-summary").connect() as connection:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                yield connection
        except DBAPIError as error:
            if error.orig is None:
                raise
            raise error.orig from error


def _count(connection: Connection, table: type[UserScore | ScoreHistory | AlertEvent | RefusedInput]) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _by_level(connection: Connection, *, is_open: bool) -> dict[Level, int]:
    level = AlertState.level if is_open else AlertState.highest_level
    query = select(level, func.count()).group_by(level)
    if is_open:
        query = query.where(AlertState.cleared_at.is_(None))
    counted = {row[0]: row[1] for row in connection.execute(query)}
    return {name: counted.get(name, 0) for name in LEVELS}


def _most_worrying(connection: Connection, limit: int, less_than_days_past_due: float | None) -> Iterator[WorryingUser]:
    score = func.coalesce(UserScore.score, AlertState.score)
    query = (
        select(
            AlertState,
            score.label("latest_score"),
            UserScore.days_past_due.label("latest_days_past_due"),
            UserScore.contracts.label("open_contracts"),
            UserScore.exposure.label("latest_exposure"),
            UserScore.expected_loss.label("latest_expected_loss"),
        )
        .outerjoin(UserScore, UserScore.user_id == AlertState.user_id)
        .where(AlertState.cleared_at.is_(None))
        .order_by(UserScore.expected_loss.desc().nulls_last(), score.desc(), AlertState.user_id)
        .limit(limit)
    )
    if less_than_days_past_due is not None:
        days_past_due = func.coalesce(UserScore.days_past_due, AlertState.days_past_due, 0)
        query = query.where(days_past_due < less_than_days_past_due)
    for row in connection.execute(query):
        yield WorryingUser(
            user_id=row.user_id,
            alert_id=row.alert_id,
            level=row.level,
            score=row.latest_score,
            score_at_alert=row.score,
            baseline=row.baseline,
            days_past_due=row.days_past_due if row.latest_days_past_due is None else row.latest_days_past_due,
            contracts=row.open_contracts,
            exposure=row.latest_exposure,
            expected_loss=row.latest_expected_loss,
            opened_at=row.opened_at,
            triggers=tuple(row.triggers),
            reasons=tuple(msgspec.convert(row.reasons, list[Reason])),
        )
