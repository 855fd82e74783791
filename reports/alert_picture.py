"""One alert as a picture, as a collector may be shown it: level, score beside the usual one, days past due, reasons.

Pure: an alert record in, SVG text out. Reads no clock, no file and no network, and draws nothing that the record does
not hold.
"""

from __future__ import annotations

import datetime as dt
from xml.etree import ElementTree

from stream.outputs import Alert, Level

WIDTH = 760
_MARGIN = 24
_TEXT_WIDTH = 500
"""Room for a reason's words; its bar begins after it."""
_ROW_HEIGHT = 30
_HEAD_HEIGHT = 182
_INK, _QUIET, _LINE, _PAPER = "#1f2937", "#6b7280", "#d1d5db", "#ffffff"
_COLOURS: dict[Level, str] = {"LOW": "#15803d", "MEDIUM": "#b45309", "HIGH": "#b91c1c"}


def alert_picture(alert: Alert) -> str:
    """The SVG of an alert that was opened or escalated. Equal records give equal text.

    Bars of the reasons are to scale among themselves (log-odds), those of score and usual score on a scale of 0 to 1.
    """
    colour = _COLOURS[alert.level_to]
    height = _HEAD_HEIGHT + 28 + _ROW_HEIGHT * len(alert.reasons) + 40
    svg = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH} {height}",
            "width": str(WIDTH),
            "height": str(height),
            "role": "img",
            "font-family": "system-ui, -apple-system, 'Segoe UI', sans-serif",
        },
    )
    ElementTree.SubElement(svg, "title").text = _in_words(alert)
    _box(svg, (0.5, 0.5, WIDTH - 1, height - 1), _PAPER, radius=10, stroke=_LINE)
    _head(svg, alert, colour)
    _scores(svg, alert, colour)
    _reasons(svg, alert, colour)
    source = f"{alert.source_topic}:{alert.source_partition}:{alert.source_offset}"
    _text(svg, _MARGIN, height - 18, f"caused by {source} · model {alert.model} · policy {alert.policy}", 11, _QUIET)
    ElementTree.indent(svg)
    return ElementTree.tostring(svg, encoding="unicode") + "\n"


def _head(svg: ElementTree.Element, alert: Alert, colour: str) -> None:
    """Level, user, and since when the alert is open."""
    _box(svg, (_MARGIN, 22, 96, 30), colour, radius=6)
    _text(svg, _MARGIN + 48, 43, alert.level_to, 16, _PAPER, weight="700", anchor="middle")
    _text(svg, _MARGIN + 112, 43, alert.user_id, 18, _INK, weight="600")
    right = WIDTH - _MARGIN
    _text(svg, right, 36, f"alert open since {_day(alert.opened_at)}", 14, _INK, weight="600", anchor="end")
    change = "opened" if alert.kind == "opened" else f"{alert.kind} from {alert.level_from}"
    _text(svg, right, 54, f"{change} on {_day(alert.occurred_at)}", 12, _QUIET, anchor="end")


def _scores(svg: ElementTree.Element, alert: Alert, colour: str) -> None:
    """The score beside the user's usual one, and the days past due."""
    left, length = _MARGIN + 110, 370
    for y, name, value, fill in ((92, "score", alert.score, colour), (122, "usual", alert.baseline, _QUIET)):
        _text(svg, _MARGIN, y + 5, name, 13, _QUIET)
        _text(svg, _MARGIN + 48, y + 5, f"{value:.3f}", 15, _INK, weight="600")
        _box(svg, (left, y - 8, length, 16), "#f3f4f6", radius=3)
        _box(svg, (left, y - 8, max(2.0, round(length * value, 1)), 16), fill, radius=3)
    _text(svg, left, 150, "0", 11, _QUIET)
    _text(svg, left + length, 150, "1", 11, _QUIET, anchor="end")
    days = "–" if alert.days_past_due is None else f"{alert.days_past_due:.0f}"
    _text(svg, WIDTH - _MARGIN - 70, 112, days, 36, _INK, weight="700", anchor="middle")
    _text(svg, WIDTH - _MARGIN - 70, 134, "days past due", 13, _QUIET, anchor="middle")
    _box(svg, (_MARGIN, _HEAD_HEIGHT - 16, WIDTH - 2 * _MARGIN, 1), _LINE)


def _reasons(svg: ElementTree.Element, alert: Alert, colour: str) -> None:
    """A row per reason: its words and what it contributes."""
    _text(svg, _MARGIN, _HEAD_HEIGHT + 10, "because", 13, _QUIET)
    _text(svg, WIDTH - _MARGIN, _HEAD_HEIGHT + 10, "contribution, log-odds", 11, _QUIET, anchor="end")
    left = _MARGIN + _TEXT_WIDTH
    room = WIDTH - _MARGIN - left - 44
    most = max((reason.contribution for reason in alert.reasons), default=0.0) or 1.0
    for number, reason in enumerate(alert.reasons):
        y = _HEAD_HEIGHT + 38 + _ROW_HEIGHT * number
        _text(svg, _MARGIN, y, reason.text, 14, _INK)
        _box(svg, (left, y - 11, max(2.0, round(room * reason.contribution / most, 1)), 12), colour, radius=2)
        _text(svg, WIDTH - _MARGIN, y, f"{reason.contribution:+.2f}", 13, _INK, anchor="end")


def _in_words(alert: Alert) -> str:
    """What the picture shows, for who does not see it."""
    because = "; ".join(reason.text for reason in alert.reasons)
    days = "unknown" if alert.days_past_due is None else f"{alert.days_past_due:.0f}"
    return (
        f"{alert.user_id}: {alert.level_to} since {_day(alert.opened_at)}, score {alert.score:.3f}, "
        f"usual {alert.baseline:.3f}, days past due {days}, because {because}"
    )


def _day(moment: dt.datetime) -> str:
    return moment.date().isoformat()


def _box(
    svg: ElementTree.Element,
    place: tuple[float, float, float, float],
    fill: str,
    *,
    radius: int = 0,
    stroke: str = "none",
) -> None:
    x, y, width, height = place
    ElementTree.SubElement(
        svg,
        "rect",
        {
            "x": f"{x:g}",
            "y": f"{y:g}",
            "width": f"{width:g}",
            "height": f"{height:g}",
            "rx": str(radius),
            "fill": fill,
            "stroke": stroke,
        },
    )


def _text(
    svg: ElementTree.Element,
    x: float,
    y: float,
    words: str,
    size: int,
    fill: str,
    *,
    weight: str = "400",
    anchor: str = "start",
) -> None:
    ElementTree.SubElement(
        svg,
        "text",
        {
            "x": f"{x:g}",
            "y": f"{y:g}",
            "font-size": str(size),
            "font-weight": weight,
            "fill": fill,
            "text-anchor": anchor,
        },
    ).text = words
