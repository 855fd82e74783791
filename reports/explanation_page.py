"""An explanation as a page of HTML: the score over time, attention as a heat map, and what would change the score.

One file without scripts, fonts or anything fetched: it can be mailed. Pure text; reads and sends nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from html import escape

import numpy as np

from events.reasons import CATALOGUE
from events.types import KINDS, Event
from model.explanation.explain import Explanation, Influence

WIDTH = 900
LEFT = 120
RIGHT = 20
CURVE_HEIGHT = 180
CELL_HEIGHT = 30
MOST_CELLS = 60
BAR_WIDTH = 160
EVEN = 1.01
"""Where the largest share of attention is below this many times the smallest, all events are attended to alike."""
INK = "#6b7280"
LINE = "#2563eb"
ALARM = "#c2410c"
HEAT = "#c2410c"
CALM = "#0f766e"

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #8884}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}svg{width:100%;height:auto}small{color:#6b7280}"
)


def page(user_id: str, model: str, explanation: Explanation) -> str:
    """The whole page. `model` is the bundle's fingerprint."""
    last = explanation.events[-1]
    title = f"Why {user_id} scores {explanation.score:.1%}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>After {len(explanation.events):,} events, the last a {escape(sort_of(last))} on "
        f"{_date(last.occurred_at)}. An alert of level MEDIUM is called for from {explanation.threshold:.1%} on. "
        f"<small>Model {escape(model)}.</small></p>",
        "<h2>Score after each event</h2>",
        _curve(explanation),
        "<h2>Where attention goes</h2>",
        "<p>Share of the attention over all the user's events of a kind, by time; the darker, the more. What each "
        "event did to the score is below: attention tells where the model looks, not what it makes of it.</p>",
        _heat_map(explanation),
        *(f"<p>{escape(text)}</p>" for text in [even_attention_text(explanation)] if text),
        "<h2>Without a cause</h2>",
        _causes(explanation),
        "<h2>What would undo it</h2>",
        f"<p>{escape(counterfactual_text(explanation))}</p>",
        "<h2>Recent events, one by one</h2>",
        "<p>The score without the event, and had it been the user's usual one of its sort. Bars show the change: "
        "to the right the event raises the score, to the left it lowers it.</p>",
        _influences(explanation),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def sort_of(event: Event) -> str:
    """What kind of event it is, in a few words."""
    words = {"repayments": "repayment", "transactions": "transaction", "activity": "activity", "profiles": "profile"}
    detail = getattr(event, "kind", None) or getattr(event, "category", None)
    return f"{words[event.KIND]} ({detail})" if detail else words[event.KIND]


def said(event: Event) -> str:
    """The event's numbers in words, as far as they are known."""
    values = {
        "amount": "amount",
        "amount_due": "due",
        "amount_paid": "paid",
        "days_past_due": "days past due",
        "balance_after": "balance",
        "credit_limit": "limit",
        "count": "count",
    }
    known = [(word, getattr(event, name, None)) for name, word in values.items()]
    return ", ".join(f"{word} {value:,.10g}" for word, value in known if value is not None)


def counterfactual_text(explanation: Explanation) -> str:
    """Which causes, or which events left out, bring the score below the threshold."""
    if explanation.counterfactual is None:
        return f"The score is below {explanation.threshold:.1%}: there is nothing to undo."
    enough = [cause.code for cause in explanation.causes if cause.score < explanation.threshold]
    text = f"Below {explanation.threshold:.1%} without: {', '.join(enough)}." if enough else "No cause alone suffices."
    counterfactual = explanation.counterfactual
    events = [explanation.events[position] for position in counterfactual.positions]
    if not events:
        return f"{text} Leaving out any recent event does not lower the score."
    names = ", ".join(f"{sort_of(event)} of {_date(event.occurred_at)}" for event in events)
    verdict = "the score would be" if counterfactual.suffices else "the score would still be"
    return f"{text} Had these recent events not been, {verdict} {counterfactual.score:.1%}: {names}."


def even_attention_text(explanation: Explanation) -> str:
    """What to say where the model attends to every event alike; empty where it does not."""
    even = [
        kind
        for kind, shares in explanation.attention.items()
        if kind != "profiles" and len(shares) > 1 and shares.max() < EVEN * shares.min()
    ]
    if not even:
        return ""
    return f"This model pays the same attention to each of these {' and '.join(even)} events: it tells nothing here."


def _date(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).strftime("%Y-%m-%d")


def _times_s(events: Sequence[Event]) -> list[float]:
    return [event.occurred_at.timestamp() for event in events]


