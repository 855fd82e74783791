"""What would bring a score down: the model on changed histories, from the events that are kept in PostgreSQL.

`model.explanation.explain` computes it. Slow beside a page, so it comes after the page, on a route of its own.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from sqlalchemy import Connection, RowMapping, select

from desk.access.audit import note_reads
from desk.access.dependencies import SessionMay
from desk.access.roles import Permission
from desk.access.sessions import Session
from desk.cases.queue import find_case
from desk.context import Desk, desk_of
from desk.pages.language import Language
from desk.pages.reading import SaidEvent, figures_of, kept_events_of, sort_of
from desk.pages.rendering import language_of, page
from events.calendar import Calendar
from events.types import Event
from model.bundle import Bundle
from model.bundle_folder import BundleError
from model.explanation.explain import Explanation, explain
from stream.database.kept_events import event_of
from stream.database.tables import UserScore

router = APIRouter(include_in_schema=False)

MOST_KEPT = 4_000
"""Events of a user that are looked at; one with more has an explanation from the topics, by a command."""

MOST_CAUSES = 6
LEAST_FALL = 0.0005
"""A cause whose absence changes the score by less is not named."""

SAME_SCORE = 1e-4
"""The kept events are the whole history where they give the published score but for so much."""

Seer = Annotated[Session, SessionMay(Permission.SEE_USERS)]


@dataclass(frozen=True)
class Cause:
    """The score without a cause of the catalogue."""

    code: str
    score: float


def _bundle(desk: Desk) -> Bundle | None:
    """The bundle of the settings; None where there is none to load."""
    try:
        return desk.model.bundle
    except BundleError:
        return None


WAITING = 3
_TURN = threading.Lock()
_ROOM = threading.BoundedSemaphore(1 + WAITING)
"""An explanation takes all of a processor for a while: one at a time. Few wait for it, since each that waits takes a
thread that pages of others need; more are told to come again."""


@router.get("/cases/{alert_id}/lower")
def lower(request: Request, session: Seer, alert_id: str) -> Response:
    """The causes and the events without which the user's latest score would be lower."""
    desk = desk_of(request)
    say = language_of(request, session)
    with desk.transaction() as connection:
        case = find_case(connection, session.principal, alert_id)
        if case is None:
            raise HTTPException(404)
        note_reads(connection, session.principal, "events", [case.user_id], desk.clock())
        score = _latest(connection, case.user_id)
        rows = kept_events_of(connection, case.user_id, MOST_KEPT)
    bundle = _bundle(desk)
    events = [event for row in reversed(rows) if (event := event_of(row)) is not None]
    why_not = _why_not(bundle, score, events)
    if why_not or bundle is None or score is None:
        return page(request, session, "lower", section="queue", alert_id=alert_id, why_not=why_not)
    if not _ROOM.acquire(blocking=False):
        return page(request, session, "lower", section="queue", alert_id=alert_id, why_not="busy")
    try:
        with _TURN:
            found = explain(bundle, events, calendar=Calendar(desk.settings.lender_time_zone))
    finally:
        _ROOM.release()
    return _answer(request, session, alert_id, found, score, say)


def _latest(connection: Connection, user_id: str) -> RowMapping | None:
    query = select(UserScore.score, UserScore.model).where(UserScore.user_id == user_id)
    return connection.execute(query).mappings().one_or_none()


def _why_not(bundle: Bundle | None, score: RowMapping | None, events: list[Event]) -> str:
    """The word that says why nothing can be worked out; empty where it can."""
    if bundle is None:
        return "no_bundle"
    if score is None or score["model"] != bundle.fingerprint_hex:
        return "another_model"
    return "" if events else "no_events"


def _answer(
    request: Request, session: Session, alert_id: str, found: Explanation, score: RowMapping, say: Language
) -> Response:
    causes = [Cause(one.code, one.score) for one in found.causes if found.score - one.score > LEAST_FALL][:MOST_CAUSES]
    counterfactual = found.counterfactual
    positions = () if counterfactual is None else counterfactual.positions
    left_out = [found.events[position] for position in positions]
    return page(
        request, session, "lower", section="queue", alert_id=alert_id, why_not="", score=found.score, causes=causes,
        longest=max([found.score - one.score for one in causes] + [0.001]),
        left_out=[SaidEvent(one.occurred_at, sort_of(one, say), figures_of(one, say), None) for one in left_out],
        suffices=counterfactual is not None and counterfactual.suffices,
        without=found.score if counterfactual is None else counterfactual.score,
        is_low=counterfactual is None, whole=abs(found.score - score["score"]) <= SAME_SCORE,
        published=score["score"],
    )  # fmt: skip
