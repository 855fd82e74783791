"""The page of the queue: filters, saved views, pages, the next case, cases given to somebody, and the list as CSV."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import Response
from sqlalchemy import Connection, select

from desk.access.audit import note_reads
from desk.access.cookies import own_path
from desk.access.dependencies import SessionMay
from desk.access.principals import Principal
from desk.access.roles import Permission
from desk.access.sessions import Session
from desk.cases import queue as queues
from desk.cases.actions import MOST_AT_ONCE, Asked, DoneAction, act_on_many
from desk.cases.assignment import DailyCapReached, given_since, take_next
from desk.cases.queue import ForeignFilters, ForeignPlace, Place, QueueFilters
from desk.cases.rules import CaseRules
from desk.context import Desk, desk_of
from desk.pages import filters as forms
from desk.pages.case import QUEUE_COOKIE, collectors
from desk.pages.language import Language
from desk.pages.rendering import Notice, back_to, choices, language_of, page, shown
from desk.pages.sheets import sheet
from events.reasons import CATALOGUE
from stream.case_records import CASE_STATUSES
from stream.database.case_tables import Case
from stream.outputs import LEVELS

router = APIRouter(include_in_schema=False)

LONGEST_NAME = 60
PRODUCTS_KEPT_S = 300.0

Seer = Annotated[Session, SessionMay(Permission.SEE_USERS)]
Worker = Annotated[Session, SessionMay(Permission.WORK_CASES)]
Lead = Annotated[Session, SessionMay(Permission.LEAD_CASES)]
Exporter = Annotated[Session, SessionMay(Permission.EXPORT)]
Back = Annotated[str, Form(max_length=2_000)]


@dataclass(frozen=True)
class View:
    """Filters under a name, as a link."""

    name: str
    query: str
    chosen: bool


READY: dict[str, forms.Asked] = {
    "mine": forms.Asked(assignee=forms.ME),
    "unassigned": forms.Asked(assignee=forms.NOBODY),
    "high": forms.Asked(level="HIGH"),
    "promised": forms.Asked(status="promised"),
    "snoozed": forms.Asked(status="snoozed"),
    "review": forms.Asked(review=True),
}
"""Views that everybody has."""


@router.get("/queue")
def queue(request: Request, session: Seer) -> Response:
    """A page of the cases to be worked, most to prevent first."""
    desk = desk_of(request)
    say = language_of(request, session)
    asked = forms.asked(request.query_params)
    wrong = list(asked.wrong)
    principal, now = session.principal, desk.clock()
    rules = CaseRules.from_settings(desk.settings)
    with desk.transaction() as connection:
        place = _place(request.query_params.get("after"), wrong)
        try:
            found = queues.queue_page(connection, principal, asked.filters(principal.name), now, place=place)
        except (ForeignPlace, ForeignFilters):
            wrong.append("after")
            place = None
            found = queues.queue_page(connection, principal, asked.filters(principal.name), now)
        note_reads(connection, principal, "queue", [one.user_id for one in found.cases], now)
        values = _choices(connection, desk, session, say)
        values |= {
            "saved_views": _views(connection, principal, asked),
            "cap": _cap(connection, session, desk, rules),
        }
    query = f"?{asked.query}" if asked.query else ""
    notice = Notice("care", say.t("queue.wrong_filter", what=", ".join(wrong))) if wrong else None
    next_page = None if found.end is None else f"/queue?{_joined(asked.query, f'after={found.end.encode()}')}"
    answer = page(
        request, session, "queue", section="queue", notice=notice, rows=found.cases, query=query, filters=asked,
        ready_views=[View(name, one.query, one.query == asked.query) for name, one in READY.items()],
        next_page=next_page, first_page=f"/queue{query}" if place else None,
        unknown_exposure=any(one.priority is None for one in found.cases), short=lambda code: short_reason(code, say),
        may={
            "next": principal.may(Permission.WORK_CASES), "assign": principal.may(Permission.LEAD_CASES),
            "export": principal.may(Permission.EXPORT),
        },
        **values,
    )  # fmt: skip
    answer.set_cookie(QUEUE_COOKIE, f"/queue{query}", path="/", httponly=True, samesite="lax", secure=desk.secure)
    return answer


def short_reason(code: str, say: Language) -> str:
    """A reason in a word or two; a code of another release as it is."""
    return say.t(f"short.{code}") if code in CATALOGUE else shown(code)


def _joined(*parts: str) -> str:
    return "&".join(part for part in parts if part)


def _place(text: str | None, wrong: list[str]) -> Place | None:
    """Where the page begins; what is no place is named in `wrong`."""
    if not text:
        return None
    try:
        return Place.decode(text)
    except ForeignPlace:
        wrong.append("after")
        return None


class _Products:
    """The products of open cases, asked of the database now and then: a list to choose from may be a little old."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, list[str]]] = {}

    def of(self, connection: Connection, desk: Desk) -> list[str]:
        at, key = desk.clock().timestamp(), desk.database.address
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or not 0 <= at - kept[0] < PRODUCTS_KEPT_S:
                found = connection.execute(select(Case.product).where(Case.closed_at.is_(None)).distinct()).scalars()
                kept = at, sorted(product for product in found if product is not None)
                self._kept[key] = kept
            return kept[1]