def _place(at_s: float, first_s: float, last_s: float) -> float:
    share = (at_s - first_s) / (last_s - first_s) if last_s > first_s else 0.5
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _curve(explanation: Explanation) -> str:
    times = _times_s(explanation.events)
    first, last = min(times), max(times)
    top = max(float(explanation.scores.max()), explanation.threshold) * 1.05

    def height(score: float) -> float:
        return 10 + CURVE_HEIGHT * (1 - score / top)

    points = " ".join(
        f"{_place(at, first, last):.1f},{height(score):.1f}"
        for at, score in zip(times, explanation.scores.tolist(), strict=True)
    )
    bar = height(explanation.threshold)
    parts = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bar:.1f}" y2="{bar:.1f}" stroke="{ALARM}" '
        'stroke-dasharray="5 4"/>',
        _text(LEFT - 8, bar + 4, f"MEDIUM {explanation.threshold:.0%}", "end"),
        _text(LEFT - 8, height(0) + 4, "0 %", "end"),
        f'<polyline points="{points}" fill="none" stroke="{LINE}" stroke-width="2"/>',
        *_dates(first, last, CURVE_HEIGHT + 30),
    ]
    return _svg(CURVE_HEIGHT + 40, "score over time", parts)


def _heat_map(explanation: Explanation) -> str:
    """A row of cells per kind, equal spans of time; a cell's opacity is its share over the largest share of its row."""
    times = _times_s(explanation.events)
    first, last = min(times), max(times)
    kinds = [kind for kind in KINDS if kind != "profiles" and len(explanation.attention[kind])]
    cells = min(MOST_CELLS, max(1, len(explanation.events)))
    width = (WIDTH - LEFT - RIGHT) / cells
    parts = []
    for row, kind in enumerate(kinds):
        at = np.array([time for time, event in zip(times, explanation.events, strict=True) if kind == event.KIND])
        span = last - first
        cell = np.minimum(((at - first) / span * cells).astype(int), cells - 1) if span > 0 else np.zeros(len(at), int)
        shares = np.bincount(cell, weights=explanation.attention[kind], minlength=cells)
        counts = np.bincount(cell, minlength=cells)
        y = row * (CELL_HEIGHT + 6)
        parts.append(_text(LEFT - 8, y + CELL_HEIGHT / 2 + 5, kind, "end"))
        for number in np.flatnonzero(counts).tolist():
            begin = dt.datetime.fromtimestamp(first + span * number / cells, dt.UTC)
            label = f"{kind} from {_date(begin)}: {shares[number]:.1%} of attention, {counts[number]} events"
            parts.append(
                f'<rect x="{LEFT + number * width:.1f}" y="{y}" width="{width:.1f}" height="{CELL_HEIGHT}" '
                f'fill="{HEAT}" fill-opacity="{max(float(shares[number] / shares.max()), 0.03):.2f}">'
                f"<title>{escape(label)}</title></rect>"
            )
    bottom = len(kinds) * (CELL_HEIGHT + 6)
    return _svg(bottom + 30, "attention over time", [*parts, *_dates(first, last, bottom + 16)])


def _causes(explanation: Explanation) -> str:
    rows = [
        f"<tr><td>{escape(cause.code)}</td><td>{escape(CATALOGUE[cause.code].counterfactual)}</td>"
        f'<td class="n">{cause.score:.1%}</td><td>{_bar(explanation.score - cause.score)}</td></tr>'
        for cause in explanation.causes
    ]
    head = '<tr><th>cause</th><th>what is taken away</th><th class="n">score</th><th>change</th></tr>'
    return f"<table>{head}{''.join(rows)}</table>"


def _influences(explanation: Explanation) -> str:
    head = (
        '<tr><th>when</th><th>event</th><th class="n">attention</th><th class="n">without</th><th></th>'
        '<th class="n">as usual</th><th></th></tr>'
    )
    rows = [_influence(explanation.score, each) for each in explanation.recent]
    return f"<table>{head}{''.join(rows)}</table>"


def _influence(score: float, each: Influence) -> str:
    usual = "-" if each.normal is None else f"{each.normal:.1%}"
    usual_bar = "" if each.normal is None else _bar(score - each.normal)
    return (
        f"<tr><td>{_date(each.event.occurred_at)}</td><td>{escape(sort_of(each.event))}<br>"
        f"<small>{escape(said(each.event))}</small></td>"
        f'<td class="n">{each.attention:.1%}</td>'
        f'<td class="n">{each.dropped:.1%}</td><td>{_bar(score - each.dropped)}</td>'
        f'<td class="n">{usual}</td><td>{usual_bar}</td></tr>'
    )


def _bar(change: float) -> str:
    """A bar from the middle: to the right for what raised the score by `change`, to the left for what lowered it."""
    half = BAR_WIDTH / 2
    length = min(abs(change), 1.0) * half
    x, colour = (half, ALARM) if change > 0 else (half - length, CALM)
    return (
        f'<svg viewBox="0 0 {BAR_WIDTH} 12" style="width:{BAR_WIDTH}px" role="img" aria-label="{change:+.1%}">'
        f'<rect x="{x:.1f}" y="1" width="{max(length, 0.5):.1f}" height="10" fill="{colour}"/>'
        f'<line x1="{half}" x2="{half}" y1="0" y2="12" stroke="{INK}"/></svg>'
    )


def _dates(first_s: float, last_s: float, y: float) -> list[str]:
    moments = [first_s + (last_s - first_s) * step / 4 for step in range(5)] if last_s > first_s else [first_s]
    return [
        _text(_place(at, first_s, last_s), y, _date(dt.datetime.fromtimestamp(at, dt.UTC)), "middle") for at in moments
    ]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="12" fill="{INK}">{escape(text)}</text>'


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )
