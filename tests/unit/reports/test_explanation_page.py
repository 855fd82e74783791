"""The page is well-formed, says what the figures say, and cannot be broken by what events contain."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np
import pytest

from events.types import Activity, Event, Repayment, Transaction
from model.explanation.explain import Cause, CounterfactualEvents, Explanation, Influence
from reports.explanation_page import counterfactual_text, even_attention_text, page, said, sort_of

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def event(day: float, category: str = "groceries") -> Transaction:
    at = START + dt.timedelta(days=day)
    return Transaction(event_id=f"t{day}", user_id="u", occurred_at=at, amount=-12.5, category=category)


def explanation(
    events: Sequence[Event], counterfactual: CounterfactualEvents | None = None, **changes: object
) -> Explanation:
    shares = np.array([0.7, *np.full(len(events) - 1, 0.3 / max(len(events) - 1, 1))])
    values: dict[str, object] = {
        "events": events,
        "scores": np.linspace(0.1, 0.6, len(events)).astype(np.float32),
        "threshold": 0.25,
        "attention": {
            "repayments": np.zeros(0),
            "transactions": shares,
            "activity": np.zeros(0),
            "profiles": np.zeros(0),
        },
        "recent": [Influence(len(events) - 1, events[-1], 0.3, 0.2, None)],
        "causes": [Cause("cash_out", 0.2), Cause("near_limit", 0.5)],
        "counterfactual": counterfactual,
    }
    return Explanation(**{**values, **changes})


SVG = "{http://www.w3.org/2000/svg}"


def parts(text: str) -> ElementTree.Element:
    """The body of the page as XML: of it, only the unclosed line break is not."""
    body = text.split("<body>")[1].split("</body>")[0].replace("<br>", "<br/>")
    return ElementTree.fromstring(f"<body>{body}</body>")


@pytest.mark.parametrize("number", [1, 2, 200])
def test_the_page_is_well_formed_and_complete(number: int) -> None:
    tree = parts(page("u", "ab12", explanation([event(day) for day in range(number)])))
    text = " ".join(tree.itertext())
    assert "cash_out" in text
    assert "near_limit" in text
    assert "20.0%" in text
    curve, heat = [tree.findall(f".//{SVG}svg[@aria-label='{name} over time']")[0] for name in ("score", "attention")]
    (line,) = curve.findall(f"{SVG}polyline")
    assert len(line.attrib["points"].split()) == number
    cells = [rect for rect in heat.findall(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    assert len(cells) == min(number, 60)
    opacity = [float(cell.attrib["fill-opacity"]) for cell in cells]
    assert max(opacity) == 1
    if number == 200:
        assert opacity[0] == 1, "the first event has most of the attention"
    for found in re.findall(r'(?:points|x|y|width)="([^"]*)"', page("u", "ab12", explanation([event(0), event(9)]))):
        assert "nan" not in found


def test_what_events_contain_cannot_break_the_page(nasty: str) -> None:
    text = page(nasty, "ab12", explanation([event(0, nasty), event(1, nasty)]))
    assert "<script>" not in text
    assert " ".join(parts(text).itertext()).count(nasty) == 3, "heading, last event, event in the table"


def test_what_would_lower_a_score_is_said() -> None:
    events = [event(0), event(1)]
    assert "is below 25.0% already" in counterfactual_text(explanation(events))
    enough = counterfactual_text(explanation(events, CounterfactualEvents((1,), 0.2, True)))
    assert enough.startswith("Below 25.0% without: cash_out.")
    assert "would be 20.0%: transaction (groceries) of 2024-01-02" in enough
    still = counterfactual_text(
        explanation(events, CounterfactualEvents((1,), 0.4, False), causes=[Cause("near_limit", 0.5)])
    )
    assert still.startswith("No cause alone suffices.")
    assert "would still be 40.0%" in still
    assert "does not lower" in counterfactual_text(explanation(events, CounterfactualEvents((), 0.6, False)))


def test_even_attention_is_told() -> None:
    events = [event(day) for day in range(4)]
    even = {"transactions": np.full(4, 0.25), "activity": np.array([1.0]), "repayments": np.zeros(0)}
    assert "transactions" in even_attention_text(explanation(events, attention=even))
    assert "activity" not in even_attention_text(explanation(events, attention=even))
    assert even_attention_text(explanation(events)) == ""


def test_events_in_a_few_words() -> None:
    assert sort_of(event(0)) == "transaction (groceries)"
    assert said(event(0)) == "amount -12.5"
    paid = Repayment(event_id="r", user_id="u", occurred_at=START, kind="paid", amount_due=1_234.5, days_past_due=0.0)
    assert (sort_of(paid), said(paid)) == ("repayment (paid)", "due 1,234.5, days past due 0")
    assert sort_of(Activity(event_id="a", user_id="u", occurred_at=START, kind="session")) == "activity (session)"
