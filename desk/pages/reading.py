"""What the page of a case shows beside the case itself: the alert, scores, contracts, events, earlier cases, history.

Reads PostgreSQL and changes nothing. Whether the asker may see the case, and with it the borrower, was decided before;
other cases are looked at for themselves.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, select, table
from sqlalchemy import column as sql_column

from desk.access.principals import Principal
from desk.cases.queue import in_scope
from desk.pages.language import Language
from desk.pages.rendering import shown
from events.types import Event, Kind, Repayment, Transaction
from stream.database.case_tables import Case, PromiseToPay, UserEvent
from stream.database.kept_events import event_of
from stream.database.tables import AlertState, ContractState, ModelVersion, ScoreHistory, StatedProduct, UserScore

MOST_SCORES = 600
FIRST_EVENTS, MOST_EVENTS = 25, 400
MOST_EARLIER = 20
MOST_HISTORY = 200

_TAKEN = table("taken_events", *(sql_column(column.name) for column in UserEvent.__table__.columns))


class ScorePoint(NamedTuple):
    """The score after one event, and what was usual then."""

    at: dt.datetime
    score: float
    baseline: float


class Levels(NamedTuple):
    """The thresholds of a model, from which a score is MEDIUM and HIGH."""

    medium: float
    high: float


@dataclass(frozen=True)
class SaidEvent:
    """An event in words. `weight` is its share of the model's attention, None where it was not among the weighed."""

    occurred_at: dt.datetime
    sort: str
    said: str
    weight: float | None


def alert_of(connection: Connection, alert_id: str) -> RowMapping | None:
    """The alert as it stands."""
    columns = list(AlertState.__table__.columns)
    return connection.execute(select(*columns).where(AlertState.alert_id == alert_id)).mappings().one_or_none()


def latest_score(connection: Connection, user_id: str) -> RowMapping | None:
    """The latest score of a user, with what it says of their contracts."""
    columns = (
        UserScore.score, UserScore.baseline, UserScore.horizons, UserScore.days_past_due, UserScore.status,
        UserScore.exposure, UserScore.amount_overdue, UserScore.occurred_at,
    )  # fmt: skip
    return connection.execute(select(*columns).where(UserScore.user_id == user_id)).mappings().one_or_none()


def scores_of(connection: Connection, user_id: str, model: str) -> list[ScorePoint]:
    """The latest scores of a user by one model, oldest first."""
    query = (
        select(ScoreHistory.occurred_at, ScoreHistory.score, ScoreHistory.baseline)
        .where(ScoreHistory.user_id == user_id, ScoreHistory.model == model)
        .order_by(ScoreHistory.occurred_at.desc(), ScoreHistory.sequence.desc())
        .limit(MOST_SCORES)
    )
    return [ScorePoint(*row) for row in reversed(connection.execute(query).all())]


def levels_of(connection: Connection, model: str) -> Levels | None:
    """The thresholds of a model, where its manifest was registered."""
    manifest = connection.execute(
        select(ModelVersion.manifest).where(ModelVersion.fingerprint == model)
    ).scalar_one_or_none()
    found = (manifest or {}).get("thresholds") or {}
    return Levels(found["medium"], found["high"]) if {"medium", "high"} <= found.keys() else None


def contracts_of(connection: Connection, user_id: str) -> Sequence[RowMapping]:
    """The contracts as they stand, worst first, with the product that a profile stated."""
    query = (
        select(
            ContractState.contract_id, ContractState.status, ContractState.days_past_due, ContractState.amount_overdue,
            ContractState.exposure, ContractState.credit_limit, ContractState.currency, StatedProduct.product,
        )
        .outerjoin(
            StatedProduct,
            (StatedProduct.user_id == ContractState.user_id)
            & (StatedProduct.contract_id == ContractState.contract_id),
        )
        .where(ContractState.user_id == user_id)
        .order_by(
            (ContractState.status == "closed"), ContractState.days_past_due.desc().nulls_last(),
            ContractState.exposure.desc().nulls_last(), ContractState.contract_id,
        )
    )  # fmt: skip
    return connection.execute(query).mappings().all()


