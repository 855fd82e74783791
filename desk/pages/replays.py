"""What replays would have said differently: the latest comparisons on the portfolio, and each on a page of its own.

Figures are those that `foreshock replay diff` keeps with a run; they name no borrower. Of the whole portfolio, so for
who sees all products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from markupsafe import Markup
from sqlalchemy import Connection, RowMapping, select

from desk.access.dependencies import SessionMay
from desk.access.roles import Permission
from desk.access.sessions import Session
from desk.context import desk_of
from desk.pages.language import UNKNOWN, Language
from desk.pages.pictures import score_deciles
from desk.pages.rendering import language_of, page, shown
from desk.pages.tiles import Figure, Link, Tile
from stream.database.tables import ReplayRun
from stream.outputs import LEVELS

router = APIRouter(include_in_schema=False)

MOST_REPLAYS = 5

Seer = Annotated[Session, SessionMay(Permission.SEE_PORTFOLIO)]

_COLUMNS = (ReplayRun.name, ReplayRun.model, ReplayRun.from_at, ReplayRun.to_at, ReplayRun.compared_at, ReplayRun.diff)
SHIFTS = ("gained", "lost", "earlier", "later")


@dataclass(frozen=True)
class ShownDiff:
    """One comparison as its page shows it."""

    name: str
    under: str
    figures: list[Figure]
    tiles: list[Tile]
    chart: Markup | None


def tile_of(connection: Connection, say: Language) -> Tile:
    """The latest comparisons of replays with what was published live."""
    found = connection.execute(
        select(*_COLUMNS)
        .where(ReplayRun.compared_at.is_not(None))
        .order_by(ReplayRun.compared_at.desc(), ReplayRun.name)
        .limit(MOST_REPLAYS)
    ).mappings()
    rows: tuple[tuple[str | Link, ...], ...] = tuple(
        (Link(address_of(one["name"]), shown(one["name"])), say.number(one["diff"].get("population_stability"), 3),
         *(_count(one["diff"], f"alerts_{shift}", say) for shift in SHIFTS))
        for one in found
    )  # fmt: skip
    heads = tuple(say.t(f"replay.{name}") for name in ("replay", "psi", *SHIFTS))
    note = say.t("replay.note" if rows else "replay.none")
    return Tile(say.t("replay.title"), heads if rows else (), rows, note=note)


def address_of(name: str) -> str:
    """The page of a replay."""
    return f"/portfolio/replays/{quote(name, safe='')}"


@router.get("/portfolio/replays/{name}")
def replay(request: Request, session: Seer, name: str) -> Response:
    """What one replay would have said differently."""
    desk = desk_of(request)
    say = language_of(request, session)
    if session.principal.products is not None:
        raise HTTPException(404)
    with desk.transaction() as connection:
        query = select(*_COLUMNS).where(ReplayRun.name == name, ReplayRun.compared_at.is_not(None))
        found = connection.execute(query).mappings().one_or_none()
    if found is None:
        raise HTTPException(404)
    return page(request, session, "replay", section="portfolio", found=in_words(found, say))


def in_words(row: RowMapping | Mapping[str, Any], say: Language) -> ShownDiff:
    """A comparison in words. What another release has not kept is not known."""
    diff: Mapping[str, Any] = row["diff"]
    under = say.t(
        "replay.about", model=row["model"], begin=say.day(row["from_at"]), end=say.day(row["to_at"]),
        at=say.minute(row["compared_at"]),
    )  # fmt: skip
    return ShownDiff(shown(row["name"]), under, _figures(diff, say), _tiles(diff, say), _deciles(diff, say))


def _figures(diff: Mapping[str, Any], say: Language) -> list[Figure]:
    compared, moved = diff.get("compared_scores") or 0, diff.get("moved") or 0
    share = say.percent(moved / compared, 1) if compared else UNKNOWN
    return [
        Figure(say.t("replay.compared"), say.whole(compared), say.t("replay.moved", share=share)),
        Figure(
            say.t("replay.psi"),
            say.number(diff.get("population_stability"), 3),
            say.t(
                "replay.shift", mean=say.number(diff.get("mean_move"), 4), most=say.number(diff.get("largest_move"), 3)
            ),
        ),
        Figure(
            say.t("replay.alerts"),
            _count(diff, "replayed_alerts", say),
            say.t("replay.alerts_live", count=_count(diff, "live_alerts", say)),
        ),
        *(_shift(diff, shift, say) for shift in SHIFTS),
    ]


def _shift(diff: Mapping[str, Any], shift: str, say: Language) -> Figure:
    days = diff.get(f"median_days_{shift}")
    under = "" if days is None else say.t("replay.by_days", days=say.days(abs(days)))
    return Figure(say.t(f"replay.{shift}"), _count(diff, f"alerts_{shift}", say), under)


def _tiles(diff: Mapping[str, Any], say: Language) -> list[Tile]:
    levels = diff.get("levels") or {}
    names = [say.t(f"level.{level}") for level in LEVELS]
    rows = tuple(
        (say.t("replay.was", level=name), *(say.whole(int(levels.get(was, {}).get(now, 0))) for now in LEVELS))
        for was, name in zip(LEVELS, names, strict=True)
    )
    matrix = Tile(say.t("replay.levels"), (say.t("replay.live"), *names), rows, note=say.t("replay.levels_note"))
    return [matrix, _products(diff, say), _outcomes(diff, say)]


def _products(diff: Mapping[str, Any], say: Language) -> Tile:
    rows = tuple(
        (shown(one["segment"]) if one.get("segment") else UNKNOWN, say.whole(int(one.get("scores", 0))),
         *(say.whole(int(one.get("alerts", {}).get(shift, 0))) for shift in SHIFTS))
        for one in diff.get("products") or ()
    )  # fmt: skip
    heads = (say.t("replay.product"), say.t("replay.scores"), *(say.t(f"replay.{shift}") for shift in SHIFTS))
    return Tile(say.t("replay.products"), heads, rows)


def _outcomes(diff: Mapping[str, Any], say: Language) -> Tile:
    """What came true of the alerts on both sides, where that can be told yet."""
    rows = []
    for side in ("live", "replayed"):
        found = diff.get(f"{side}_outcomes") or {}
        if found:
            rows.append((
                say.t(f"replay.side_{side}"), say.percent(found.get("precision")), say.percent(found.get("recall")),
                say.days(found.get("median_lead_days")),
            ))  # fmt: skip
    heads = tuple(say.t(f"replay.{name}") for name in ("side", "precision", "recall", "lead"))
    note = "" if rows else say.t("replay.no_outcomes")
    return Tile(say.t("replay.outcomes"), heads if rows else (), tuple(rows), note=note)


def _deciles(diff: Mapping[str, Any], say: Language) -> Markup | None:
    deciles = diff.get("deciles") or []
    return score_deciles(deciles, say) if deciles else None


def _count(diff: Mapping[str, Any], name: str, say: Language) -> str:
    count = diff.get(name)
    return UNKNOWN if count is None else say.whole(int(count))
