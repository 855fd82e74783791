"""Actions on cases: each locks its case, asks `desk.cases.life` whether it is legal, and writes case, action and
promise in the caller's transaction.

An action names the version of the case that its actor saw. If something was done meanwhile, it is refused and told
(`CaseChanged`): nobody's work is overwritten unseen. An action that is sent again, with the same `action_id`, is done
once. Publishes nothing: rows of `case_actions` are an outbox, see `desk.outbox`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update

from desk.access.principals import Principal
from desk.access.roles import Permission
from desk.cases.life import Act, CaseState, IllegalAction, after
from desk.cases.queue import in_scope
from desk.cases.rules import CaseRules
from stream.case_records import CaseAction, CaseStatus, Disposition, PromisedPayment
from stream.database.access_tables import Account
from stream.database.case_tables import Case, CaseActionRow, PromiseToPay
from stream.outputs import Level

MOST_AT_ONCE = 500
"""Cases that `act_on_many` takes in one call."""

_STATE = (
    "status", "highest_level", "version", "assignee", "assigned_at", "alert_cleared_at", "first_touched_at",
    "contacted_at", "snoozed_until", "snoozed_from", "closed_at", "closed_as", "review_of", "review_by",
)  # fmt: skip
_LOCKED = select(Case.alert_id, Case.user_id, Case.level, Case.product, *(getattr(Case, name) for name in _STATE))


class CaseNotFound(LookupError):
    """There is no such case, or none that this person may see."""


class CaseChanged(Exception):
    """Something was done about the case after the actor saw it: `since`, the oldest first."""

    def __init__(self, alert_id: str, seen: int, version: int, since: list[DoneAction]) -> None:
        told = "; ".join(f"{done.actor}: {done.action}" for done in since) or "it is not as it was shown"
        super().__init__(f"the case has changed since (version {seen}, now {version}): {told}; look at it again")
        self.alert_id, self.version, self.since = alert_id, version, since


class ActionIdTaken(ValueError):
    """Another action was done under this id."""


@dataclass(frozen=True)
class Asked:
    """An action that somebody asks for. `version` is that of the case as they saw it, None to act whatever it is."""

    alert_id: str
    action: CaseAction
    version: int | None = None
    action_id: uuid.UUID | None = None
    reason: str = ""
    disposition: Disposition | None = None
    assignee: str | None = None
    until: dt.datetime | None = None
    promise: PromisedPayment | None = None
    promise_id: str | None = None


@dataclass(frozen=True)
class DoneAction:
    """A row of `case_actions`. `details` holds what `AlertAction` has beside it, where it has it."""

    number: int
    action_id: uuid.UUID
    alert_id: str
    user_id: str
    action: CaseAction
    status_from: CaseStatus | None
    status_to: CaseStatus
    level: Level
    product: str | None
    actor: str
    at: dt.datetime
    reason: str
    details: dict[str, Any]
    version: int


_DONE = tuple(getattr(CaseActionRow, name) for name in DoneAction.__dataclass_fields__)


def act(connection: Connection, principal: Principal, asked: Asked, now: dt.datetime, rules: CaseRules) -> DoneAction:
    """Do one action. Raises `CaseNotFound`, `CaseChanged`, `IllegalAction` and `ActionIdTaken`."""
    row = connection.execute(
        _LOCKED.where(Case.alert_id == asked.alert_id, in_scope(principal)).with_for_update()
    ).one_or_none()
    if row is None:
        raise CaseNotFound(f"there is no case {asked.alert_id!r} that {principal.name} may see")
    return _act_on(connection, principal, row, asked, now, rules)


def act_on_many(
    connection: Connection, principal: Principal, asked: Sequence[Asked], now: dt.datetime, rules: CaseRules
) -> dict[str, DoneAction | Exception]:
    """Do an action on each of many cases, in one transaction; what became of each, by `alert_id`.

    What is refused of one case, with the errors of `act`, leaves the others. Raises `IllegalAction` for more than
    `MOST_AT_ONCE` cases, or one of them twice.
    """
    by_id = {one.alert_id: one for one in asked}
    if len(asked) > MOST_AT_ONCE or len(by_id) < len(asked):
        raise IllegalAction(f"one call takes up to {MOST_AT_ONCE} cases, each once")
    # All in the order of the ids, as the sink locks them: so nobody waits for each other in a circle.
    rows = connection.execute(
        _LOCKED.where(Case.alert_id.in_(list(by_id)), in_scope(principal)).order_by(Case.alert_id).with_for_update()
    ).all()
    outcome: dict[str, DoneAction | Exception] = {
        alert_id: CaseNotFound(f"there is no case {alert_id!r} that {principal.name} may see") for alert_id in by_id
    }
    for row in rows:
        try:
            outcome[row.alert_id] = _act_on(connection, principal, row, by_id[row.alert_id], now, rules)
        except (CaseChanged, IllegalAction, ActionIdTaken) as error:
            outcome[row.alert_id] = error
    return outcome


def act_by_itself(
    connection: Connection,
    alert_id: str,
    act_asked: Act,
    now: dt.datetime,
    rules: CaseRules,
    *,
    skip_locked: bool = False,
) -> DoneAction | None:
    """Do what happens by itself; None where the case is gone or, with `skip_locked`, somebody acts on it just now.

    Raises `IllegalAction`.
    """
    row = connection.execute(
        _LOCKED.where(Case.alert_id == alert_id).with_for_update(skip_locked=skip_locked)
    ).one_or_none()
    return None if row is None else _write(connection, row, act_asked, now, rules, uuid.uuid4())


def actions_of(
    connection: Connection, alert_id: str, *, after_version: int = 0, latest: int | None = None
) -> list[DoneAction]:
    """What was done about a case after a version of it, the oldest first; of more than `latest` the last ones. Whether
    it may be seen is the caller's."""
    wanted = (
        select(*_DONE)
        .where(CaseActionRow.alert_id == alert_id, CaseActionRow.version > after_version)
        .order_by(CaseActionRow.version.desc())
        .limit(latest)
    )
    return [DoneAction(**row._mapping) for row in reversed(connection.execute(wanted).all())]


