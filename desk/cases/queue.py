"""The queue: which cases somebody sees, in which order, page by page. Reads only.

Pages begin after a place, the order's own columns of the last case seen, so that the thousandth page costs what the
first does. There is no count of all pages: nobody turns to page 731, and counting would cost more than showing.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, literal, select, true, tuple_
from sqlalchemy.dialects.postgresql import insert

from desk.access.principals import Principal
from stream.case_records import CaseStatus, Disposition
from stream.database.case_tables import Case, SavedView
from stream.database.tables import AlertState
from stream.outputs import Level

SHOWN: tuple[CaseStatus, ...] = ("open", "acknowledged", "in_progress", "promised")
"""Statuses of the cases that a queue without a filter shows: to be worked now."""

LONGEST_PAGE = 500
PAGE = 50

_UNKNOWN = float("-inf")


class QueueFilters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which cases: each filter that is set must hold. Statuses are those of `SHOWN` unless named.

    `assignee` is an account's name, `unassigned` asks for those that nobody has. `reason` is a code. Ages are in days
    since the alert opened. `unknown_exposure`: only those whose expected loss is not known (true), or is (false).
    `review`: only those that wait for a second person. `user_id` for one borrower's.
    """

    levels: frozenset[Level] = frozenset()
    products: frozenset[str] = frozenset()
    statuses: frozenset[CaseStatus] = frozenset()
    assignee: Annotated[str, Meta(min_length=1)] | None = None
    unassigned: bool = False
    reason: Annotated[str, Meta(min_length=1)] | None = None
    least_age_days: Annotated[float, Meta(ge=0, le=36_500)] | None = None
    most_age_days: Annotated[float, Meta(ge=0, le=36_500)] | None = None
    unknown_exposure: bool | None = None
    review: bool = False
    user_id: Annotated[str, Meta(min_length=1)] | None = None

    @property
    def of_closed(self) -> bool:
        """Whether it asks for closed cases, the latest first. Raises `ForeignFilters` where for others, too."""
        if "closed" in self.statuses and len(self.statuses) > 1:
            raise ForeignFilters("closed cases are listed apart from others: they are not in the order of the queue")
        return "closed" in self.statuses


class ForeignFilters(ValueError):
    """Filters that make no sense; the message says why."""


