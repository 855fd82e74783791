"""Charts as SVG text, for pages and documents alike: bars, columns, lines, estimates, calibration, times, heat maps.

Each function draws the figures it is given and nothing else. Margins follow from the labels, and labels that would
overlap are left out, so that every label that is there can be read whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from model.presentation.drawing import (
    FONT_SIZE,
    INK,
    PADDING,
    SLANT_DEGREES,
    Box,
    Drawing,
    shortened,
    slanted_box,
    text_width,
)

BLUE, ORANGE, GREEN, VIOLET, GREY = "#3b82f6", "#d9531e", "#0f9488", "#8b5cf6", "#7c8798"
COLOURS = (BLUE, ORANGE, GREEN, VIOLET)
HEADING_HEIGHT = 28.0
LEGEND_HEIGHT = 20.0
TICK_HEIGHT = 20.0
GAP = 8.0
SMALL_WIDTH = 420.0
SMALL_PLOT_HEIGHT = 150.0
WIDE_WIDTH = 860.0
WIDE_PLOT_HEIGHT = 260.0
MOST_LABEL_WIDTH = 150.0
"""Of a slanted label below an axis."""
BAR_HEIGHT, BAR_GAP = 24.0, 12.0
TIME_WIDTH = 840.0
TIME_LEFT = 116.0
TIME_PLOT_HEIGHT = 170.0
ROW_HEIGHT, ROW_GAP = 28.0, 6.0
CHANGE_WIDTH, CHANGE_HEIGHT = 160.0, 12.0
DESCENT_ROOM = 6.0
"""Distance of a label's base line from the bottom of its row."""


class Bar(NamedTuple):
    """One bar: `text` stands at its end; a `strong` one is set apart by colour."""

    label: str
    value: float
    text: str
    strong: bool = False


class Estimate(NamedTuple):
    """A value at a label of the x axis, with its interval; None where it is not defined."""

    label: str
    value: float | None
    low: float | None
    high: float | None


class Cell(NamedTuple):
    """A part of a row of a heat map, from `begin` to `end` of the row (0–1), as dark as `weight` (0–1) says."""

    begin: float
    end: float
    weight: float
    tooltip: str


@dataclass(frozen=True)
class Plot:
    """The area inside the axes: places values of `x_range` and `y_range` on the drawing."""

    drawing: Drawing
    left: float
    top: float
    right: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        return self.left + _share(value, self.x_range) * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - _share(value, self.y_range) * (self.bottom - self.top)

    def grid(self, ticks: Sequence[float], text: Callable[[float], str]) -> None:
        """A line across and a label on the left for each tick of the y axis."""
        for tick in ticks:
            y = self.y(tick)
            self.drawing.line(self.left, y, self.right, y, opacity=0.25, thickness=1.0)
            self.drawing.text(self.left - GAP, y + FONT_SIZE / 3, text(tick), "end")

    def x_labels(self, labels: Iterable[tuple[float, str]]) -> None:
        """Labels below their values; of neighbours that would overlap, the first and the last label stay."""
        y = self.bottom + FONT_SIZE + GAP / 2
        for x, label in _apart([(self.x(value), label) for value, label in labels], self.drawing.width):
            self.drawing.line(x, self.bottom, x, self.bottom + 4, opacity=0.5, thickness=1.0)
            self.drawing.text(x, y, label, "middle")

    def path(self, points: Iterable[tuple[float, float]], colour: str, *, dots: bool = True) -> None:
        """A line through points in order, with a dot at each."""
        places = [(self.x(x), self.y(y)) for x, y in points]
        self.drawing.polyline(places, colour)
        if dots:
            for x, y in places:
                self.drawing.circle(x, y, 3, colour)

    def estimate(self, x: float, each: Estimate, colour: str) -> None:
        """A dot at the value and a line over the interval, as far as they are known, at `x` of the drawing."""
        if each.low is not None and each.high is not None:
            self.drawing.line(x, self.y(each.low), x, self.y(each.high), colour, opacity=0.7)
        if each.value is not None:
            self.drawing.circle(x, self.y(each.value), 3.5, colour)