_PRODUCTS = _Products()


def _choices(connection: Connection, desk: Desk, session: Session, say: Language) -> dict[str, Any]:
    """The lists of the filters and of the form that gives cases to somebody."""
    scope = session.principal.products
    products = sorted(scope) if scope is not None else _PRODUCTS.of(connection, desk)
    people = [(name, words) for name, words in collectors(connection, None) if name != session.account.name]
    own = [(forms.ME, say.t("queue.me")), (forms.NOBODY, say.t("queue.nobody"))]
    to = [(session.account.name, say.t("queue.me")), *people]
    return {
        "levels": choices(say, "level", [level for level in LEVELS if level != "LOW"]),
        "statuses": choices(say, "status", CASE_STATUSES),
        "products": [(product, shown(product)) for product in products],
        "assignees": [*own, *people],
        "reasons": choices(say, "short", tuple(CATALOGUE)),
        "collectors": to,
    }


def _views(connection: Connection, principal: Principal, asked: forms.Asked) -> list[View]:
    kept = queues.saved_views(connection, principal.name)
    return [
        View(name, one.query, one.query == asked.query)
        for name, filters in kept.items()
        for one in [forms.asked_of(filters, principal.name)]
    ]


def _cap(connection: Connection, session: Session, desk: Desk, rules: CaseRules) -> dict[str, int] | None:
    """How many cases were taken today, of how many."""
    if not session.principal.may(Permission.WORK_CASES):
        return None
    cap = rules.daily_cap if session.account.daily_cap is None else session.account.daily_cap
    if cap is None:
        return None
    name = session.principal.actor
    taken = given_since(connection, [name], rules.start_of_today(desk.clock())).get(name, 0)
    return {"taken": taken, "cap": cap}


def _asked_back(back: str) -> forms.Asked:
    """The filters of the page that a form came from."""
    return forms.asked(dict(parse_qsl(urlsplit(own_path(back)).query)))


@router.post("/queue/next")
def next_case(request: Request, session: Worker, back: Back = "/queue") -> Response:
    """Take the next case and open it; by the filters of the queue where it was asked for there."""
    desk = desk_of(request)
    say = language_of(request, session)
    seen = back if back.startswith("/queue") else request.cookies.get(QUEUE_COOKIE, "")
    try:
        with desk.transaction() as connection:
            taken = take_next(
                connection, session.principal, desk.clock(), CaseRules.from_settings(desk.settings),
                filters=_asked_back(seen).filters(session.principal.name),
            )  # fmt: skip
    except DailyCapReached as reached:
        return back_to(request, own_path(back, "/queue"), Notice("care", say.t("queue.cap_reached", cap=reached.cap)))
    if taken is None:
        return back_to(request, own_path(back, "/queue"), Notice("care", say.t("queue.nothing_next")))
    return back_to(request, f"/cases/{taken.alert_id}")


