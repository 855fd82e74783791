"""`/v1/alerts/…`: the queue of cases, the next case to work, and actions. What they mean is said by `desk.cases`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field
from sqlalchemy import Connection, select
from starlette.responses import Response

from desk.access.audit import note_reads
from desk.access.dependencies import TokenMay
from desk.access.principals import Principal
from desk.access.roles import Permission
from desk.api.alert_bodies import ActBody, ActionBody, CaseWithHistory, NextBody, QueueBody
from desk.api.bodies import AlertBody
from desk.api.described import problems
from desk.api.idempotency import Answer, IdempotencyKey, body_of, once
from desk.api.users import LONGEST_PAGE, PAGE, Cursor, Limit
from desk.cases.actions import (
    ActionIdTaken,
    Asked,
    CaseChanged,
    CaseNotFound,
    DoneAction,
    act,
    actions_of,
)
from desk.cases.assignment import DailyCapReached, take_next
from desk.cases.life import IllegalAction
from desk.cases.queue import ForeignFilters, ForeignPlace, Place, QueuedCase, QueueFilters, find_case, queue_page
from desk.cases.rules import CaseRules
from desk.context import Desk, desk_of
from desk.problems import Problem
from stream.case_records import CaseStatus, PromisedPayment
from stream.database.tables import AlertState
from stream.outputs import Level

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])

Seer = Annotated[Principal, TokenMay(Permission.SEE_USERS)]
Worker = Annotated[Principal, TokenMay(Permission.WORK_CASES)]
AlertId = Annotated[str, Path(min_length=1, max_length=200, description="`alert_id` of the alert.")]
Raw = Annotated[bytes, Depends(body_of)]
Days = Annotated[float | None, Field(ge=0, le=36_500, allow_inf_nan=False)]

_ALERT = [getattr(AlertState, name) for name in AlertBody.model_fields]
_ACTIONS = uuid.UUID("0d4c3a55-5f4e-5b52-8b5f-2f6d1b7f6c11")
assert PAGE <= LONGEST_PAGE


@router.get(
    "",
    summary="Cases of alerts, those first where acting now saves most",
    responses={200: {"model": QueueBody, "description": "A page of cases."}, **problems()},
)
def queue(
    request: Request,
    principal: Seer,
    limit: Limit = PAGE,
    cursor: Cursor = None,
    level: Annotated[list[Level] | None, Query(description="Only these levels.")] = None,
    product: Annotated[list[str] | None, Query(description="Only these products.")] = None,
    status: Annotated[
        list[CaseStatus] | None, Query(description="Only these; `closed` alone. Unless named: those to be worked now.")
    ] = None,
    assignee: Annotated[str | None, Query(min_length=1, description="Only those that this account has.")] = None,
    unassigned: Annotated[bool, Query(description="Only those that nobody has.")] = False,
    reason: Annotated[str | None, Query(min_length=1, description="Only those with a reason of this code.")] = None,
    least_age_days: Annotated[Days, Query(description="Only those whose alert opened at least so long ago.")] = None,
    most_age_days: Annotated[Days, Query(description="Only those whose alert opened at most so long ago.")] = None,
    unknown_exposure: Annotated[
        bool | None, Query(description="Only those whose expected loss is not known (true), or is (false).")
    ] = None,
    review: Annotated[bool, Query(description="Only those that wait for a second person.")] = False,
    user_id: Annotated[str | None, Query(min_length=1, max_length=128, description="Only this user's.")] = None,
) -> Response:
    """A page of the queue, by priority: expected loss × the part of it that acting now can still prevent.

    Closed cases are listed apart, the latest first. Ages are in days since the alert opened.
    """
    desk = desk_of(request)
    filters = QueueFilters(
        levels=frozenset(level or ()),
        products=frozenset(product or ()),
        statuses=frozenset(status or ()),
        assignee=assignee,
        unassigned=unassigned,
        reason=reason,
        least_age_days=least_age_days,
        most_age_days=most_age_days,
        unknown_exposure=unknown_exposure,
        review=review,
        user_id=user_id,
    )
    with _told(), desk.transaction() as connection:
        place = None if cursor is None else Place.decode(cursor)
        page = queue_page(connection, principal, filters, desk.clock(), place=place, size=limit)
        note_reads(connection, principal, "queue", [case.user_id for case in page.cases], desk.clock())
    return _json({"cases": page.cases, "next_cursor": None if page.end is None else page.end.encode()})


@router.post(
    "/next",
    summary="Take the next case to work",
    responses={
        200: {"model": CaseWithHistory, "description": "The case, which is yours now."},
        204: {"description": "There is none."},
        **problems(409, 413),
    },
)
def take(
    request: Request,
    principal: Worker,
    raw: Raw,
    wanted: NextBody | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """The next case by priority, given to who asks; nobody else gets it.

    First one's own that are not begun, then those that nobody has. Not beyond the daily cap.
    """
    desk = desk_of(request)
    asked = wanted or NextBody()
    filters = QueueFilters(
        levels=frozenset(asked.levels),
        products=frozenset(asked.products),
        reason=asked.reason,
        least_age_days=asked.least_age_days,
        most_age_days=asked.most_age_days,
        unknown_exposure=asked.unknown_exposure,
    )

    def work(connection: Connection) -> Answer:
        found = take_next(connection, principal, desk.clock(), _rules(desk), filters=filters)
        if found is None:
            return Answer(b"", status=204)
        _note(connection, desk, principal, found.user_id)
        return Answer(_encoded(_whole(connection, found)), found.user_id)

    return _once(request, principal, idempotency_key, raw, work)


@router.get(
    "/{alert_id}",
    summary="An alert, its case, and what was done",
    responses={200: {"model": CaseWithHistory, "description": "The alert with its case."}, **problems(404)},
)
def one(request: Request, principal: Seer, alert_id: AlertId) -> Response:
    """The alert as it stands, the case with its `version`, and every action on it, oldest first."""
    desk = desk_of(request)
    with desk.transaction() as connection:
        found = _require(connection, principal, alert_id)
        _note(connection, desk, principal, found.user_id)
        return _json(_whole(connection, found))


@router.post(
    "/{alert_id}/actions",
    summary="Act on the case of an alert",
    responses={200: {"model": ActionBody, "description": "What was done."}, **problems(404, 409, 413)},
)
def do(
    request: Request,
    principal: Worker,
    alert_id: AlertId,
    raw: Raw,
    wanted: ActBody,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Do one action. `version` is that of the case as you saw it; if somebody did something since, nothing is done.

    Which actions are legal when is in the guide. Some are for leads alone.
    """
    desk = desk_of(request)
    promise = wanted.promise
    asked = Asked(
        alert_id,
        wanted.action,
        wanted.version,
        action_id=None if idempotency_key is None else uuid.uuid5(_ACTIONS, f"{principal.key} {idempotency_key}"),
        reason=wanted.reason,
        disposition=wanted.disposition,
        assignee=wanted.assignee,
        until=wanted.until,
        promise=None if promise is None else PromisedPayment(**promise.model_dump()),
        promise_id=wanted.promise_id,
    )

    def work(connection: Connection) -> Answer:
        done = act(connection, principal, asked, desk.clock(), _rules(desk))
        _note(connection, desk, principal, done.user_id)
        return Answer(_encoded(_shown(done)), done.user_id)

    return _once(request, principal, idempotency_key, raw, work)


