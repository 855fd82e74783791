"""Evidence of how early warnings were handled: of each alert the indicator, the trigger, the owner, the actions.

On a page, as CSV and as PDF. Who asks sees the products of their account alone; that they looked is noted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from sqlalchemy import RowMapping, Select, func, select, tuple_

from desk.access.audit import note_reads
from desk.access.dependencies import SessionMay
from desk.access.principals import Principal
from desk.access.roles import Permission
from desk.access.sessions import Session
from desk.cases.actions import DoneAction, actions_of_many
from desk.cases.queue import in_scope
from desk.context import Desk, desk_of
from desk.pages.evidence_file import EvidenceFile
from desk.pages.histories import Done, done_in_words, who
from desk.pages.language import Language
from desk.pages.rendering import Notice, back_to, choices, language_of, local_day, page, shown
from desk.pages.sheets import sheet
from stream.database.case_tables import Case
from stream.database.tables import AlertState

router = APIRouter(include_in_schema=False)

FIRST_DAYS = 30
ON_PAGE, AT_ONCE, MOST_IN_PDF = 50, 500, 2_000
LEVELS = ("MEDIUM", "HIGH")

Exporter = Annotated[Session, SessionMay(Permission.EXPORT)]
Day = Annotated[str, Query(max_length=10)]


@dataclass(frozen=True)
class Period:
    """Days of the lender from `first` to `last`, both whole, and the level that alerts reached, None for any."""

    first: dt.date
    last: dt.date
    level: str | None
    understood: bool = True

    def bounds(self, say: Language) -> tuple[dt.datetime, dt.datetime]:
        """The moments at which the period begins and is over."""
        midnight = dt.time(tzinfo=say.zone)
        return dt.datetime.combine(self.first, midnight), dt.datetime.combine(self.last + dt.timedelta(1), midnight)


@dataclass(frozen=True)
class Row:
    """One alert as evidence."""

    alert_id: str
    user_id: str
    highest_level: str
    indicator: str
    trigger: str
    opened_at: dt.datetime
    owner: str | None
    actions: list[Done]
    outcome: str | None


def period_of(first: str, last: str, level: str, today: dt.date) -> Period:
    """The period that a form names; the last days where it names none, or none that can be."""
    chosen = level if level in LEVELS else None
    usual = Period(today - dt.timedelta(FIRST_DAYS - 1), today, chosen, understood=chosen is not None or not level)
    if not first and not last:
        return usual
    try:
        begin, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    except ValueError:
        return Period(usual.first, usual.last, chosen, understood=False)
    if begin > end or begin.year < 1970 or end.year > 9_000:
        return Period(usual.first, usual.last, chosen, understood=False)
    return Period(begin, end, chosen, usual.understood)


def wanted(principal: Principal, period: Period, say: Language) -> Select[*tuple[Any, ...]]:
    """Cases of the period that somebody sees, in the order of their alerts' opening."""
    begin, end = period.bounds(say)
    query = (
        select(
            Case.alert_id, Case.user_id, Case.highest_level, Case.opened_at, Case.assignee, Case.status,
            Case.closed_as, Case.closed_at, Case.product, AlertState.reasons, AlertState.triggers, AlertState.model,
            AlertState.policy,
        )
        .join(AlertState, AlertState.alert_id == Case.alert_id)
        .where(Case.opened_at >= begin, Case.opened_at < end, in_scope(principal))
        .order_by(Case.opened_at, Case.alert_id)
    )  # fmt: skip
    return query if period.level is None else query.where(Case.highest_level == period.level)


def in_words(row: RowMapping, actions: Sequence[DoneAction], say: Language) -> Row:
    """A case and its actions as evidence in words."""
    reasons = [say.reason(one["code"], one["text"]) for one in row["reasons"]]
    steps = [Done(done_in_words(one.action, one.details, say), one.actor, one.at, one.reason) for one in actions]
    return Row(
        alert_id=row["alert_id"],
        user_id=row["user_id"],
        highest_level=row["highest_level"],
        indicator="; ".join(reasons),
        trigger=" ".join(say.t(f"trigger.{one}") for one in row["triggers"]),
        opened_at=row["opened_at"],
        owner=row["assignee"],
        actions=steps,
        outcome=say.t(f"outcome.{row['closed_as']}") if row["closed_as"] else say.t(f"status.{row['status']}"),
    )


def batches(
    desk: Desk, principal: Principal, period: Period, say: Language, most: int | None = None
) -> Iterator[tuple[RowMapping, list[DoneAction]]]:
    """Cases with their actions, read and noted as seen a few at a time, so that no transaction lasts long."""
    query = wanted(principal, period, say)
    after: tuple[Any, str] | None = None
    left = most
    while left is None or left > 0:
        size = AT_ONCE if left is None else min(AT_ONCE, left)
        with desk.transaction() as connection:
            page = query if after is None else query.where(tuple_(Case.opened_at, Case.alert_id) > tuple_(*after))
            rows = connection.execute(page.limit(size)).mappings().all()
            done = actions_of_many(connection, [row["alert_id"] for row in rows])
            note_reads(connection, principal, "evidence", [row["user_id"] for row in rows], desk.clock())
        for row in rows:
            yield row, done.get(row["alert_id"], [])
        if len(rows) < size:
            return
        after = rows[-1]["opened_at"], rows[-1]["alert_id"]
        left = None if left is None else left - len(rows)


