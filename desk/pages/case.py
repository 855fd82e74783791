"""The page of a case, and what is done on it. Whether an action is legal and what it changes is `desk.cases`'.

A form names the version of the case that it was shown with. Where somebody was faster, the page comes again with what
they did and with what was typed, and nothing is written.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import Response
from sqlalchemy import Connection, RowMapping

from desk.access import accounts
from desk.access.audit import note_reads
from desk.access.cookies import own_path
from desk.access.dependencies import SessionMay
from desk.access.principals import Principal
from desk.access.roles import Permission
from desk.access.sessions import Session
from desk.cases.actions import ActionIdTaken, CaseChanged, CaseNotFound, DoneAction, act, actions_of
from desk.cases.life import CaseState, IllegalAction, needs_review, offered
from desk.cases.queue import QueuedCase, find_case
from desk.cases.rules import CaseRules
from desk.context import Desk, desk_of
from desk.pages import reading
from desk.pages.case_forms import CHANNELS, ONE_CLICK, Refused, asked_of
from desk.pages.histories import Done, done_in_words, who
from desk.pages.language import Language
from desk.pages.pictures import attention_of, course_of
from desk.pages.rendering import Notice, back_to, choices, language_of, page, shown
from stream.case_records import CASE_ACTIONS, DISPOSITIONS, CaseAction

router = APIRouter(include_in_schema=False)

Seer = Annotated[Session, SessionMay(Permission.SEE_USERS)]
Worker = Annotated[Session, SessionMay(Permission.WORK_CASES)]

QUEUE_COOKIE = "foreshock-queue"
"""Holds the address of the queue as it was seen last, for the way back."""


async def _form(request: Request) -> Mapping[str, str]:
    """The fields of a form, once each."""
    return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}


Typed = Annotated[Mapping[str, str], Depends(_form)]


@dataclass(frozen=True)
class Reason:
    """A reason of the alert in the page's language."""

    said: str
    contribution: float


@router.get("/cases/{alert_id}")
def case(
    request: Request, session: Seer, alert_id: str, events: Annotated[int, Query(ge=1)] = reading.FIRST_EVENTS
) -> Response:
    """The case as it stands now."""
    return show(request, session, alert_id, most_events=min(events, reading.MOST_EVENTS))


@router.post("/cases/{alert_id}/{action}")
def do(request: Request, session: Worker, alert_id: str, action: str, typed: Typed) -> Response:
    """Do one action on the case, as its form says."""
    if action not in CASE_ACTIONS:
        raise HTTPException(404)
    wanted: CaseAction = action
    desk = desk_of(request)
    say = language_of(request, session)
    rules = CaseRules.from_settings(desk.settings)
    try:
        with desk.transaction() as connection:
            found = _require(connection, session.principal, alert_id)
            contracts = reading.contracts_of(connection, found.user_id)
            asked = asked_of(wanted, typed, found, contracts, session.principal, say, desk.clock(), rules)
            done = act(connection, session.principal, asked, desk.clock(), rules)
    except CaseNotFound:
        raise HTTPException(404) from None  # its borrower was forgotten just now
    except Refused as refused:
        return _again(request, session, alert_id, wanted, typed, 422, Notice("wrong", _refused(say, str(refused))))
    except IllegalAction as error:
        why = _illegal(desk, session, alert_id, wanted, say) or str(error)
        return _again(request, session, alert_id, wanted, typed, 422, Notice("wrong", _refused(say, why)))
    except ActionIdTaken:
        why = say.t("case.already_done")
        return _again(request, session, alert_id, wanted, typed, 409, Notice("wrong", _refused(say, why)))
    except CaseChanged as changed:
        notice = Notice("wrong", say.t("case.conflict"), tuple(_told(one, say) for one in changed.since))
        return _again(request, session, alert_id, wanted, typed, 409, notice)
    return back_to(request, f"/cases/{alert_id}", Notice("done", say.t("case.done", what=say.t(f"done.{done.action}"))))