def kept_events_of(connection: Connection, user_id: str, most: int) -> Sequence[RowMapping]:
    """The latest events that were used, latest first."""
    by_time = [_TAKEN.c[name].desc() for name in ("occurred_at", "source_topic", "source_partition", "source_offset")]
    query = select(_TAKEN).where(_TAKEN.c.user_id == user_id).order_by(*by_time).limit(most)
    return connection.execute(query).mappings().all()


def earlier_cases(connection: Connection, principal: Principal, user_id: str, alert_id: str) -> Sequence[RowMapping]:
    """The cases of a user but this one that somebody sees, latest first."""
    query = (
        select(Case.alert_id, Case.opened_at, Case.alert_cleared_at, Case.highest_level, Case.status, Case.closed_as)
        .where(Case.user_id == user_id, Case.alert_id != alert_id, in_scope(principal))
        .order_by(Case.opened_at.desc())
        .limit(MOST_EARLIER)
    )
    return connection.execute(query).mappings().all()


def promises_of(connection: Connection, alert_id: str) -> Sequence[RowMapping]:
    """Promises to pay of a case, latest first."""
    query = (
        select(
            PromiseToPay.action_id, PromiseToPay.amount, PromiseToPay.currency, PromiseToPay.due_on,
            PromiseToPay.state, PromiseToPay.paid, PromiseToPay.contract_id,
        )
        .where(PromiseToPay.alert_id == alert_id)
        .order_by(PromiseToPay.made_at.desc())
    )  # fmt: skip
    return connection.execute(query).mappings().all()


_FIGURES: dict[Kind, tuple[str, ...]] = {
    "repayments": ("amount_due", "amount_paid", "days_past_due", "balance", "amount"),
    "transactions": ("amount", "balance_after", "credit_limit"),
    "activity": ("count",),
    "profiles": ("income", "credit_limit"),
}
_MONEY = frozenset({"amount", "amount_due", "amount_paid", "balance", "balance_after", "credit_limit", "income"})
_WORDS = {"balance_after": "balance"}
_SAYS_NOTHING = {("days_past_due", 0), ("count", 1)}


def sort_of(event: Event, say: Language) -> str:
    """What an event is, in a few words, and of which contract."""
    if isinstance(event, Transaction):
        sort = say.t("event.money_in" if event.amount > 0 else "event.money_out")
    elif kind := getattr(event, "kind", None):
        sort = say.t(f"event.{kind}")
    else:
        sort = say.t("event.profile")
    about = getattr(event, "category", None), event.contract_id if isinstance(event, Repayment) else None
    return " · ".join([sort, *(shown(each) for each in about if each)])


def figures_of(event: Event, say: Language) -> str:
    """The numbers of an event in words, as far as they are known."""
    found = []
    for name in _FIGURES[event.KIND]:
        value = getattr(event, name, None)
        if value is None or (name, value) in _SAYS_NOTHING:
            continue
        if name == "days_past_due":
            found.append(say.t("event.late" if value > 0 else "event.early", days=say.days(abs(value))))
        else:
            said = say.money(value, getattr(event, "currency", None)) if name in _MONEY else say.number(value)
            found.append(say.t(f"event.{_WORDS.get(name, name)}", value=said))
    return ", ".join(found)


def in_words(rows: Sequence[RowMapping], weighed: Sequence[dict[str, Any]], say: Language) -> list[SaidEvent]:
    """Events as the page lists them."""
    weights = {(one["topic"], one["partition"], one["offset"]): float(one["weight"]) for one in weighed}
    found = []
    for row in rows:
        event = event_of(row)
        place = row["source_topic"], row["source_partition"], row["source_offset"]
        sort = row["kind"] if event is None else sort_of(event, say)
        said = "" if event is None else figures_of(event, say)
        found.append(SaidEvent(row["occurred_at"], sort, said, weights.get(place)))
    return found
