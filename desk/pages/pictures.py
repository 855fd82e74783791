"""The charts of the desk: what `model.presentation` draws of a case and of the portfolio, in the page's language.

Each comes in two widths, since a wide drawing on a narrow screen cannot be read.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from desk.pages.language import Language
from desk.pages.reading import Levels, ScorePoint
from desk.pages.rendering import Picture
from events.types import KINDS
from model.presentation.charts import BLUE, GREY, Cell, columns, heat_map
from model.presentation.courses import Band, Line, course, stacks

BROAD, NARROW = 900.0, 340.0
LEFT = 84.0
DAY_S = 86_400.0
LEVEL_COLOURS = {"MEDIUM": "#c98500", "HIGH": "#c2334d"}
"""Told apart by who sees red and green alike, and clear of the card in light and dark (a test computes both)."""

PALEST = 0.08
CELL_SHARE = 0.014
"""Width of an event's cell as a share of the time that is shown."""


def course_of(
    points: Sequence[ScorePoint], levels: Levels | None, opened_at: dt.datetime, say: Language
) -> Picture | None:
    """A user's scores over time with the bands of the levels; None without any."""
    if not points:
        return None
    scores = [(point.at.timestamp(), point.score) for point in points]
    usual = [(point.at.timestamp(), point.baseline) for point in points]
    lines = [Line(say.t("case.course_line"), scores, BLUE), Line(say.t("case.course_baseline"), usual, GREY)]
    bands = [] if levels is None else [
        Band(say.t("level.MEDIUM"), levels.medium, levels.high, LEVEL_COLOURS["MEDIUM"], 0.10),
        Band(say.t("level.HIGH"), levels.high, 1.0, LEVEL_COLOURS["HIGH"], 0.14),
    ]  # fmt: skip
    opened = opened_at.timestamp()
    marks = [(opened, say.t("done.open"))] if scores[0][0] <= opened <= scores[-1][0] else []

    def draw(width: float, labels: int) -> str:
        return course(
            say.t("case.course"), lines, bands, dates(scores[0][0], scores[-1][0], labels, say), marks=marks,
            width=width, left=LEFT, text=lambda value: say.percent(value, 0 if value >= 0.02 or value == 0 else 1),
        )  # fmt: skip

    return both(draw)


def attention_of(
    weighed: Sequence[Mapping[str, Any]], points: Sequence[ScorePoint], prefix: str, say: Language
) -> Picture | None:
    """The events that weighed most, by kind over the time that the course shows; None where there are none."""
    found: dict[str, list[tuple[float, float]]] = {}
    for one in weighed:
        kind = str(one["topic"]).removeprefix(prefix)
        at = dt.datetime.fromisoformat(str(one["occurred_at"])).timestamp()
        if kind in KINDS:
            found.setdefault(kind, []).append((at, float(one["weight"])))
    if not found:
        return None
    moments = [at for events in found.values() for at, _ in events] + [point.at.timestamp() for point in points]
    first, last = min(moments), max(moments)
    span = last - first or DAY_S
    most = max(weight for events in found.values() for _, weight in events) or 1.0
    rows = {}
    for kind in KINDS:
        cells = []
        for at, weight in sorted(found.get(kind, [])):
            begin = min((at - first) / span, 1.0 - CELL_SHARE)
            words = say.t(
                "case.attention_cell", kind=say.t(f"topic.{kind}"),
                day=say.day(dt.datetime.fromtimestamp(at, dt.UTC)), share=say.percent(weight),
            )  # fmt: skip
            cells.append(Cell(begin, begin + CELL_SHARE, max(weight / most, PALEST), words))
        if cells:
            rows[say.t(f"topic.{kind}")] = cells

    def draw(width: float, labels: int) -> str:
        marks = dates(first, first + span, labels, say)
        return heat_map(say.t("case.attention"), rows, (first, first + span), marks, width=width, left=LEFT)

    return both(draw)


def alerts_per_day(days: Sequence[dt.date], by_level: Mapping[str, Sequence[int]], say: Language) -> Markup:
    """New alerts by day, the levels on top of one another."""
    series = {say.t(f"level.{level}"): (LEVEL_COLOURS[level], counts) for level, counts in by_level.items()}
    labels = [say.short_day(day) for day in days]
    return Markup(stacks(say.t("portfolio.per_day"), labels, series, width=420.0, text=lambda n: say.whole(int(n))))


def score_deciles(deciles: Sequence[Mapping[str, Any]], say: Language) -> Markup:
    """Mean score live and in a replay, by decile of the live score."""
    series = {
        say.t("replay.side_live"): [float(one["mean_live"]) for one in deciles],
        say.t("replay.side_replayed"): [float(one["mean_other"]) for one in deciles],
    }
    labels = [str(one["decile"]) for one in deciles]
    return Markup(columns(say.t("replay.deciles"), labels, series, text=lambda share: say.percent(share, 1)))


def both(draw: Callable[[float, int], str]) -> Picture:
    """A drawing in both widths; `draw` gets the width and how many dates have room."""
    return Picture(Markup(draw(BROAD, 6)), Markup(draw(NARROW, 3)))


def dates(first: float, last: float, most: int, say: Language) -> list[tuple[float, str]]:
    """At most so many moments from the first to the last, each on another day, with their dates."""
    parts = min(most - 1, int((last - first) / DAY_S))
    if parts < 1:
        return [(first, _day(first, say))]
    return [(at := first + (last - first) * part / parts, _day(at, say)) for part in range(parts + 1)]


def _day(at_s: float, say: Language) -> str:
    return say.day(dt.datetime.fromtimestamp(at_s, dt.UTC))
