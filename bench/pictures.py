"""Bar and line charts as SVG text: enough to see a ratio and the shape of a curve, on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH = 860
LABEL_WIDTH = 210
VALUE_WIDTH = 150
BAR_HEIGHT = 24
BAR_GAP = 12
TOP = 48
PLOT_HEIGHT = 260
MARGIN = 70
STRONG = "#c2410c"
COLOURS = ("#2563eb", "#c2410c", "#0f766e", "#7c3aed")
INK = "#6b7280"
_STYLE = 'font-family="system-ui, sans-serif" font-size="14"'


class Bar(NamedTuple):
    """One bar: `text` stands at its end; a `strong` one is set apart by colour."""

    label: str
    value: float
    text: str
    strong: bool = False


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars on one linear scale from zero."""
    height = TOP + len(rows) * (BAR_HEIGHT + BAR_GAP) + BAR_GAP
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    greatest = max((row.value for row in rows), default=0.0) or 1.0
    parts = [_heading(title)]
    for number, row in enumerate(rows):
        y = TOP + number * (BAR_HEIGHT + BAR_GAP)
        length = max(row.value / greatest * room, 1.0)
        middle = y + BAR_HEIGHT / 2 + 5
        colour = STRONG if row.strong else COLOURS[0]
        parts.append(_text(LABEL_WIDTH - 10, middle, row.label, anchor="end"))
        parts.append(
            f'<rect x="{LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT}" rx="3" fill="{colour}"/>'
        )
        parts.append(_text(LABEL_WIDTH + length + 8, middle, row.text))
    return _document(height, title, parts)


def lines(
    title: str, x_label: str, y_label: str, series: Mapping[str, Sequence[tuple[float, float]]], *, log_x: bool = False
) -> str:
    """Lines through points over a common x axis; the y axis starts at zero. `log_x` needs x above zero."""
    points = [point for each in series.values() for point in each]
    if not points:
        raise ValueError(f"{title}: there is no point to draw")
    place = math.log10 if log_x else float
    left, right = min(place(x) for x, _ in points), max(place(x) for x, _ in points)
    top = max(y for _, y in points) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        share = (place(x) - left) / (right - left) if right > left else 0.5
        return MARGIN + share * (WIDTH - 2 * MARGIN), TOP + PLOT_HEIGHT * (1 - y / top)

    parts = [_heading(title)]
    for step in range(5):
        value = top * step / 4
        y = at(points[0][0], value)[1]
        parts.append(
            f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="{INK}" opacity="0.3"/>'
        )
        parts.append(_text(MARGIN - 8, y + 5, short(value), anchor="end"))
    marks = sorted({x for x, _ in points}) if log_x else [left + (right - left) * step / 5 for step in range(6)]
    parts += [_text(at(x, 0)[0], TOP + PLOT_HEIGHT + 22, short(x), anchor="middle") for x in marks]
    for number, (name, each) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in each))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in (at(*p) for p in each)]
        x = MARGIN + number * 190
        parts.append(f'<rect x="{x}" y="{TOP + PLOT_HEIGHT + 58}" width="14" height="14" fill="{colour}"/>')
        parts.append(_text(x + 20, TOP + PLOT_HEIGHT + 70, name))
    parts.append(_text(WIDTH - MARGIN, TOP + PLOT_HEIGHT + 44, x_label, anchor="end"))
    parts.append(_text(MARGIN, TOP - 8, y_label))
    return _document(TOP + PLOT_HEIGHT + 90, title, parts)


def short(value: float) -> str:
    """A number of a scale: 1,500 is `1.5k`."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def _heading(title: str) -> str:
    return f'<text x="12" y="24" font-size="16" font-weight="600" fill="{INK}">{escape(title)}</text>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'


def _document(height: int, title: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title, quote=True)}" {_STYLE}>'
    )
    return "\n".join([head, *parts, "</svg>", ""])
