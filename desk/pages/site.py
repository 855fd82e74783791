"""All pages of the desk as one: its routes, and the page of an error. Decides nothing itself."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import Response
from sqlalchemy.exc import SQLAlchemyError

from desk.access.dependencies import session_of
from desk.access.sessions import Session
from desk.pages import case, evidence, live, lower, operations, portfolio, queue, replays, sign_in
from desk.pages.hand_over import HandOvers
from desk.pages.live import Board, Listener
from desk.pages.rendering import language_of, page
from stream.database.errors import DatabaseError

ROUTERS = (sign_in.router, queue.router, lower.router, case.router, portfolio.router, replays.router,
           evidence.router, operations.router, live.router)  # fmt: skip

_WORDS = {403: "forbidden", 404: "not_found", 429: "too_many", 503: "unavailable"}


def install(app: FastAPI) -> None:
    """Add the pages to an application whose `state.desk` is there. Connects to nothing."""
    for router in ROUTERS:
        app.include_router(router)
    app.state.board = Board()
    app.state.hand_overs = HandOvers()
    app.state.listener = Listener(app.state.desk, app.state.board)


def error_page(request: Request, status: int, detail: str) -> Response:
    """The page of an error, in words where there are some, else with the detail."""
    session = _session(request)
    say = language_of(request, session)
    word = _WORDS.get(status)
    heading = say.t(f"problem.{word}" if word else "problem.wrong")
    what = say.t(f"problem.{word}_what") if word else detail
    return page(request, session, "problem", status=status, heading=heading, what=what)


def _session(request: Request) -> Session | None:
    """Whose error it is; nobody's while the database is away."""
    try:
        return session_of(request)
    except (SQLAlchemyError, DatabaseError):
        return None