def columns(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    text: Callable[[float], str] = lambda share: percent(share),
) -> str:
    """Columns side by side at each label, one per series; values are shares (0–1)."""
    ticks = nice_ticks(0.0, max([value for values in series.values() for value in values] + [1e-9]))
    drawing, plot = _labelled(title, labels, ticks, text, legend=True)
    colours = dict(zip(series, (GREY, ORANGE, BLUE, GREEN), strict=False))
    legend(drawing, colours, HEADING_HEIGHT)
    step = (plot.right - plot.left) / max(len(labels), 1)
    width = 0.74 * step / max(len(series), 1)
    for offset, (name, values) in enumerate(series.items()):
        for number, value in enumerate(values):
            y = plot.y(value)
            x = plot.left + step * (number + 0.13) + width * offset
            drawing.rectangle(
                x,
                y,
                0.95 * width,
                plot.bottom - y,
                colours[name],
                tooltip=f"{labels[number]}, {name}: {text(value)}",
            )
    return drawing.inline(title)


def estimates(title: str, found: Sequence[Estimate], level: float | None = None) -> str:
    """Estimates with their intervals along an axis of labels; `level` draws a line to compare with."""
    known = [value for each in found for value in each[1:] if value is not None]
    ticks = nice_ticks(*_padded([*known, level] if level is not None else known))
    labels = [each.label for each in found]
    drawing, plot = _labelled(title, labels, ticks, short)
    if level is not None:
        drawing.line(plot.left, plot.y(level), plot.right, plot.y(level), GREY)
    step = (plot.right - plot.left) / max(len(found), 1)
    for number, each in enumerate(found):
        plot.estimate(plot.left + step * (number + 0.5), each, ORANGE)
    return drawing.inline(title)


