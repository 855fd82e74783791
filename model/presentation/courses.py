"""Charts of what happens over time: a user's score within the bands of its levels, and counts by day in stacks.

As `model.presentation.charts`: each draws the figures that it is given and nothing else. Widths are arguments, since a
page shows one drawing to wide and another to narrow screens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from model.presentation.charts import (
    BLUE,
    GAP,
    LEGEND_HEIGHT,
    TICK_HEIGHT,
    TIME_LEFT,
    TIME_WIDTH,
    Plot,
    left_margin,
    legend,
    nice_ticks,
    percent,
    short,
)
from model.presentation.drawing import FONT_SIZE, INK, PADDING, Drawing, text_width

COURSE_HEIGHT = 190.0
STACK_HEIGHT = 150.0
MOST_DOTS = 30
"""Points that a course marks with dots; more would be a band of dots."""


class Band(NamedTuple):
    """A range of values with a name, shaded in a colour."""

    name: str
    low: float
    high: float
    colour: str
    opacity: float


class Line(NamedTuple):
    """A named line through points in order of time."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = BLUE


def course(
    title: str,
    lines: Sequence[Line],
    bands: Sequence[Band],
    dates: Sequence[tuple[float, str]],
    *,
    marks: Sequence[tuple[float, str]] = (),
    width: float = TIME_WIDTH,
    left: float = TIME_LEFT,
    text: Callable[[float], str] = percent,
) -> str:
    """Lines of values from zero on over time, with `dates` below, shaded bands behind, and named moments.

    The axis reaches as far as the lines do, and into the lowest band; it begins `left` of the edge, as
    the axis of `heat_map` does. Raises `ValueError` without a point.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError(f"{title}: there is no point to draw")
    lowest = min((band.low for band in bands), default=0.0)
    ticks = nice_ticks(0.0, min(max(1.15 * max(value for _, value in points), 1.3 * lowest), 1.0) or 1.0)
    top = LEGEND_HEIGHT + GAP
    drawing = Drawing(width, top + COURSE_HEIGHT + TICK_HEIGHT + PADDING)
    moments = [at for at, _ in points] + [at for at, _ in marks]
    bottom = top + COURSE_HEIGHT
    span = min(moments), max(moments)
    plot = Plot(drawing, left, top, width - 2 * GAP, bottom, span, (0.0, ticks[-1]))
    for band in bands:
        _shade(plot, band, ticks[-1])
    plot.grid(ticks, text)
    for at, name in marks:
        x = plot.x(at)
        drawing.line(x, top, x, bottom, INK, dashed=True, thickness=1.0)
        drawing.text(x, top - 2, name, "middle")
    for line in reversed(lines):
        plot.path(line.points, line.colour, dots=len(line.points) <= MOST_DOTS)
    legend(drawing, {line.name: line.colour for line in lines}, 0.0)
    plot.x_labels(dates)
    return drawing.inline(title)


def _shade(plot: Plot, band: Band, most: float) -> None:
    """The part of a band that lies on the plot, with its name where there is room for it."""
    if band.low >= most:
        return
    y, end = plot.y(min(band.high, most)), plot.y(band.low)
    plot.drawing.rectangle(plot.left, y, plot.right - plot.left, end - y, band.colour, opacity=band.opacity)
    if end - y > 1.2 * FONT_SIZE:
        plot.drawing.text(plot.right - GAP / 2, y + FONT_SIZE + 1, band.name, "end")


def stacks(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, tuple[str, Sequence[int]]],
    *,
    width: float,
    text: Callable[[float], str] = short,
) -> str:
    """Counts by label as columns, the series of each on top of one another; a series has a colour and its counts."""
    totals = [sum(counts[number] for _, counts in series.values()) for number in range(len(labels))]
    ticks = [tick for tick in nice_ticks(0.0, max([*totals, 1])) if tick == round(tick)]
    top = LEGEND_HEIGHT + GAP
    bottom = top + STACK_HEIGHT
    drawing = Drawing(width, bottom + TICK_HEIGHT + PADDING)
    plot = Plot(
        drawing, left_margin([text(tick) for tick in ticks]), top, width - GAP, bottom,
        (0.0, float(max(len(labels), 1))), (0.0, max(ticks[-1], max(totals, default=0))),
    )  # fmt: skip
    plot.grid(ticks, text)
    below = [0] * len(labels)
    step = (plot.right - plot.left) / max(len(labels), 1)
    for name, (colour, counts) in series.items():
        for number, count in enumerate(counts):
            if count:
                high, low = plot.y(below[number] + count), plot.y(below[number])
                drawing.rectangle(
                    plot.left + step * (number + 0.12), high, 0.76 * step, low - high, colour,
                    tooltip=f"{labels[number]}, {name}: {text(count)}",
                )  # fmt: skip
            below[number] += count
    legend(drawing, {name: colour for name, (colour, _) in series.items()}, 0.0)
    room = max((text_width(label) for label in labels), default=0.0) + GAP
    every = max(1, math.ceil(room / step)) if labels else 1
    plot.x_labels((number + 0.5, label) for number, label in enumerate(labels) if number % every == 0)
    return drawing.inline(title)