@dataclass(frozen=True)
class Asked:
    """What somebody asks evidence for, and how they read it."""

    desk: Desk
    session: Session
    say: Language
    period: Period

    def cases(self, most: int | None = None) -> Iterator[tuple[RowMapping, list[DoneAction]]]:
        """Cases of the period with their actions, as far as who asks sees them."""
        return batches(self.desk, self.session.principal, self.period, self.say, most)

    def are_more_than(self, most: int) -> bool:
        """Whether there are more of them, of which nobody sees anything by that."""
        query = wanted(self.session.principal, self.period, self.say)
        some = query.with_only_columns(Case.alert_id).order_by(None).limit(most + 1).subquery()
        with self.desk.transaction() as connection:
            return connection.execute(select(func.count()).select_from(some)).scalar_one() > most

    def heads(self) -> list[str]:
        """Heads of a table for people."""
        names = ("borrower", "indicator", "trigger", "owner", "actions", "outcome")
        return [self.say.t(f"evidence.{name}") for name in names]


def _asked(
    request: Request,
    session: Exporter,
    first: Annotated[str, Query(alias="from", max_length=10)] = "",
    last: Annotated[str, Query(alias="to", max_length=10)] = "",
    level: Annotated[str, Query(max_length=10)] = "",
) -> Asked:
    desk = desk_of(request)
    say = language_of(request, session)
    return Asked(desk, session, say, period_of(first, last, level, local_day(desk.clock(), say)))


Wanted = Annotated[Asked, Depends(_asked)]


@router.get("/evidence")
def evidence(request: Request, asked: Wanted) -> Response:
    """The first alerts of the period."""
    say, period = asked.say, asked.period
    found = list(asked.cases(ON_PAGE))
    return page(
        request, asked.session, "evidence", section="evidence",
        notice=None if period.understood else Notice("care", say.t("evidence.wrong_range")),
        rows=[in_words(row, actions, say) for row, actions in found],
        more=asked.are_more_than(ON_PAGE), heads=asked.heads(),
        from_day=period.first.isoformat(), to_day=period.last.isoformat(), level=period.level,
        levels=choices(say, "level", LEVELS), who=who(say), query=_query(period),
    )  # fmt: skip


CSV_HEADS = (
    "alert_id", "user_id", "product", "highest_level", "opened_at", "indicators", "indicator_codes", "triggers",
    "owner", "status", "closed_as", "closed_at", "model", "policy", "action", "actor", "at", "reason",
)  # fmt: skip


@router.get("/evidence.csv")
def evidence_csv(request: Request, asked: Wanted) -> Response:
    """All alerts of the period, a line for each action; of one that was not understood the page, which says so."""
    if not asked.period.understood:
        return back_to(request, f"/evidence?{request.url.query}")
    period = asked.period

    def rows() -> Iterator[list[object]]:
        for row, actions in asked.cases():
            head: list[object] = [
                row["alert_id"], row["user_id"], row["product"], row["highest_level"], row["opened_at"],
                "; ".join(one["text"] for one in row["reasons"]), " ".join(one["code"] for one in row["reasons"]),
                " ".join(row["triggers"]), row["assignee"], row["status"], row["closed_as"], row["closed_at"],
                row["model"], row["policy"],
            ]  # fmt: skip
            done = [[one.action, one.actor, one.at, one.reason] for one in actions]
            for each in done or [[None] * 4]:
                yield head + each

    return sheet(f"evidence-{period.first}-{period.last}", CSV_HEADS, rows())


@router.get("/evidence.pdf")
def evidence_pdf(request: Request, asked: Wanted) -> Response:
    """All alerts of the period as a document, if a document holds them and it was understood."""
    if not asked.period.understood:
        return back_to(request, f"/evidence?{request.url.query}")
    say, period = asked.say, asked.period
    if asked.are_more_than(MOST_IN_PDF):
        notice = Notice("wrong", say.t("evidence.too_many", most=MOST_IN_PDF))
        return back_to(request, f"/evidence?{_query(period)}", notice)
    made = EvidenceFile(
        title=say.t("evidence.pdf_title"),
        what=say.t(
            "evidence.pdf_range", begin=say.day(period.first), end=say.day(period.last), zone=say.zone.key,
            at=say.minute(asked.desk.clock()), who=shown(asked.session.account.display_name),
        ),
        heads=asked.heads(),
        rows=[_lines(in_words(row, actions, say), say) for row, actions in asked.cases(MOST_IN_PDF)],
        page=lambda number: say.t("evidence.page", number=number),
        empty=say.t("evidence.empty"),
    )  # fmt: skip
    headers = {"Content-Disposition": f'attachment; filename="evidence-{period.first}-{period.last}.pdf"'}
    return Response(made.render(), media_type="application/pdf", headers=headers)


def _lines(row: Row, say: Language) -> list[list[str]]:
    """The cells of a row of the document, each as lines."""
    named = who(say)
    steps = [
        f"{step.said}, {named(step.actor)}, {say.minute(step.at)}{f': {step.reason}' if step.reason else ''}"
        for step in row.actions
    ]
    return [
        [row.user_id, say.t(f"level.{row.highest_level}")],
        row.indicator.split("; "),
        [row.trigger, say.minute(row.opened_at)],
        [row.owner or "–"],
        steps or ["–"],
        [row.outcome or "–"],
    ]


def _query(period: Period) -> str:
    values = {"from": period.first.isoformat(), "to": period.last.isoformat()}
    return urlencode(values | ({"level": period.level} if period.level else {}))