def _require(connection: Connection, principal: Principal, alert_id: str) -> QueuedCase:
    found = find_case(connection, principal, alert_id)
    if found is None:
        raise HTTPException(404)
    return found


def _refused(say: Language, why: str) -> str:
    return say.t("case.refused", why=why)


def _illegal(desk: Desk, session: Session, alert_id: str, action: CaseAction, say: Language) -> str:
    """Why an action is not legal in the page's language, where it is the status that is against it."""
    with desk.transaction() as connection:
        found = _require(connection, session.principal, alert_id)
        legal = legal_actions(connection, session.principal, found, CaseRules.from_settings(desk.settings))
    if action in legal:
        return ""
    if action == "confirm" and found.review_by == session.principal.actor:
        return say.t("case.own_review")
    return say.t("case.not_now", status=say.t(f"status.{found.status}"))


def _told(done: DoneAction, say: Language) -> str:
    """One line of what somebody did meanwhile."""
    said = done_in_words(done.action, done.details, say)
    return say.t("case.conflict_item", what=said, who=who(say)(done.actor), at=say.minute(done.at))


def _again(
    request: Request,
    session: Session,
    alert_id: str,
    action: CaseAction,
    typed: Mapping[str, str],
    status: int,
    notice: Notice,
) -> Response:
    """The page with what was typed; what was done under a button alone is not kept."""
    kept = {} if action in ONE_CLICK else dict(typed)
    form = "close" if action == "request_review" else action
    return show(request, session, alert_id, typed=kept | {"action": form}, status=status, notice=notice)


def legal_actions(
    connection: Connection, principal: Principal, found: QueuedCase, rules: CaseRules
) -> tuple[CaseAction, ...]:
    """The actions that somebody may choose now, in the order of the table."""
    if not principal.may(Permission.WORK_CASES):
        return ()
    promises = [one for one in reading.promises_of(connection, found.alert_id) if one["state"] == "open"]
    leads = principal.may(Permission.LEAD_CASES)
    state = state_of(found, len(promises))
    return tuple(offered(state, principal.actor, leads=leads, four_eyes=rules.four_eyes))


def state_of(found: QueuedCase, open_promises: int) -> CaseState:
    """The case as the table of legal actions takes it."""
    names = CaseState.__dataclass_fields__.keys() & QueuedCase.__dataclass_fields__.keys()
    return CaseState(**{name: getattr(found, name) for name in names}, open_promises=open_promises)


def show(
    request: Request,
    session: Session,
    alert_id: str,
    *,
    most_events: int = reading.FIRST_EVENTS,
    typed: Mapping[str, str] | None = None,
    status: int = 200,
    notice: Notice | None = None,
) -> Response:
    """The page of a case; `typed` stands in the form of its `action`."""
    desk = desk_of(request)
    say = language_of(request, session)
    rules = CaseRules.from_settings(desk.settings)
    with desk.transaction() as connection:
        found = _require(connection, session.principal, alert_id)
        note_reads(connection, session.principal, "case", [found.user_id], desk.clock())
        alert = reading.alert_of(connection, alert_id)
        if alert is None:
            raise HTTPException(404)
        legal = legal_actions(connection, session.principal, found, rules)
        values = _data(connection, session.principal, found, alert, say, desk.settings.topic_prefix, most_events)
        values |= _forms(connection, session, found, legal, values["contracts"], rules, desk.clock(), say)
    return page(
        request, session, "case", section="queue", status=status, notice=notice, case=found, alert=alert,
        typed=defaultdict(str, typed or {}), back=own_path(request.cookies.get(QUEUE_COOKIE, ""), "/queue"),
        who=who(say), **values,
    )  # fmt: skip