def actions_of_many(connection: Connection, alert_ids: Sequence[str]) -> dict[str, list[DoneAction]]:
    """The same of several cases, all of it, by alert."""
    wanted = select(*_DONE).where(CaseActionRow.alert_id.in_(alert_ids)).order_by(CaseActionRow.number)
    found: dict[str, list[DoneAction]] = {}
    for row in connection.execute(wanted):
        found.setdefault(row.alert_id, []).append(DoneAction(**row._mapping))
    return found


def _act_on(
    connection: Connection, principal: Principal, row: Row[Any], asked: Asked, now: dt.datetime, rules: CaseRules
) -> DoneAction:
    """`act` on a case that is locked."""
    if asked.action_id is not None and (done := _done_under(connection, asked.action_id)) is not None:
        if (done.alert_id, done.action, done.actor) == (asked.alert_id, asked.action, principal.actor):
            return done
        raise ActionIdTaken(f"action {asked.action_id} was {done.action} of another case or actor; take a new id")
    if asked.version is not None and asked.version != row.version:
        since = actions_of(connection, row.alert_id, after_version=asked.version)
        raise CaseChanged(row.alert_id, asked.version, row.version, since)
    if asked.action == "assign" and asked.assignee not in (None, principal.actor):
        _require_collector(connection, str(asked.assignee), row.product)
    wanted = Act(
        asked.action,
        principal.actor,
        leads=principal.may(Permission.LEAD_CASES),
        reason=asked.reason.strip(),
        disposition=asked.disposition,
        assignee=asked.assignee,
        until=asked.until,
        promise=asked.promise,
        promise_id=asked.promise_id,
    )
    return _write(connection, row, wanted, now, rules, asked.action_id or uuid.uuid4())


