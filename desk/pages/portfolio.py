"""The page of the portfolio: how the cases stand as a whole, and what is slow to compute on routes of its own."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from desk.access.dependencies import SessionMay
from desk.access.roles import Permission
from desk.access.sessions import Session
from desk.api.portfolio import Forecasts
from desk.cases.portfolio import AGES_DAYS, Figures, figures, latest_opening
from desk.context import Desk, desk_of
from desk.pages.language import UNKNOWN, Language
from desk.pages.pictures import alerts_per_day
from desk.pages.rendering import language_of, page
from desk.pages.replays import tile_of
from desk.pages.tiles import Figure, Link, Tile
from desk.problems import Problem
from model.bundle_folder import BundleError
from reports.drift import DriftError, DriftReport, Period, drift_of_database
from stream.database.errors import DatabaseError, DatabaseUnavailable

router = APIRouter(include_in_schema=False)

PERIODS_DAYS = (7, 30, 90)
FIRST_DAY = dt.date(1970, 1, 1)
"""No period ends before it."""

DRIFT_KEPT = dt.timedelta(minutes=15)

Seer = Annotated[Session, SessionMay(Permission.SEE_PORTFOLIO)]


@router.get("/portfolio")
def portfolio(
    request: Request,
    session: Seer,
    days: Annotated[int, Query()] = 30,
    until: Annotated[dt.date | None, Query(ge=FIRST_DAY)] = None,
) -> Response:
    """The figures of the last days, or of as many up to an earlier day."""
    desk = desk_of(request)
    say = language_of(request, session)
    period = days if days in PERIODS_DAYS else 30
    now = desk.clock()
    today = now.astimezone(say.zone).date()
    last = min(until or today, today)
    since = dt.datetime.combine(last - dt.timedelta(days=period - 1), dt.time(), say.zone)
    # To the end of that day, in which no alert of the next one has opened.
    ended = dt.datetime.combine(last + dt.timedelta(days=1), dt.time(), say.zone) - dt.timedelta(microseconds=1)
    with desk.transaction() as connection:
        found = figures(
            connection, session.principal, since, now, zone=say.zone.key, serious_days=desk.settings.serious_days,
            until=min(ended, now),
        )  # fmt: skip
        latest = None if found.opened else latest_opening(connection, session.principal, now)
        replays = tile_of(connection, say) if session.principal.products is None else None
    tiles = [_per_day(found, say, period, latest), _funnel(found, say), _ageing(found, say)]
    tiles.append(Tile(say.t("portfolio.forecast"), later="/portfolio/forecast"))
    if session.principal.products is None:
        tiles.append(Tile(say.t("portfolio.drift"), later="/portfolio/drift"))
    tiles += [] if replays is None else [replays]
    return page(
        request, session, "portfolio", section="portfolio", figures=_figures(found, say), tiles=tiles,
        periods=PERIODS_DAYS, period=period, since=since, until=last if last < today else None,
    )  # fmt: skip


def _figures(found: Figures, say: Language) -> list[Figure]:
    share = found.confirmed / found.judged if found.judged else None
    return [
        Figure(say.t("portfolio.open"), say.whole(found.open), say.t("portfolio.open_high", count=found.open_high)),
        Figure(
            say.t("portfolio.loss"),
            say.money(found.expected_loss),
            say.t("portfolio.loss_note", count=found.without_amount),
        ),
        Figure(
            say.t("portfolio.touch"),
            say.span(found.usual_wait),
            say.t("portfolio.touch_note", span=say.span(found.long_wait)) if found.long_wait else "",
        ),
        Figure(
            say.t("portfolio.precision"),
            say.percent(share, 0),
            say.t("portfolio.precision_note", right=found.confirmed, all=found.judged)
            if found.judged
            else say.t("portfolio.precision_none"),
        ),
        Figure(
            say.t("portfolio.lead"),
            say.span(found.lead),
            say.t("portfolio.lead_note", count=found.defaults) if found.defaults else say.t("portfolio.lead_none"),
        ),
    ]


def _per_day(found: Figures, say: Language, period: int, latest: dt.datetime | None) -> Tile:
    """`latest`: when the last alert opened, where none has in the time that is shown."""
    title = say.t("portfolio.per_day")
    if not found.opened:
        link = None
        if latest is not None:
            day = latest.astimezone(say.zone).date()
            words = say.t("portfolio.earlier", count=period, day=say.day(day))
            link = Link(f"/portfolio?days={period}&until={day}", words)
        return Tile(title, note=say.t("portfolio.no_cases"), link=link)
    return Tile(title, chart=alerts_per_day(found.days, found.per_day, say))


def _funnel(found: Figures, say: Language) -> Tile:
    stages = ("opened", "touched", "contacted", "promised", "cured")
    rows = []
    for stage in stages:
        count = int(getattr(found, stage))
        share = say.percent(count / found.opened, 0) if found.opened else UNKNOWN
        rows.append((say.t(f"portfolio.{stage}"), say.whole(count), share))
    heads = say.t("portfolio.stage"), say.t("portfolio.cases"), say.t("portfolio.share")
    return Tile(say.t("portfolio.funnel"), heads, tuple(rows))


def _ageing(found: Figures, say: Language) -> Tile:
    names = [say.t("portfolio.up_to", days=say.days(days)) for days in AGES_DAYS]
    names.append(say.t("portfolio.over", days=say.days(AGES_DAYS[-1])))
    rows = tuple((name, say.whole(count)) for name, count in zip(names, found.ages, strict=True))
    return Tile(say.t("portfolio.ageing"), (say.t("portfolio.age"), say.t("portfolio.cases")), rows)


@router.get("/portfolio/forecast")
def forecast(request: Request, session: Seer) -> Response:
    """How many new defaults are expected, as the API tells it."""
    desk = desk_of(request)
    say = language_of(request, session)
    forecasts: Forecasts = request.app.state.forecasts
    title = say.t("portfolio.forecast")
    try:
        made_at, body = forecasts.of(desk, session.principal.products)
    except Problem as problem:
        return _slow(request, session, Tile(title, note=say.t("portfolio.none", why=str(problem))))
    outlooks = [one for one in msgspec.json.decode(body)["outlooks"] if one["segment"] == "all"]
    rows = []
    for one in outlooks:
        bounds = one["intervals"].get("80")
        interval = f"{say.number(bounds[0], 0)} – {say.number(bounds[1], 0)}" if bounds else UNKNOWN
        rows.append((say.days(one["horizon_days"]), say.number(one["expected"], 1), interval, say.whole(one["users"])))
    heads = tuple(say.t(f"portfolio.{name}") for name in ("horizon", "expected", "interval", "at_risk"))
    note = say.t("portfolio.forecast_note", at=say.minute(made_at))
    return _slow(request, session, Tile(title, heads, tuple(rows), note=note))


class _Drifts:
    """The drift of the scores, worked out when it is asked for and kept for a while. One at a time: who asks meanwhile
    gets the one before, or none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[dt.datetime, DriftReport]] = {}

    def of(self, desk: Desk) -> DriftReport | None:
        """Raises `BundleError`, `DriftError` and `DatabaseError`."""
        now, key = desk.clock(), desk.database.address
        kept = self._kept.get(key)
        if kept is not None and dt.timedelta() <= now - kept[0] < DRIFT_KEPT:
            return kept[1]
        if not self._lock.acquire(blocking=False):
            return None if kept is None else kept[1]
        try:
            kept = self._kept[key] = now, drift_of_database(desk.database, desk.model.bundle, Period())
            return kept[1]
        finally:
            self._lock.release()