class ForeignPlace(ValueError):
    """A place that no page of such a queue ended with."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended: the columns of the order. `rank` is None where the priority is not known."""

    alert_id: str
    score: float | None = None
    rank: float | None = None
    closed_at: dt.datetime | None = None

    def encode(self) -> str:
        """As text for an address."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Place:
        """Raises `ForeignPlace`."""
        try:
            raw = base64.urlsafe_b64decode(f"{text}{'=' * (-len(text) % 4)}".encode("ascii"))
            return msgspec.json.decode(raw, type=cls)
        except (ValueError, binascii.Error, msgspec.MsgspecError):
            raise ForeignPlace("the place is none that a page of the queue gave; begin with the first page") from None


@dataclass(frozen=True)
class QueuedCase:
    """A case as lists show it. `reason` is the first reason of its alert in words."""

    alert_id: str
    user_id: str
    status: CaseStatus
    level: Level
    highest_level: Level
    product: str | None
    reason_codes: list[str]
    score: float
    expected_loss: float | None
    lead_days: float | None
    priority: float | None
    assignee: str | None
    assigned_at: dt.datetime | None
    opened_at: dt.datetime
    alert_cleared_at: dt.datetime | None
    first_touched_at: dt.datetime | None
    contacted_at: dt.datetime | None
    snoozed_until: dt.datetime | None
    closed_at: dt.datetime | None
    closed_as: Disposition | None
    review_of: Disposition | None
    review_by: str | None
    version: int
    updated_at: dt.datetime
    reason: str | None

    @property
    def place(self) -> Place:
        """Where the page ends that ends with this case."""
        if self.closed_at is not None:
            return Place(self.alert_id, closed_at=self.closed_at)
        return Place(self.alert_id, self.score, self.priority)


@dataclass(frozen=True)
class QueuePage:
    """A page of the queue; `end` is where the next one begins, None where there is none."""

    cases: list[QueuedCase]
    end: Place | None


_NAMES = tuple(name for name in QueuedCase.__dataclass_fields__ if name != "reason")
COLUMNS = tuple(getattr(Case, name) for name in _NAMES)


def in_scope(principal: Principal) -> ColumnElement[bool]:
    """The cases that somebody may see, by product. A case of no known product is seen by who sees all."""
    return true() if principal.products is None else Case.product.in_(sorted(principal.products))


def queue_page(
    connection: Connection,
    principal: Principal,
    filters: QueueFilters,
    now: dt.datetime,
    *,
    place: Place | None = None,
    size: int = PAGE,
) -> QueuePage:
    """A page of up to `size` cases, after `place` if there is one. Raises `ForeignFilters` and `ForeignPlace`."""
    size = min(max(size, 1), LONGEST_PAGE)
    wanted = in_order(filtered(filters, now).where(in_scope(principal)), filters, place).limit(size + 1)
    rows = connection.execute(_with_reason(wanted, filters)).all()
    cases = [queued(row) for row in rows[:size]]
    return QueuePage(cases, cases[-1].place if len(rows) > size else None)


def find_case(connection: Connection, principal: Principal, alert_id: str) -> QueuedCase | None:
    """The case of an alert; None where there is none, or not for this person."""
    wanted = select(*COLUMNS).where(Case.alert_id == alert_id, in_scope(principal))
    row = connection.execute(_with_reason(wanted, QueueFilters())).one_or_none()
    return None if row is None else queued(row)


def filtered(filters: QueueFilters, now: dt.datetime) -> Select[*tuple[Any, ...]]:
    """The columns of `QueuedCase` but its reason, of the cases that pass the filters, in no order."""
    found = select(*COLUMNS)
    if filters.of_closed:
        found = found.where(Case.closed_at.is_not(None))
    else:
        found = found.where(Case.closed_at.is_(None), Case.status.in_(sorted(filters.statuses or SHOWN)))
    if filters.levels:
        found = found.where(Case.level.in_(sorted(filters.levels)))
    if filters.products:
        found = found.where(Case.product.in_(sorted(filters.products)))
    if filters.assignee is not None:
        found = found.where(Case.assignee == filters.assignee)
    if filters.unassigned:
        found = found.where(Case.assignee.is_(None))
    if filters.reason is not None:
        found = found.where(Case.reason_codes.contains([filters.reason]))
    if filters.least_age_days is not None:
        found = found.where(Case.opened_at <= now - dt.timedelta(days=filters.least_age_days))
    if filters.most_age_days is not None:
        found = found.where(Case.opened_at >= now - dt.timedelta(days=filters.most_age_days))
    if filters.unknown_exposure is not None:
        found = found.where(Case.expected_loss.is_(None) == filters.unknown_exposure)
    if filters.review:
        found = found.where(Case.review_of.is_not(None))
    if filters.user_id is not None:
        found = found.where(Case.user_id == filters.user_id)
    return found


def in_order(
    found: Select[*tuple[Any, ...]], filters: QueueFilters, place: Place | None = None
) -> Select[*tuple[Any, ...]]:
    """The cases after `place`, in the order of the queue; of closed ones the latest first. Raises `ForeignPlace`."""
    if filters.of_closed:
        order: tuple[Any, ...] = (Case.closed_at, Case.alert_id)
        values: tuple[Any, ...] | None = None if place is None else (place.closed_at, place.alert_id)
    else:
        order = (Case.rank, Case.score, Case.alert_id)
        values = None
        if place is not None:
            values = (_UNKNOWN if place.rank is None else place.rank, place.score, place.alert_id)
    if values is not None:
        if None in values:
            raise ForeignPlace(
                "the place is of another queue: of open cases, or of closed ones; begin with the first page"
            )
        after = (literal(value, column.type) for column, value in zip(order, values, strict=True))
        found = found.where(tuple_(*order) < tuple_(*after))
    return found.order_by(*(column.desc() for column in order))


def _with_reason(wanted: Select[*tuple[Any, ...]], filters: QueueFilters) -> Select[*tuple[Any, ...]]:
    """With the first reason of each alert in words, which is looked up for the page's cases alone."""
    page = wanted.subquery("page")
    names = ("closed_at", "alert_id") if filters.of_closed else ("priority", "score", "alert_id")
    order = [page.c[name].desc().nulls_last() for name in names]
    reason = AlertState.reasons[0]["text"].astext.label("reason")
    return (
        select(*page.c, reason).join(AlertState, AlertState.alert_id == page.c.alert_id, isouter=True).order_by(*order)
    )


def queued(row: Row[Any]) -> QueuedCase:
    """A row of `COLUMNS` and a reason."""
    return QueuedCase(**row._mapping)


def save_view(connection: Connection, owner: str, name: str, filters: QueueFilters) -> None:
    """Keep filters under a name, in the place of those that were kept under it before."""
    kept = insert(SavedView).values(owner=owner, name=name, filters=msgspec.to_builtins(filters, order="sorted"))
    connection.execute(
        kept.on_conflict_do_update(
            index_elements=["owner", "name"], set_={"filters": kept.excluded.filters, "saved_at": func.now()}
        )
    )


def saved_views(connection: Connection, owner: str) -> dict[str, QueueFilters]:
    """What somebody keeps, by name."""
    rows = connection.execute(
        select(SavedView.name, SavedView.filters).where(SavedView.owner == owner).order_by(SavedView.name)
    )
    return {row.name: msgspec.convert(row.filters, QueueFilters) for row in rows}


def forget_view(connection: Connection, owner: str, name: str) -> bool:
    """Keep it no longer; whether it was kept."""
    gone = connection.execute(delete(SavedView).where(SavedView.owner == owner, SavedView.name == name))
    return gone.rowcount > 0