def _data(
    connection: Connection,
    principal: Principal,
    found: QueuedCase,
    alert: RowMapping,
    say: Language,
    prefix: str,
    most_events: int,
) -> dict[str, Any]:
    """What the page shows of the borrower."""
    latest = reading.latest_score(connection, found.user_id)
    points = reading.scores_of(connection, found.user_id, alert["model"])
    contracts = reading.contracts_of(connection, found.user_id)
    rows = reading.kept_events_of(connection, found.user_id, most_events + 1)
    reasons = [Reason(say.reason(one["code"], one["text"]), one["contribution"]) for one in alert["reasons"]]
    history = actions_of(connection, found.alert_id, latest=reading.MOST_HISTORY)
    more = None
    if len(rows) > most_events and most_events < reading.MOST_EVENTS:
        more = f"/cases/{found.alert_id}?events={min(4 * most_events, reading.MOST_EVENTS)}#case-events"
    return {
        "standing": latest or alert,
        "horizons": sorted(((int(days), share) for days, share in latest["horizons"].items())) if latest else [],
        "reasons": reasons,
        "most": max([one.contribution for one in reasons] + [0.001]),
        "course": course_of(points, reading.levels_of(connection, alert["model"]), found.opened_at, say),
        "attention": attention_of(alert["weighed_most"], points, prefix, say),
        "contracts": contracts,
        "currency": currency_of(contracts),
        "events": reading.in_words(rows[:most_events], alert["weighed_most"], say),
        "more_events": more,
        "earlier": reading.earlier_cases(connection, principal, found.user_id, found.alert_id),
        "promises": reading.promises_of(connection, found.alert_id),
        "history": [
            Done(done_in_words(one.action, one.details, say), one.actor, one.at, one.reason)
            for one in reversed(history)
        ],
    }


def currency_of(contracts: Sequence[RowMapping]) -> str | None:
    """The currency of a borrower's sums; None where contracts are in several, or in none that is known."""
    found = {one["currency"] for one in contracts}
    return next(iter(found)) if len(found) == 1 else None


def _forms(
    connection: Connection,
    session: Session,
    found: QueuedCase,
    legal: Sequence[CaseAction],
    contracts: Sequence[RowMapping],
    rules: CaseRules,
    now: dt.datetime,
    say: Language,
) -> dict[str, Any]:
    """What the forms of the legal actions need."""
    today = rules.today(now)
    me = session.account.name
    leads = session.principal.may(Permission.LEAD_CASES)
    quick = [action for action in ONE_CLICK if action in legal]
    if "assign" in legal and not leads and found.assignee != me:
        quick.append("assign")
    return {
        "legal": legal,
        "leads": leads,
        "me": me,
        "quick": quick,
        "action_ids": {action: str(uuid.uuid4()) for action in CASE_ACTIONS},
        "channels": choices(say, "contact", CHANNELS),
        "contract_choices": [(name, shown(name)) for one in contracts if (name := one["contract_id"])],
        "collectors": collectors(connection, found.product) if leads else [],
        "outcomes": choices(say, "outcome", DISPOSITIONS),
        "open_promises": [
            (str(one["action_id"]), f"{say.money(one['amount'], one['currency'])}, {say.day(one['due_on'])}")
            for one in reading.promises_of(connection, found.alert_id)
            if one["state"] == "open"
        ],
        "needs_review": needs_review(state_of(found, 0), "false_alarm", rules.four_eyes),
        "today": today.isoformat(),
        "tomorrow": (today + dt.timedelta(days=1)).isoformat(),
        "may": {"next": session.principal.may(Permission.WORK_CASES)},
    }  # fmt: skip


def collectors(connection: Connection, product: str | None) -> list[tuple[str, str]]:
    """The accounts that cases of a product can be given to."""
    return [
        (one.name, shown(one.display_name))
        for one in accounts.listed(connection)
        if one.active
        and one.role in ("collector", "lead")
        and (one.products is None or (product is not None and product in one.products))
    ]
