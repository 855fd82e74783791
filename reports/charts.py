"""Pictures of a report as SVG text: shares by bin, calibration, a measure by month. For light and dark pages alike.

Everything is drawn from the figures given; nothing is fetched, so a page that holds them stands alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 520, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 34, 62
REFERENCE, RECENT, INK = "#64748b", "#c2410c", "#6b7280"
_STYLE = 'font-family="system-ui, sans-serif" font-size="11"'
_TICKS = 4


class Estimate(NamedTuple):
    """A value at a label of the x axis, with its interval; None where it is not defined."""

    label: str
    value: float | None
    low: float | None
    high: float | None


def shares(title: str, labels: Sequence[str], reference: Sequence[float], recent: Sequence[float]) -> str:
    """Two columns per bin, reference and recent, as shares (0–1)."""
    top = max([*reference, *recent, 1e-9])
    parts = [*_axis(0.0, top, percent=True), *_legend()]
    step = _plot_width() / max(len(labels), 1)
    for number, label in enumerate(labels):
        for offset, (colour, value) in enumerate(((REFERENCE, reference[number]), (RECENT, recent[number]))):
            x = LEFT + step * (number + 0.14 + 0.37 * offset)
            y = _y(value, 0.0, top)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{step * 0.35:.1f}" height="{HEIGHT - BOTTOM - y:.1f}" '
                f'fill="{colour}"/>'
            )
        parts.append(_slanted(LEFT + step * (number + 0.5), label))
    return _document(title, parts)


def by_label(title: str, estimates: Sequence[Estimate], level: float | None = None) -> str:
    """Estimates with their intervals along an axis of labels; `level` draws a line to compare with."""
    known = [value for each in estimates for value in each[1:] if value is not None]
    known += [] if level is None else [level]
    low, high = _padded(known)
    parts = _axis(low, high)
    if level is not None:
        y = _y(level, low, high)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{REFERENCE}"/>')
    step = _plot_width() / max(len(estimates), 1)
    for number, each in enumerate(estimates):
        x = LEFT + step * (number + 0.5)
        parts.append(_slanted(x, each.label))
        if each.value is not None:
            parts += _whisker(x, each, lambda value: _y(value, low, high))
    return _document(title, parts)


def calibration(title: str, bands: Sequence[tuple[float, Estimate]]) -> str:
    """Mean score (x) against what came true (y, with interval), both on logarithmic axes, and the diagonal."""
    floor = min([x for x, _ in bands if x > 0] + [0.01]) / 2
    decades = -math.log10(floor)

    def place(value: float) -> float:
        return 1 + math.log10(min(max(value, floor), 1.0)) / decades

    def x_of(value: float) -> float:
        return LEFT + _plot_width() * place(value)

    def y_of(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * place(value)

    parts = []
    for exponent in range(-int(decades), 1):
        value = 10.0**exponent
        parts.append(_line(LEFT, y_of(value), WIDTH - RIGHT, y_of(value), INK, 0.25))
        parts.append(_text(LEFT - 6, y_of(value) + 4, f"{100 * value:g}%", "end"))
        parts.append(_text(x_of(value), HEIGHT - BOTTOM + 16, f"{100 * value:g}%", "middle"))
    parts.append(_line(x_of(floor), y_of(floor), x_of(1.0), y_of(1.0), REFERENCE, 1.0))
    parts.append(_text(WIDTH - RIGHT, HEIGHT - BOTTOM + 34, "mean score", "end"))
    for score, each in bands:
        if each.value is not None:
            parts += _whisker(x_of(score), each, y_of)
    return _document(title, parts)


def _whisker(x: float, each: Estimate, y_of: Callable[[float], float]) -> list[str]:
    parts = []
    if each.low is not None and each.high is not None:
        parts.append(_line(x, y_of(each.low), x, y_of(each.high), RECENT, 0.7))
    if each.value is not None:
        parts.append(f'<circle cx="{x:.1f}" cy="{y_of(each.value):.1f}" r="3.5" fill="{RECENT}"/>')
    return parts


def _axis(low: float, high: float, *, percent: bool = False) -> list[str]:
    parts = []
    for step in range(_TICKS + 1):
        value = low + (high - low) * step / _TICKS
        y = _y(value, low, high)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, INK, 0.25))
        parts.append(_text(LEFT - 6, y + 4, f"{100 * value:.3g}%" if percent else f"{value:.3g}", "end"))
    return parts


def _padded(known: Sequence[float]) -> tuple[float, float]:
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = (high - low) * 0.1 or max(abs(high), 1.0) * 0.1
    return low - room, high + room


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - low) / (high - low)


def _plot_width() -> int:
    return WIDTH - LEFT - RIGHT


def _legend() -> list[str]:
    parts = []
    for number, (name, colour) in enumerate((("reference", REFERENCE), ("recent", RECENT))):
        x = WIDTH - RIGHT - 150 + 80 * number
        parts.append(f'<rect x="{x}" y="20" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(x + 14, 29, name))
    return parts


def _slanted(x: float, label: str) -> str:
    y = HEIGHT - BOTTOM + 12
    return (
        f'<text x="{x:.1f}" y="{y}" text-anchor="end" fill="{INK}" transform="rotate(-32 {x:.1f} {y})">'
        f"{escape(label[:16])}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, opacity: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="1.5" '
        f'opacity="{opacity}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'


def _document(title: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title, quote=True)}" {_STYLE}>'
    )
    heading = f'<text x="8" y="16" font-size="13" font-weight="600" fill="{INK}">{escape(title)}</text>'
    return "\n".join([head, heading, *parts, "</svg>"])