_DRIFTS = _Drifts()


@router.get("/portfolio/drift")
def drift(request: Request, session: Seer) -> Response:
    """How far the scores of the last days are from those at training time; of the whole portfolio."""
    desk = desk_of(request)
    say = language_of(request, session)
    title = say.t("portfolio.drift")
    if session.principal.products is not None:
        return _slow(request, session, Tile(title, note=say.t("portfolio.whole_only")))
    try:
        report = _DRIFTS.of(desk)
    except DatabaseUnavailable:
        raise
    except (BundleError, DriftError, DatabaseError) as error:
        return _slow(request, session, Tile(title, note=say.t("portfolio.none", why=str(error))))
    if report is None:
        return _slow(request, session, Tile(title, note=say.t("portfolio.busy")))
    rows = tuple(
        (say.t(f"portfolio.of_{one.name}"), say.number(one.psi, 3), say.whole(one.recent)) for one in report.stability
    )
    heads = tuple(say.t(f"portfolio.{name}") for name in ("variable", "psi", "users"))
    note = say.t("portfolio.drift_note", since=say.day(report.since), until=say.day(report.until))
    return _slow(request, session, Tile(title, heads, rows, note=note))


def _slow(request: Request, session: Session, tile: Tile) -> Response:
    """A tile as a page of its own, from which the script takes it."""
    return page(request, session, "tile", section="portfolio", each=tile)