def calibration(title: str, bands: Sequence[tuple[float, Estimate]]) -> str:
    """Mean score (x) against what came true (y, with interval), both on logarithmic axes, and the diagonal."""
    floor = min([score for score, _ in bands if score > 0] + [0.01]) / 2
    exponents = range(math.ceil(math.log10(floor)), 1)
    drawing = Drawing(SMALL_WIDTH, HEADING_HEIGHT + SMALL_PLOT_HEIGHT + 2 * TICK_HEIGHT + PADDING)
    drawing.heading(title)
    left = left_margin([percent(10.0**exponent) for exponent in exponents])
    span = (math.log10(floor), 0.0)
    bottom = HEADING_HEIGHT + SMALL_PLOT_HEIGHT
    plot = Plot(drawing, left, HEADING_HEIGHT + GAP, SMALL_WIDTH - 2 * GAP, bottom, span, span)
    plot.grid(exponents, lambda exponent: percent(10.0**exponent))
    plot.x_labels((exponent, percent(10.0**exponent)) for exponent in exponents)
    drawing.text(plot.right, plot.bottom + 2 * TICK_HEIGHT - DESCENT_ROOM, "mean score", "end")
    drawing.line(plot.x(span[0]), plot.y(span[0]), plot.x(0.0), plot.y(0.0), GREY)

    def place(value: float) -> float:
        return math.log10(min(max(value, floor), 1.0))

    for score, each in bands:
        value, low, high = (None if one is None else place(one) for one in each[1:])
        plot.estimate(plot.x(place(score)), Estimate(each.label, value, low, high), ORANGE)
    return drawing.inline(title)


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars on one linear scale from zero, as a file of its own."""
    left = min(max((text_width(row.label) for row in rows), default=0.0) + 2 * GAP, 0.45 * WIDE_WIDTH)
    room = WIDE_WIDTH - left - max((text_width(row.text) for row in rows), default=0.0) - 2 * GAP
    greatest = max((row.value for row in rows), default=0.0) or 1.0
    drawing = Drawing(WIDE_WIDTH, HEADING_HEIGHT + GAP + len(rows) * (BAR_HEIGHT + BAR_GAP))
    drawing.heading(title)
    for number, row in enumerate(rows):
        y = HEADING_HEIGHT + GAP + number * (BAR_HEIGHT + BAR_GAP)
        length = max(row.value / greatest * room, 1.0)
        base = y + BAR_HEIGHT / 2 + FONT_SIZE / 3
        drawing.text(left - GAP, base, shortened(row.label, left - GAP - PADDING), "end")
        drawing.rectangle(left, y, length, BAR_HEIGHT, ORANGE if row.strong else BLUE, corner=3)
        drawing.text(left + length + GAP, base, row.text)
    return drawing.document(title)


def lines(
    title: str, x_label: str, y_label: str, series: Mapping[str, Sequence[tuple[float, float]]], *, log_x: bool = False
) -> str:
    """Lines through points over a common x axis, as a file of its own; the y axis starts at zero. `log_x` needs x above
    zero. Raises `ValueError` without a point."""
    points = [point for each in series.values() for point in each]
    if not points:
        raise ValueError(f"{title}: there is no point to draw")
    place = math.log10 if log_x else float
    x_range = min(place(x) for x, _ in points), max(place(x) for x, _ in points)
    ticks = nice_ticks(0.0, max(y for _, y in points) or 1.0)
    top = HEADING_HEIGHT + LEGEND_HEIGHT + TICK_HEIGHT + GAP
    bottom = top + WIDE_PLOT_HEIGHT
    drawing = Drawing(WIDE_WIDTH, bottom + 2 * TICK_HEIGHT + PADDING)
    drawing.heading(title)
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(series)}
    legend(drawing, colours, HEADING_HEIGHT)
    left = left_margin([short(tick) for tick in ticks])
    plot = Plot(drawing, left, top, WIDE_WIDTH - 2 * GAP, bottom, x_range, (0.0, ticks[-1]))
    drawing.text(PADDING, top - 1.5 * GAP, y_label)
    drawing.text(plot.right, bottom + 2 * TICK_HEIGHT - DESCENT_ROOM, x_label, "end")
    plot.grid(ticks, short)
    marks = (
        sorted({x for x, _ in points}) if log_x else [x for x in nice_ticks(*x_range) if x_range[0] <= x <= x_range[1]]
    )
    plot.x_labels((place(mark), short(mark)) for mark in marks)
    for name, each in series.items():
        plot.path(((place(x), y) for x, y in each), colours[name], dots=len(each) <= 40)
    return drawing.document(title)


def panels(title: str, series: Sequence[Mapping[str, Sequence[tuple[float, float]]]], last: int, missing: str) -> str:
    """One plot below the other over the whole numbers from 1 to `last`, each with a scale of its own, as a file of its
    own. A panel without a point says `missing`."""
    height = LEGEND_HEIGHT + GAP + SMALL_PLOT_HEIGHT + TICK_HEIGHT + 2 * GAP
    drawing = Drawing(WIDE_WIDTH, height * len(series))
    names = [name for panel in series for name in panel]
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    known = [[value for points in panel.values() for _, value in points] for panel in series]
    scales = [nice_ticks(min(values), max(values)) if values else [] for values in known]
    left = left_margin([exact(tick) for ticks in scales for tick in ticks])
    for number, (panel, ticks) in enumerate(zip(series, scales, strict=True)):
        top = height * number + LEGEND_HEIGHT + GAP
        legend(drawing, {name: colours[name] for name in panel}, height * number)
        if not ticks:
            drawing.text(PADDING, top + SMALL_PLOT_HEIGHT / 2, missing)
            continue
        bottom, right = top + SMALL_PLOT_HEIGHT, WIDE_WIDTH - 2 * GAP
        plot = Plot(drawing, left, top, right, bottom, (1.0, last), (ticks[0], ticks[-1]))
        plot.grid(ticks, exact)
        plot.x_labels((float(each), str(each)) for each in range(1, last + 1))
        for name, points in panel.items():
            plot.path(points, colours[name])
    return drawing.document(title)


def timeline(
    title: str, points: Sequence[tuple[float, float]], dates: Sequence[tuple[float, str]], level: float, level_name: str
) -> str:
    """Values from zero on over time with `dates` below, and a named level to compare with, at which values are high."""
    top = max(max(value for _, value in points), level) * 1.05
    drawing = Drawing(TIME_WIDTH, GAP + TIME_PLOT_HEIGHT + TICK_HEIGHT + PADDING)
    times = [at for at, _ in points]
    plot = Plot(
        drawing, TIME_LEFT, GAP, TIME_WIDTH - 2 * GAP, GAP + TIME_PLOT_HEIGHT, (min(times), max(times)), (0.0, top)
    )
    plot.grid([tick for tick in nice_ticks(0.0, top) if tick <= top and not _near(tick, level, top)], percent)
    drawing.line(plot.left, plot.y(level), plot.right, plot.y(level), ORANGE, dashed=True)
    drawing.text(plot.left - GAP, plot.y(level) + FONT_SIZE / 3, level_name, "end")
    plot.path(points, BLUE, dots=len(points) == 1)
    plot.x_labels(dates)
    return drawing.inline(title)


def heat_map(
    title: str,
    rows: Mapping[str, Sequence[Cell]],
    times: tuple[float, float],
    dates: Sequence[tuple[float, str]],
    *,
    width: float = TIME_WIDTH,
    left: float = TIME_LEFT,
) -> str:
    """Rows of cells over an axis of time; as wide as `timeline`'s and begun as far from the left, unless said."""
    bottom = len(rows) * (ROW_HEIGHT + ROW_GAP)
    drawing = Drawing(width, bottom + TICK_HEIGHT + PADDING)
    plot = Plot(drawing, left, 0.0, width - 2 * GAP, bottom, times, (0.0, 1.0))
    for number, (name, cells) in enumerate(rows.items()):
        y = number * (ROW_HEIGHT + ROW_GAP)
        drawing.text(plot.left - GAP, y + ROW_HEIGHT / 2 + FONT_SIZE / 3, name, "end")
        drawing.rectangle(plot.left, y, plot.right - plot.left, ROW_HEIGHT, INK, opacity=0.08)
        for cell in cells:
            x, end = (plot.left + share * (plot.right - plot.left) for share in (cell.begin, cell.end))
            drawing.rectangle(x, y, end - x, ROW_HEIGHT, ORANGE, opacity=cell.weight, tooltip=cell.tooltip)
    plot.x_labels(dates)
    return drawing.inline(title)


