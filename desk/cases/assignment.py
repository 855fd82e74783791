"""Who works which case: the next one for who asks, and cases given out by the desk.

`take_next` never gives a case to two people: it locks the case that it looks at, and passes over those that others have
locked. `distribute` is pure.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Select, func, select, text

from desk.access.principals import Principal
from desk.cases.actions import Asked, act, act_by_itself
from desk.cases.life import Act
from desk.cases.queue import QueuedCase, QueueFilters, filtered, find_case, in_order, in_scope
from desk.cases.rules import CaseRules
from stream.case_records import FORESHOCK
from stream.database.access_tables import Account
from stream.database.case_tables import Case

GIVEN_AT_ONCE = 200
"""Cases that `auto_assign` gives out in one transaction."""

# Of each name, how many cases it was given since a moment: those it took, and those that the desk gave it.
_GIVEN = text("""
SELECT name, count(DISTINCT alert_id) AS cases FROM (
    SELECT actor AS name, alert_id FROM case_actions WHERE actor = ANY(:names) AND at >= :since AND action = 'take'
    UNION ALL
    SELECT details ->> 'assignee', alert_id FROM case_actions
    WHERE actor = :foreshock AND at >= :since AND action = 'assign' AND details ->> 'assignee' = ANY(:names)
) AS given GROUP BY name
""")

# One after the other for each actor, or two requests of one person at once would both be below the cap.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(:key, hashtext(:actor))")
_LOCK_KEY = 0x6465_736B


class DailyCapReached(Exception):
    """Somebody was given as many cases today as they may have."""

    def __init__(self, cap: int) -> None:
        super().__init__(f"{cap} cases were given today, which is the daily cap; a lead may raise it")
        self.cap = cap


@dataclass(frozen=True)
class Waiting:
    """A case that nobody has."""

    alert_id: str
    product: str | None


@dataclass(frozen=True)
class Collector:
    """Somebody whom cases are given to: what they see, how many they have, and how many more today (None: any)."""

    name: str
    products: frozenset[str] | None
    load: int
    room: int | None

    def takes(self, case: Waiting) -> bool:
        """Whether the case may be given to them."""
        return self.room != 0 and (self.products is None or case.product in self.products)


def distribute(cases: Sequence[Waiting], collectors: Sequence[Collector]) -> list[tuple[Waiting, str]]:
    """Who is given which case: each in turn goes to whoever has fewest of those who may have it, then by name.

    A case that nobody may have is left out.
    """
    now = {collector.name: collector for collector in collectors}
    given = []
    for case in cases:
        able = [collector for collector in now.values() if collector.takes(case)]
        if not able:
            continue
        chosen = min(able, key=lambda collector: (collector.load, collector.name))
        room = None if chosen.room is None else chosen.room - 1
        now[chosen.name] = replace(chosen, load=chosen.load + 1, room=room)
        given.append((case, chosen.name))
    return given


def take_next(
    connection: Connection,
    principal: Principal,
    now: dt.datetime,
    rules: CaseRules,
    *,
    filters: QueueFilters | None = None,
) -> QueuedCase | None:
    """The next case to work, given to who asks: of their own the first that they have not begun, else the first that
    nobody has. None where there is none.

    Of `filters`, statuses and assignees do not count. Raises `DailyCapReached`, `ForeignFilters`.
    """
    connection.execute(_ONE_AT_A_TIME, {"key": _LOCK_KEY, "actor": principal.actor})
    asked = QueueFilters() if filters is None else _which(filters)
    own = _first(asked, principal, now).where(Case.assignee == principal.actor)
    alert_id = connection.execute(own.with_for_update(skip_locked=True, of=Case)).scalar_one_or_none()
    if alert_id is None:
        _require_room(connection, principal, now, rules)
        nobodys = _first(asked, principal, now).where(Case.assignee.is_(None))
        alert_id = connection.execute(nobodys.with_for_update(skip_locked=True, of=Case)).scalar_one_or_none()
    if alert_id is None:
        return None
    act(connection, principal, Asked(alert_id, "take"), now, rules)
    return find_case(connection, principal, alert_id)


def _which(filters: QueueFilters) -> QueueFilters:
    """The filters that say which cases, without those that say how they stand."""
    return QueueFilters(
        levels=filters.levels,
        products=filters.products,
        reason=filters.reason,
        least_age_days=filters.least_age_days,
        most_age_days=filters.most_age_days,
        unknown_exposure=filters.unknown_exposure,
    )


def _first(filters: QueueFilters, principal: Principal, now: dt.datetime) -> Select[*tuple[Any, ...]]:
    wanted = filtered(filters, now).with_only_columns(Case.alert_id)
    wanted = wanted.where(in_scope(principal), Case.status == "open", Case.review_of.is_(None))
    return in_order(wanted, filters).limit(1)


def _require_room(connection: Connection, principal: Principal, now: dt.datetime, rules: CaseRules) -> None:
    own = connection.execute(select(Account.daily_cap).where(Account.name == principal.actor)).scalar_one_or_none()
    cap = rules.daily_cap if own is None else own
    if cap is None:
        return
    if given_since(connection, [principal.actor], rules.start_of_today(now)).get(principal.actor, 0) >= cap:
        raise DailyCapReached(cap)


def given_since(connection: Connection, names: Sequence[str], since: dt.datetime) -> dict[str, int]:
    """How many cases each of these was given since then; who was given none is left out."""
    rows = connection.execute(_GIVEN, {"names": list(names), "since": since, "foreshock": FORESHOCK})
    return {row.name: row.cases for row in rows}


def collectors(connection: Connection, now: dt.datetime, rules: CaseRules) -> list[Collector]:
    """Those whom cases are given to: active accounts of collectors."""
    having = (
        select(Case.assignee, func.count().label("cases"))
        .where(Case.closed_at.is_(None), Case.assignee.is_not(None), Case.status != "snoozed")
        .group_by(Case.assignee)
        .subquery()
    )
    rows = connection.execute(
        select(Account.name, Account.products, Account.daily_cap, func.coalesce(having.c.cases, 0).label("cases"))
        .join(having, having.c.assignee == Account.name, isouter=True)
        .where(Account.active, Account.role == "collector")
        .order_by(Account.name)
    ).all()
    given = given_since(connection, [row.name for row in rows], rules.start_of_today(now))
    found = []
    for row in rows:
        cap = rules.daily_cap if row.daily_cap is None else row.daily_cap
        room = None if cap is None else max(cap - given.get(row.name, 0), 0)
        found.append(Collector(row.name, None if row.products is None else frozenset(row.products), row.cases, room))
    return found


def auto_assign(connection: Connection, now: dt.datetime, rules: CaseRules, *, most: int = GIVEN_AT_ONCE) -> int:
    """Give up to `most` cases that nobody has to collectors, the first of the queue first; returns how many were given.

    Cases whose product no collector sees are passed over. One at a time: see `desk.clerk`.
    """
    able = [collector for collector in collectors(connection, now, rules) if collector.room != 0]
    if not able:
        return 0
    wanted = filtered(QueueFilters(unassigned=True), now).with_only_columns(Case.alert_id, Case.product)
    wanted = wanted.where(Case.status == "open", Case.review_of.is_(None))
    if all(collector.products is not None for collector in able):
        seen = frozenset().union(*(collector.products or () for collector in able))
        wanted = wanted.where(Case.product.in_(sorted(seen)))
    rows = connection.execute(in_order(wanted, QueueFilters()).limit(most).with_for_update(skip_locked=True, of=Case))
    waiting = [Waiting(row.alert_id, row.product) for row in rows]
    given = distribute(waiting, able)
    for case, name in given:
        act_by_itself(connection, case.alert_id, Act("assign", FORESHOCK, assignee=name), now, rules)
    return len(given)