def _once(request: Request, principal: Principal, key: str | None, raw: bytes, work: Any) -> Response:
    desk = desk_of(request)
    with _told():
        return once(
            desk,
            principal,
            key,
            request,
            raw,
            work,
            lambda connection, user_id: _note(connection, desk, principal, user_id),
        )


@contextmanager
def _told() -> Iterator[None]:
    """What `desk.cases` refuses, as problems."""
    try:
        yield
    except CaseNotFound as error:
        raise Problem(404, "not_found", str(error)) from error
    except CaseChanged as error:
        since = [_shown(done) for done in error.since]
        raise Problem(409, "conflict", str(error), version=error.version, since=since) from error
    except ActionIdTaken as error:
        raise Problem(409, "conflict", str(error)) from error
    except DailyCapReached as error:
        raise Problem(409, "cap_reached", str(error), cap=error.cap) from error
    except IllegalAction as error:
        raise Problem(422, "illegal", str(error)) from error
    except (ForeignFilters, ForeignPlace) as error:
        raise Problem(422, "invalid", str(error)) from error


def _require(connection: Connection, principal: Principal, alert_id: str) -> QueuedCase:
    found = find_case(connection, principal, alert_id)
    if found is None:
        raise Problem(
            404, "not_found", f"there is no alert {alert_id!r}, or this token's products do not let it be seen"
        )
    return found


def _whole(connection: Connection, found: QueuedCase) -> dict[str, Any]:
    alert = connection.execute(select(*_ALERT).where(AlertState.alert_id == found.alert_id)).one()
    actions = actions_of(connection, found.alert_id)
    return {"case": found, "alert": dict(alert._mapping), "actions": [_shown(done) for done in actions]}


def _shown(done: DoneAction) -> dict[str, Any]:
    return {name: value for name, value in asdict(done).items() if name != "number"}


def _note(connection: Connection, desk: Desk, principal: Principal, user_id: str) -> None:
    note_reads(connection, principal, "case", [user_id], desk.clock())


def _rules(desk: Desk) -> CaseRules:
    return CaseRules.from_settings(desk.settings)


def _encoded(body: Any) -> bytes:
    return msgspec.json.encode(body)


def _json(body: Any) -> Response:
    return Response(_encoded(body), media_type="application/json")