@router.post("/queue/assign")
def assign(
    request: Request,
    session: Lead,
    pick: Annotated[list[str] | None, Form(max_length=MOST_AT_ONCE)] = None,
    to: Annotated[str, Form(max_length=200)] = "",
    back: Back = "/queue",
) -> Response:
    """Give the picked cases to somebody, or to nobody; those that somebody has changed stay as they are."""
    desk = desk_of(request)
    say = language_of(request, session)
    where = own_path(back, "/queue")
    picked = [one for each in pick or [] if (one := _picked(each, to)) is not None]
    asked = list({one.alert_id: one for one in picked}.values())
    if not asked:
        return back_to(request, where, Notice("care", say.t("queue.none_picked")))
    with desk.transaction() as connection:
        outcome = act_on_many(
            connection, session.principal, asked, desk.clock(), CaseRules.from_settings(desk.settings)
        )
        # Of those that this lead sees: what a form names may be anybody's.
        seen = Case.alert_id.in_(list(outcome)), queues.in_scope(session.principal)
        known = connection.execute(select(Case.alert_id, Case.user_id).where(*seen))
        names: dict[str, str] = {row.alert_id: row.user_id for row in known}
    left = [alert_id for alert_id, done in outcome.items() if not isinstance(done, DoneAction)]
    said = [say.t("queue.assigned", count=len(outcome) - len(left))] if len(left) < len(outcome) else []
    if left:
        said.append(say.t("queue.not_assigned", count=len(left)))
    notice = Notice("care" if left else "done", " ".join(said), tuple(shown(names.get(one, one)) for one in left))
    return back_to(request, where, notice)


def _picked(text: str, to: str) -> Asked | None:
    """A row that was picked: the case and the version that was shown."""
    alert_id, _, version = text.rpartition(" ")
    if not alert_id or not (version.isascii() and version.isdigit() and len(version) < 10):
        return None
    return Asked(alert_id, "assign" if to else "unassign", int(version), assignee=to or None)


@router.post("/queue/views")
def save_view(
    request: Request,
    session: Seer,
    name: Annotated[str, Form(max_length=LONGEST_NAME)] = "",
    query: Annotated[str, Form(max_length=2_000)] = "",
) -> Response:
    """Keep the filters under a name."""
    desk = desk_of(request)
    say = language_of(request, session)
    name = " ".join(name.split())
    if not name or "\x00" in name:
        raise HTTPException(422, "a view needs a name")
    asked = forms.asked(dict(parse_qsl(query.removeprefix("?"))))
    with desk.transaction() as connection:
        queues.save_view(connection, session.principal.name, name, asked.filters(session.principal.name))
    return back_to(request, f"/queue?{asked.query}", Notice("done", say.t("queue.view_saved", name=shown(name))))


@router.post("/queue/views/delete")
def forget_view(request: Request, session: Seer, name: Annotated[str, Form(max_length=LONGEST_NAME)] = "") -> Response:
    """Keep a view no longer."""
    desk = desk_of(request)
    say = language_of(request, session)
    with desk.transaction() as connection:
        queues.forget_view(connection, session.principal.name, name)
    return back_to(request, "/queue", Notice("done", say.t("queue.view_forgotten", name=shown(name))))


CSV_COLUMNS = (
    "alert_id", "user_id", "level", "highest_level", "status", "product", "score", "expected_loss", "lead_days",
    "priority", "assignee", "opened_at", "first_touched_at", "contacted_at", "snoozed_until", "closed_at", "closed_as",
    "reason",
)  # fmt: skip
CSV_HEADS = (*CSV_COLUMNS, "reason_codes")


@router.get("/queue.csv")
def queue_csv(request: Request, session: Exporter) -> Response:
    """All cases that the filters let through, in the order of the queue."""
    asked = forms.asked(request.query_params)
    if asked.wrong:
        # A file would not say that it is of more cases than were asked for: the page does.
        return back_to(request, f"/queue?{request.url.query}")
    filters = asked.filters(session.principal.name)
    return sheet("queue", CSV_HEADS, _rows(desk_of(request), session.principal, filters))


def _rows(desk: Desk, principal: Principal, filters: QueueFilters) -> Iterator[list[object]]:
    """The rows page by page, noted as seen, each page in a transaction of its own."""
    place: Place | None = None
    while True:
        with desk.transaction() as connection:
            found = queues.queue_page(
                connection, principal, filters, desk.clock(), place=place, size=queues.LONGEST_PAGE
            )
            note_reads(connection, principal, "export", [one.user_id for one in found.cases], desk.clock())
        for one in found.cases:
            yield [*(getattr(one, name) for name in CSV_COLUMNS), " ".join(one.reason_codes)]
        if found.end is None:
            return
        place = found.end
