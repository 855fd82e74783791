"""An explanation as one page of HTML: the score over time, attention as a heat map, and what would change the score.

Only puts the figures of `model.explanation.explain` into words and pictures; reads and sends nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from events.reasons import CATALOGUE
from events.types import KINDS, Event, Kind
from model.explanation.explain import Explanation
from model.presentation.charts import Cell, change_bar, heat_map, timeline
from reports.pages import date, render

MOST_CELLS = 60
PALEST = 0.03
"""Opacity of a cell whose events have no attention at all: it still shows that there are events."""
EVEN = 1.01
"""Where the largest share of attention is below this many times the smallest, all events are attended to alike."""
DAY_S = 86_400.0


def page(user_id: str, model: str, explanation: Explanation) -> str:
    """The whole page. `model` is the fingerprint of the bundle."""
    longest = max([abs(change) for change in _changes(explanation)] + [0.001])

    def bar(change: float) -> Markup:
        return Markup(change_bar(change, longest))

    return render(
        "explanation",
        title=f"Why {user_id} scores {explanation.score:.1%}",
        model=model,
        explanation=explanation,
        last=explanation.events[-1],
        curve=_curve(explanation),
        attention=_heat_map(explanation),
        even_attention=even_attention_text(explanation),
        counterfactual=counterfactual_text(explanation),
        longest=longest,
        bar=bar,
        sort_of=sort_of,
        said=said,
        without=_without,
    )


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
    """Without which causes, or without which recent events, the score would be below the threshold."""
    if explanation.counterfactual is None:
        return f"The score is below {explanation.threshold:.1%} already."
    enough = [cause.code for cause in explanation.causes if cause.score < explanation.threshold]
    text = f"Below {explanation.threshold:.1%} without: {', '.join(enough)}." if enough else "No cause alone suffices."
    counterfactual = explanation.counterfactual
    events = [explanation.events[position] for position in counterfactual.positions]
    if not events:
        return f"{text} Leaving out any recent event does not lower the score."
    names = ", ".join(f"{sort_of(event)} of {date(event.occurred_at)}" for event in events)
    verdict = "the score would be" if counterfactual.suffices else "the score would still be"
    return f"{text} Without these recent events, {verdict} {counterfactual.score:.1%}: {names}."


def even_attention_text(explanation: Explanation) -> str:
    """What to say where the model pays the same attention to every event of a kind; empty where it does not."""
    even = [
        kind
        for kind, shares in explanation.attention.items()
        if kind != "profiles" and len(shares) > 1 and shares.max() < EVEN * shares.min()
    ]
    if not even:
        return ""
    kinds = " and ".join(even)
    return f"This model pays the same attention to each of these {kinds} events: it tells nothing about them."


def _without(code: str) -> str:
    """How the history without a cause of the catalogue differs from the user's."""
    return CATALOGUE[code].counterfactual.replace("`", "")


def _changes(explanation: Explanation) -> list[float]:
    """Every change of the score that the page draws."""
    after = [cause.score for cause in explanation.causes]
    after += [score for each in explanation.recent for score in (each.dropped, each.normal) if score is not None]
    return [explanation.score - score for score in after]


def _times_s(events: Sequence[Event]) -> list[float]:
    return [event.occurred_at.timestamp() for event in events]


def _curve(explanation: Explanation) -> Markup:
    times = _times_s(explanation.events)
    points = list(zip(times, explanation.scores.tolist(), strict=True))
    name = f"MEDIUM {explanation.threshold:.0%}"
    return Markup(timeline("score over time", points, _dates(times), explanation.threshold, name))


def _heat_map(explanation: Explanation) -> Markup:
    """A row of cells per kind, equal spans of time; a cell's weight is its share over the largest share of its row."""
    times = _times_s(explanation.events)
    kinds = [kind for kind in KINDS if kind != "profiles" and len(explanation.attention[kind])]
    rows: dict[str, list[Cell]] = {kind: _cells(explanation, kind, times) for kind in kinds}
    return Markup(heat_map("attention over time", rows, (min(times), max(times)), _dates(times)))


def _cells(explanation: Explanation, kind: Kind, times: Sequence[float]) -> list[Cell]:
    first, last = min(times), max(times)
    number = min(MOST_CELLS, max(1, len(times)))
    at = np.array([time for time, event in zip(times, explanation.events, strict=True) if kind == event.KIND])
    span = last - first
    cell = np.minimum(((at - first) / span * number).astype(int), number - 1) if span > 0 else np.zeros(len(at), int)
    shares = np.bincount(cell, weights=explanation.attention[kind], minlength=number)
    counts = np.bincount(cell, minlength=number)
    return [
        Cell(
            each / number,
            (each + 1) / number,
            max(float(shares[each] / shares.max()), PALEST),
            f"{kind} from {_day(first + span * each / number)}: {shares[each]:.1%} of attention, {counts[each]} events",
        )
        for each in np.flatnonzero(counts).tolist()
    ]


def _dates(times: Sequence[float]) -> list[tuple[float, str]]:
    """Five moments from the first to the last event, fewer where they lie on fewer days, with their dates."""
    first, last = min(times), max(times)
    parts = min(4, int((last - first) / DAY_S))
    return (
        [(at := first + (last - first) * part / parts, _day(at)) for part in range(parts + 1)]
        if parts
        else [(first, _day(first))]
    )


def _day(at_s: float) -> str:
    return date(dt.datetime.fromtimestamp(at_s, dt.UTC))