def change_bar(change: float, scale: float = 1.0) -> str:
    """A bar from the middle: to the right for a `change` above zero, to the left for one below; full at `scale`."""
    drawing = Drawing(CHANGE_WIDTH, CHANGE_HEIGHT)
    half = CHANGE_WIDTH / 2
    length = min(abs(change) / scale, 1.0) * half
    x, colour = (half, ORANGE) if change > 0 else (half - length, GREEN)
    drawing.rectangle(x, 1, max(length, 0.5), CHANGE_HEIGHT - 2, colour)
    drawing.line(half, 0, half, CHANGE_HEIGHT, thickness=1.0)
    return drawing.inline(f"{change:+.1%}")


def short(value: float) -> str:
    """A number of a scale: 1,500 is `1.5k`."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def percent(value: float) -> str:
    """A share in percent, three digits at most."""
    return f"{100 * value:.3g}%"


def exact(value: float) -> str:
    """A number of a fine scale, six digits at most."""
    return f"{value:.6g}"


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers at equal distances, the first at most `low` and the last at least `high`."""
    if not high > low:
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, high + room
    rough = (high - low) / (count - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _labelled(
    title: str,
    labels: Sequence[str],
    ticks: Sequence[float],
    text: Callable[[float], str],
    *,
    legend: bool = False,
) -> tuple[Drawing, Plot]:
    """A small drawing with heading, y axis and a label below the middle of each of as many equal parts."""
    left = left_margin([text(tick) for tick in ticks])
    right = SMALL_WIDTH - 2 * GAP
    step = (right - left) / max(len(labels), 1)
    top = HEADING_HEIGHT + GAP + (LEGEND_HEIGHT if legend else 0.0)
    bottom = top + SMALL_PLOT_HEIGHT
    upright = all(text_width(label) <= step - 2 for label in labels)
    labels = [shortened(label, MOST_LABEL_WIDTH) for label in labels]
    low = bottom + FONT_SIZE + GAP / 2
    if labels and not upright:
        # The first label begins left of its column; the axis moves as far to the right as that takes.
        left = max(left, PADDING - slanted_box(0.4 * step, low, labels[0]).left)
        step = (right - left) / len(labels)
    reach = TICK_HEIGHT if upright else max(slanted_box(0, low, label).bottom for label in labels) - bottom + PADDING
    drawing = Drawing(SMALL_WIDTH, math.ceil(bottom + reach + PADDING))
    drawing.heading(title)
    plot = Plot(drawing, left, top, right, bottom, (0.0, 1.0), (ticks[0], ticks[-1]))
    plot.grid(ticks, text)
    every = 1 if upright else math.ceil(FONT_SIZE / (step * math.sin(math.radians(SLANT_DEGREES))))
    for number in range(0, len(labels), every):
        x = left + step * (number + 0.5)
        if upright:
            drawing.text(x, low, labels[number], "middle")
        else:
            drawing.slanted(x, low, labels[number])
    return drawing, plot


def legend(drawing: Drawing, colours: Mapping[str, str], top: float) -> None:
    """A square of its colour and a name for each series, side by side."""
    x = PADDING
    for name, colour in colours.items():
        drawing.rectangle(x, top + 4, 10, 10, colour, corner=2)
        x = drawing.text(x + 15, top + 13, name).right + 2 * GAP


def _apart(labels: Sequence[tuple[float, str]], width: float) -> list[tuple[float, str]]:
    """Of labels in order, those that leave room between each other; the first and the last are kept before others."""
    kept: list[tuple[float, str]] = []
    boxes: list[Box] = []
    for number, (x, label) in enumerate(labels):
        half = text_width(label) / 2
        middle = min(max(x, half + PADDING), width - half - PADDING)
        box = Box(middle - half, 0.0, middle + half, 0.0)
        while number == len(labels) - 1 and len(boxes) > 1 and box.left < boxes[-1].right + GAP:
            kept.pop()
            boxes.pop()
        if not boxes or box.left >= boxes[-1].right + GAP:
            kept.append((x, label))
            boxes.append(box)
    return kept


def left_margin(labels: Sequence[str]) -> float:
    """How far from the left the axis begins, so that these labels of its ticks fit."""
    return max((text_width(label) for label in labels), default=0.0) + GAP + 2 * PADDING


def _share(value: float, span: tuple[float, float]) -> float:
    return (value - span[0]) / (span[1] - span[0]) if span[1] > span[0] else 0.5


def _padded(known: Sequence[float]) -> tuple[float, float]:
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = (high - low) * 0.05 or max(abs(high), 1.0) * 0.1
    return low - room, high + room


def _near(tick: float, level: float, top: float) -> bool:
    """Whether the labels of a tick and of a level would overlap on an axis of time's height."""
    return abs(tick - level) / top * TIME_PLOT_HEIGHT < 1.3 * FONT_SIZE
