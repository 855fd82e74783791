"""The operator's page: how the machinery stands, what is decided about models, and how hand-overs go.

Hands nothing over itself: that is a command, with rights of its own on the brokers; the page names it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import Response

from desk.access.dependencies import SessionMay
from desk.access.roles import Permission
from desk.access.sessions import Session
from desk.context import desk_of
from desk.pages import hand_over, machinery, models
from desk.pages.hand_over import HandOvers
from desk.pages.models import MOST_FORM_REASON, NOTHING, STEPS, NotDecided, Typed
from desk.pages.rendering import Notice, back_to, language_of, page

router = APIRouter(include_in_schema=False)

Operator = Annotated[Session, SessionMay(Permission.OPERATE)]


@router.get("/operations")
def operations(request: Request, session: Operator) -> Response:
    """How the machinery stands."""
    return show(request, session)


def show(
    request: Request, session: Session, *, typed: Typed = NOTHING, status: int = 200, notice: Notice | None = None
) -> Response:
    """The page; `typed` stands in the form of its model."""
    desk = desk_of(request)
    say = language_of(request, session)
    with desk.transaction() as connection:
        tables = machinery.tables_of(connection, say, desk.clock())
    decidable = models.decidable(desk, session.account.name, say)
    return page(
        request, session, "operations", section="operations", tables=tables, decidable=decidable, typed=typed,
        status=status, notice=notice,
    )  # fmt: skip


@router.post("/operations/models/{fingerprint}")
def decide(
    request: Request,
    session: Operator,
    fingerprint: str,
    step: Annotated[str, Form(max_length=20)] = "",
    reason: Annotated[str, Form(max_length=MOST_FORM_REASON)] = "",
    standing: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """Decide about a model as it was shown; if somebody has decided meanwhile, nothing is done."""
    desk = desk_of(request)
    say = language_of(request, session)
    wanted = next((one for one in STEPS if one == step), None)
    if wanted is None:
        raise HTTPException(422, f"{step!r} is nothing that is decided about a model; expected {', '.join(STEPS)}")
    try:
        decided = models.decide(desk, session.account.name, fingerprint, wanted, reason, standing, say)
    except NotDecided as refused:
        typed = Typed(fingerprint, reason)
        return show(request, session, typed=typed, status=refused.status, notice=Notice("wrong", str(refused)))
    what = say.t("operations.decided", model=decided.fingerprint, standing=say.t(f"model.{decided.standing}"))
    return back_to(request, "/operations", Notice("done", what))


@router.get("/operations/hand-over")
def hand_overs(request: Request, session: Operator) -> Response:
    """How hand-overs stand, by partition, as the brokers tell now."""
    desk = desk_of(request)
    say = language_of(request, session)
    kept: HandOvers = request.app.state.hand_overs
    seen = kept.of(desk)
    return page(request, session, "hand_over", section="operations", found=hand_over.in_words(seen, say))
