"""`/v1/users/…`: the latest score of a user, their alerts and their events. Every answer is noted in the audit."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request
from sqlalchemy import Connection, Row, Text, any_, bindparam, exists, select, table, tuple_
from sqlalchemy import column as sql_column
from sqlalchemy.dialects.postgresql import ARRAY
from starlette.responses import Response

from desk.access.audit import note_reads, noted, read_by
from desk.access.dependencies import TokenMay
from desk.access.principals import Principal
from desk.access.roles import Permission
from desk.access.scope import sees_user
from desk.api.bodies import AlertBody, AlertsPage, EventsPage, ScoreBody
from desk.api.cursors import AlertPlace, EventPlace, ForeignCursor, decode, encode
from desk.api.described import problems
from desk.context import desk_of
from desk.problems import Problem
from events.types import Kind
from stream.database.case_tables import UserEvent
from stream.database.staging import without_nul
from stream.database.tables import AlertState, StatedProduct, UserScore

router = APIRouter(prefix="/v1/users", tags=["users"])

PAGE, LONGEST_PAGE = 50, 500
LONGEST_USER_ID = 128

Seer = Annotated[Principal, TokenMay(Permission.SEE_USERS)]
UserId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=LONGEST_USER_ID,
        description="The user's id, as in the topics.",
        examples=["u0000003"],
    ),
]
Limit = Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="Most entries of the page.")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before.")]

_SCORE = [getattr(UserScore, name) for name in ScoreBody.model_fields]
_ALERT = [getattr(AlertState, name) for name in AlertBody.model_fields]

TAKEN = table("taken_events", *(sql_column(name, column.type) for name, column in UserEvent.__table__.columns.items()))
"""The view of events that workers took."""

_ETAG = {
    "ETag": {"description": "Names this score; changes with each new one.", "schema": {"type": "string"}},
    "Age": {"description": "Seconds since the score reached the database.", "schema": {"type": "integer"}},
}


@router.get(
    "/{user_id:path}/score",
    summary="The latest score of a user",
    responses={
        200: {"model": ScoreBody, "headers": _ETAG, "description": "The score."},
        304: {"description": "It is still the one that `If-None-Match` names.", "headers": _ETAG},
        **problems(404),
    },
)
def score(
    request: Request,
    principal: Seer,
    user_id: UserId,
    if_none_match: Annotated[str | None, Header(description="`ETag` of a score that you have.")] = None,
) -> Response:
    """The latest score. `Age` says how old it is: a limit service should hold its limits when scores are stale."""
    # Most requests never get here: `desk.api.score_reads` answers them.
    desk = desk_of(request)
    now = desk.clock()
    with desk.statements() as connection:
        row = _read_score(connection, principal, without_nul(user_id), now)
    if row is None:
        raise unknown("score", user_id)
    return scored(row._asdict(), now, if_none_match)


@router.get(
    "/{user_id:path}/alerts",
    summary="Alerts of a user, the latest first",
    responses={200: {"model": AlertsPage, "description": "A page of alerts."}, **problems(404)},
)
def alerts(
    request: Request,
    principal: Seer,
    user_id: UserId,
    limit: Limit = PAGE,
    cursor: Cursor = None,
    open_only: Annotated[bool, Query(alias="open", description="Only those that have not cleared.")] = False,
) -> Response:
    """Alerts as they stand, cleared ones too."""
    desk, place = desk_of(request), None if cursor is None else _place(cursor, AlertPlace)
    wanted = select(*_ALERT).where(AlertState.user_id == without_nul(user_id))
    if open_only:
        wanted = wanted.where(AlertState.cleared_at.is_(None))
    if place is not None:
        wanted = wanted.where(
            tuple_(AlertState.opened_at, AlertState.alert_id) < tuple_(place.opened_at, place.alert_id)
        )
    wanted = wanted.order_by(AlertState.opened_at.desc(), AlertState.alert_id.desc()).limit(limit + 1)
    with desk.transaction() as connection:
        _require_user(connection, principal, user_id)
        rows = connection.execute(wanted).all()
        note_reads(connection, principal, "alerts", [without_nul(user_id)], desk.clock())
    ended = AlertPlace(rows[limit - 1].opened_at, rows[limit - 1].alert_id) if len(rows) > limit else None
    return _page("alerts", [row._mapping for row in rows[:limit]], ended)


@router.get(
    "/{user_id:path}/events",
    summary="Events of a user, the latest first",
    responses={200: {"model": EventsPage, "description": "A page of events."}, **problems(404)},
)
def events(
    request: Request,
    principal: Seer,
    user_id: UserId,
    limit: Limit = PAGE,
    cursor: Cursor = None,
    kind: Annotated[list[Kind] | None, Query(description="Only events of these kinds.")] = None,
) -> Response:
    """Events as workers took them, from the months that the database keeps; what they refused is left out."""
    desk, place = desk_of(request), None if cursor is None else _place(cursor, EventPlace)
    of = TAKEN.c
    order = (of.occurred_at, of.source_topic, of.source_partition, of.source_offset)
    wanted = select(TAKEN).where(of.user_id == without_nul(user_id))
    if kind:
        wanted = wanted.where(of.kind.in_(kind))
    if place is not None:
        before = tuple_(*order) < tuple_(*msgspec.structs.astuple(place))
        wanted = wanted.where(before, of.occurred_at <= place.occurred_at)  # the second is what the index knows
    wanted = wanted.order_by(*(column.desc() for column in order)).limit(limit + 1)
    with desk.transaction() as connection:
        _require_user(connection, principal, user_id)
        rows = connection.execute(wanted).all()
        note_reads(connection, principal, "events", [without_nul(user_id)], desk.clock())
    ended = None
    if len(rows) > limit:
        last = rows[limit - 1]
        ended = EventPlace(last.occurred_at, last.source_topic, last.source_partition, last.source_offset)
    return _page("events", [_event(row) for row in rows[:limit]], ended)


# Made once: to put them together takes longer than to ask.
_SCORE_OF_ALL = noted(select(*_SCORE).where(UserScore.user_id == bindparam("wanted")), "score")
_SCORE_OF_SOME = noted(
    select(*_SCORE).where(
        UserScore.user_id == bindparam("wanted"),
        exists().where(
            StatedProduct.user_id == UserScore.user_id,
            StatedProduct.product == any_(bindparam("products", type_=ARRAY(Text))),
        ),
    ),
    "score",
)


def _read_score(connection: Connection, principal: Principal, user_id: str, now: dt.datetime) -> Row[Any] | None:
    """The latest score of a user who is seen, noted as read."""
    given = {"wanted": user_id, **read_by(principal, now)}
    if principal.products is None:
        return connection.execute(_SCORE_OF_ALL, given).one_or_none()
    return connection.execute(_SCORE_OF_SOME, given | {"products": sorted(principal.products)}).one_or_none()


def scored(row: Mapping[str, Any], now: dt.datetime, if_none_match: str | None) -> Response:
    """The answer that a row of `user_scores` makes, for who has, or has not, the score that `if_none_match` names."""
    tag = etag_of(row["score_id"], row["sequence"], row["model"])
    headers = {
        "ETag": tag,
        "Age": str(max(0, int((now - row["updated_at"]).total_seconds()))),
        "Cache-Control": "private, no-cache",
    }
    if if_none_match is not None and names(if_none_match, tag):
        return Response(None, 304, headers)
    return Response(encoded(row), 200, headers, "application/json")


def etag_of(score_id: str, sequence: int, model: str) -> str:
    """The ETag of a score, the same in every process."""
    return f'"{sequence}-{hashlib.sha256(f"{score_id} {sequence} {model}".encode()).hexdigest()[:16]}"'


def names(if_none_match: str, tag: str) -> bool:
    """Whether an `If-None-Match` names a tag, by weak comparison (RFC 9110)."""
    offered = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return "*" in offered or tag in offered


def encoded(row: Any) -> bytes:
    """A row as JSON; times are UTC, `Z`."""
    return msgspec.json.encode(dict(row))


def _event(row: Row[Any]) -> dict[str, Any]:
    said = {name: value for name, value in row._mapping.items() if name not in ("payload", "user_id")}
    return {**said, "event": row.payload}


def _page(name: str, entries: Sequence[Any], ended: AlertPlace | EventPlace | None) -> Response:
    body = {name: [dict(entry) for entry in entries], "next_cursor": None if ended is None else encode(ended)}
    return Response(msgspec.json.encode(body), media_type="application/json")


def _place(cursor: str, kind: type[Any]) -> Any:
    try:
        return decode(cursor, kind)
    except ForeignCursor as error:
        raise Problem(422, "invalid", f"query.cursor: {error}") from None


def _require_user(connection: Connection, principal: Principal, user_id: str) -> None:
    """Raises `Problem` for a user who is not there or not seen, in the same words."""
    known = select(UserScore.user_id).where(
        UserScore.user_id == without_nul(user_id), sees_user(principal, UserScore.user_id)
    )
    if connection.execute(known).one_or_none() is None:
        raise unknown("user", user_id)


def unknown(what: str, user_id: str) -> Problem:
    """There is no user, or score, of this id, or it may not be seen: in the same words."""
    named = f"score of user {user_id!r}" if what == "score" else f"user {user_id!r}"
    return Problem(404, "not_found", f"there is no {named}, or this token's products do not let it be seen")
