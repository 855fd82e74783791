"""Learning curves as SVG text: losses above, AUC on the validation part below, over the same epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TypeAlias

CURVES_FILE = "curves.svg"
WIDTH = 720
PANEL_HEIGHT = 180
PANEL_STEP = 250
LEFT, RIGHT, TOP = 80, 30, 40
GRID_LINES = 5
MOST_MARKS = 10
INK = "#6b7280"
COLOURS = {"loss": "#2563eb", "validation_loss": "#c2410c", "validation_auc": "#0f766e"}
PANELS = (("loss", "validation_loss"), ("validation_auc",))

Record: TypeAlias = Mapping[str, float | None]


def curves(history: Sequence[Record]) -> str:
    """An SVG document of the records, one per epoch; a value that an epoch does not have leaves a gap in no line: the
    points that are there are joined."""
    height = TOP + PANEL_STEP * len(PANELS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="learning curves" font-family="system-ui, sans-serif" font-size="13">'
    ]
    for number, names in enumerate(PANELS):
        parts += _panel(history, names, TOP + PANEL_STEP * number)
    return "\n".join([*parts, "</svg>", ""])


def _panel(history: Sequence[Record], names: Sequence[str], top: float) -> list[str]:
    series = {
        name: [(epoch, value) for epoch, record in enumerate(history, 1) if (value := record.get(name)) is not None]
        for name in names
    }
    values = [value for points in series.values() for _, value in points]
    parts = [
        f'<text x="{LEFT + 150 * position}" y="{top - 12}" fill="{COLOURS[name]}">{name.replace("_", " ")}</text>'
        for position, name in enumerate(names)
    ]
    if not values:
        return [*parts, _text(LEFT, top + PANEL_HEIGHT / 2, "not known")]
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def at(epoch: float, value: float) -> tuple[float, float]:
        share = (epoch - 1) / (len(history) - 1) if len(history) > 1 else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT), top + PANEL_HEIGHT * (1 - (value - low) / span)

    for line in range(GRID_LINES):
        value = low + span * line / (GRID_LINES - 1)
        y = at(1, value)[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{INK}" opacity="0.3"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{value:.4f}", anchor="end"))
    every = -(-len(history) // MOST_MARKS)
    for epoch in range(1, len(history) + 1, every):
        parts.append(_text(at(epoch, low)[0], top + PANEL_HEIGHT + 20, str(epoch), anchor="middle"))
    for name, points in series.items():
        places = [at(epoch, value) for epoch, value in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[name]}"/>' for x, y in places]
    return parts


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'