def _done_under(connection: Connection, action_id: uuid.UUID) -> DoneAction | None:
    row = connection.execute(select(*_DONE).where(CaseActionRow.action_id == action_id)).one_or_none()
    return None if row is None else DoneAction(**row._mapping)


def _require_collector(connection: Connection, name: str, product: str | None) -> None:
    account = connection.execute(
        select(Account.role, Account.products, Account.active).where(Account.name == name)
    ).one_or_none()
    if account is None or not account.active or account.role not in ("collector", "lead"):
        raise IllegalAction(f"{name!r} is no active account of a collector or a lead")
    if account.products is not None and product not in account.products:
        raise IllegalAction(f"{name} does not see cases of the product {product or 'that is not known'}")


def _write(
    connection: Connection, row: Row[Any], wanted: Act, now: dt.datetime, rules: CaseRules, action_id: uuid.UUID
) -> DoneAction:
    before = CaseState(
        **{name: getattr(row, name) for name in _STATE}, open_promises=_open_promises(connection, row.alert_id)
    )
    changed = after(before, wanted, now, four_eyes=rules.four_eyes, today=rules.today(now))
    if wanted.action == "withdraw_promise":
        _withdraw(connection, row.alert_id, wanted, now)
    connection.execute(
        update(Case)
        .where(Case.alert_id == row.alert_id)
        .values(**{name: getattr(changed, name) for name in _STATE}, updated_at=func.now())
    )
    done = connection.execute(
        insert(CaseActionRow)
        .values(
            action_id=action_id,
            alert_id=row.alert_id,
            user_id=row.user_id,
            action=wanted.action,
            status_from=before.status,
            status_to=changed.status,
            level=row.level,
            product=row.product,
            actor=wanted.actor,
            at=now,
            reason=wanted.reason,
            details=_details(wanted, before, changed),
            version=changed.version,
        )
        .returning(*_DONE)
    ).one()
    if wanted.action == "promise" and wanted.promise is not None:
        connection.execute(
            insert(PromiseToPay).values(
                action_id=action_id,
                alert_id=row.alert_id,
                user_id=row.user_id,
                made_at=now,
                made_by=wanted.actor,
                checked_at=now,
                **msgspec.structs.asdict(wanted.promise),
            )
        )
    return DoneAction(**done._mapping)


def _details(wanted: Act, before: CaseState, changed: CaseState) -> dict[str, Any]:
    """What `AlertAction` says of an action beside its own columns."""
    said: dict[str, Any] = {}
    if changed.closed_as is not None and before.closed_as is None:
        said["closed_as"] = changed.closed_as
    elif wanted.action == "request_review":
        said["closed_as"] = wanted.disposition
    if wanted.action in ("assign", "take"):
        said["assignee"] = changed.assignee
    if wanted.action == "snooze":
        said["until"] = wanted.until
    if wanted.action in ("promise", "promise_kept", "promise_broken", "withdraw_promise"):
        said |= {"promise": wanted.promise, "promise_id": wanted.promise_id}
    return {name: msgspec.to_builtins(value) for name, value in said.items() if value is not None}


def _open_promises(connection: Connection, alert_id: str) -> int:
    return connection.execute(
        select(func.count()).where(PromiseToPay.alert_id == alert_id, PromiseToPay.state == "open")
    ).scalar_one()


def _withdraw(connection: Connection, alert_id: str, wanted: Act, now: dt.datetime) -> None:
    """Raises `IllegalAction` where the case has no such promise that is open."""
    try:
        promise_id = uuid.UUID(wanted.promise_id or "")
    except ValueError:
        raise IllegalAction(f"{wanted.promise_id!r} is no promise's id") from None
    withdrawn = connection.execute(
        update(PromiseToPay)
        .where(PromiseToPay.action_id == promise_id, PromiseToPay.alert_id == alert_id, PromiseToPay.state == "open")
        .values(state="withdrawn", settled_at=now)
    )
    if not withdrawn.rowcount:
        raise IllegalAction(f"the case has no open promise {promise_id}")
