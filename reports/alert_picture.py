"""One alert as a picture, as a collector may be shown it: level, score beside the usual one, days past due, reasons.

Pure: an alert record in, SVG text out. Reads no clock, no file and no network, and draws nothing that the record does
not hold.
"""

from __future__ import annotations

import datetime as dt

from model.presentation.drawing import Drawing, shortened, text_width
from stream.outputs import Alert, Level

WIDTH = 760.0
_MARGIN = 24.0
_HEAD_HEIGHT, _ROW_HEIGHT, _FOOT_HEIGHT = 210.0, 30.0, 40.0
_REASON_SIZE, _LEAST_BAR, _FIGURE_WIDTH, _GAP = 14.0, 90.0, 48.0, 12.0
_INK, _QUIET, _LINE, _TROUGH, _PAPER = "#1f2937", "#6b7280", "#d1d5db", "#f3f4f6", "#ffffff"
_COLOURS: dict[Level, str] = {"LOW": "#15803d", "MEDIUM": "#b45309", "HIGH": "#b91c1c"}


def alert_picture(alert: Alert) -> str:
    """The SVG of an alert that was opened or escalated. Equal records give equal text.

    Bars of the reasons are to scale among themselves (log-odds), those of score and usual score on a scale of 0 to 1.
    """
    drawing = Drawing(WIDTH, _HEAD_HEIGHT + _ROW_HEIGHT * len(alert.reasons) + _FOOT_HEIGHT)
    drawing.rectangle(0.5, 0.5, WIDTH - 1, drawing.height - 1, _PAPER, corner=10, outline=_LINE)
    colour = _COLOURS[alert.level_to]
    _head(drawing, alert, colour)
    _scores(drawing, alert, colour)
    _reasons(drawing, alert, colour)
    source = f"{alert.source_topic}:{alert.source_partition}:{alert.source_offset}"
    caused = f"caused by {source} · model {alert.model} · policy {alert.policy}"
    drawing.text(_MARGIN, drawing.height - 18, caused, size=11, colour=_QUIET)
    return drawing.document(_in_words(alert))


def _head(drawing: Drawing, alert: Alert, colour: str) -> None:
    """Level, user, and since when the alert is open."""
    right = WIDTH - _MARGIN
    since = drawing.text(right, 36, f"alert open since {_day(alert.opened_at)}", "end", size=14, bold=True, colour=_INK)
    change = "opened" if alert.kind == "opened" else f"{alert.kind} from {alert.level_from}"
    drawing.text(right, 54, f"{change} on {_day(alert.occurred_at)}", "end", colour=_QUIET)
    drawing.rectangle(_MARGIN, 22, 96, 30, colour, corner=6)
    drawing.text(_MARGIN + 48, 43, alert.level_to, "middle", size=16, bold=True, colour=_PAPER)
    left = _MARGIN + 112
    name = shortened(alert.user_id, since.left - _GAP - left, 18, bold=True)
    drawing.text(left, 43, name, size=18, bold=True, colour=_INK)


def _scores(drawing: Drawing, alert: Alert, colour: str) -> None:
    """The score beside the user's usual one, and the days past due."""
    left, length = _MARGIN + 110, 370.0
    for y, name, value, fill in ((92, "score", alert.score, colour), (122, "usual", alert.baseline, _QUIET)):
        drawing.text(_MARGIN, y + 5, name, size=13, colour=_QUIET)
        drawing.text(_MARGIN + 48, y + 5, f"{value:.3f}", size=15, bold=True, colour=_INK)
        drawing.rectangle(left, y - 8, length, 16, _TROUGH, corner=3)
        drawing.rectangle(left, y - 8, max(2.0, length * value), 16, fill, corner=3)
    drawing.text(left, 150, "0", size=11, colour=_QUIET)
    drawing.text(left + length, 150, "1", "end", size=11, colour=_QUIET)
    days = "–" if alert.days_past_due is None else f"{alert.days_past_due:.0f}"
    middle = WIDTH - _MARGIN - 70
    drawing.text(middle, 112, days, "middle", size=36, bold=True, colour=_INK)
    drawing.text(middle, 134, "days past due", "middle", size=13, colour=_QUIET)
    drawing.line(_MARGIN, 166, WIDTH - _MARGIN, 166, _LINE, thickness=1.0)


def _reasons(drawing: Drawing, alert: Alert, colour: str) -> None:
    """A row per reason: its words, a bar and the figure of what it contributes."""
    right = WIDTH - _MARGIN
    drawing.text(_MARGIN, 192, "because", size=13, colour=_QUIET)
    drawing.text(right, 192, "contribution, log-odds", "end", size=11, colour=_QUIET)
    longest = max((text_width(reason.text, _REASON_SIZE) for reason in alert.reasons), default=0.0)
    end = right - _FIGURE_WIDTH
    left = min(_MARGIN + longest + _GAP, end - _LEAST_BAR)
    most = max((reason.contribution for reason in alert.reasons), default=0.0) or 1.0
    for number, reason in enumerate(alert.reasons):
        y = _HEAD_HEIGHT + 10 + _ROW_HEIGHT * number
        words = shortened(reason.text, left - _GAP - _MARGIN + 0.1, _REASON_SIZE)
        drawing.text(_MARGIN, y, words, size=_REASON_SIZE, colour=_INK)
        length = (end - left) * reason.contribution / most
        drawing.rectangle(left, y - 11, max(2.0, length), 12, colour, corner=2)
        drawing.text(right, y, f"{reason.contribution:+.2f}", "end", size=13, colour=_INK)


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
