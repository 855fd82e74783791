from __future__ import annotations

import datetime as dt
from xml.etree import ElementTree

import pytest

from model.presentation.drawing import text_width
from reports.alert_picture import WIDTH, alert_picture
from stream.outputs import Alert, Reason

SVG = "{http://www.w3.org/2000/svg}"


def alert(**changes: object) -> Alert:
    values: dict[str, object] = {
        "transition_id": "t",
        "alert_id": "a",
        "user_id": "user <1> & co",
        "kind": "escalated",
        "occurred_at": dt.datetime(2026, 3, 4, tzinfo=dt.UTC),
        "opened_at": dt.datetime(2026, 2, 1, tzinfo=dt.UTC),
        "level_from": "MEDIUM",
        "level_to": "HIGH",
        "score": 0.8764,
        "baseline": 0.0312,
        "delta": 0.8452,
        "reference_pd": None,
        "days_past_due": 41.0,
        "triggers": ["level"],
        "reasons": [
            Reason(code="overdue", text="a payment is 41 days past due", contribution=4.0),
            Reason(code="near_limit", text="the balance has been close to the credit limit", contribution=1.0),
        ],
        "weighed_most": [],
        "sequence": 7,
        "source_topic": "repayments",
        "source_partition": 2,
        "source_offset": 99,
        "policy": "0123456789ab",
        "model": "0123456789abcdef",
    }
    return Alert(**(values | changes))  # type: ignore[arg-type]


def texts(svg: str) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def widths(svg: str, colour: str) -> list[float]:
    boxes = ElementTree.fromstring(svg).iter(f"{SVG}rect")
    return [float(one.attrib["width"]) for one in boxes if one.attrib["fill"] == colour]


def test_it_shows_what_a_collector_needs() -> None:
    found = texts(alert_picture(alert()))
    for words in (
        "HIGH",
        "user <1> & co",
        "alert open since 2026-02-01",
        "escalated from MEDIUM on 2026-03-04",
        "0.876",
        "0.031",
        "41",
        "days past due",
        "a payment is 41 days past due",
        "+4.00",
        "the balance has been close to the credit limit",
        "+1.00",
        "caused by repayments:2:99 · model 0123456789abcdef · policy 0123456789ab",
    ):
        assert words in found


def test_bars_are_to_scale() -> None:
    _level, score, first, second = widths(alert_picture(alert()), "#b91c1c")
    assert score == pytest.approx(0.8764 * 370, abs=0.1)
    assert first == pytest.approx(4 * second, abs=0.2)


@pytest.mark.parametrize("level", ["MEDIUM", "HIGH"])
def test_each_level_has_its_colour(level: str) -> None:
    other = {"MEDIUM": "#b91c1c", "HIGH": "#b45309"}[level]
    assert not widths(alert_picture(alert(level_to=level)), other)


def test_an_alert_without_days_past_due_or_reasons_is_drawn() -> None:
    svg = alert_picture(alert(days_past_due=None, reasons=[], kind="opened"))
    assert "–" in texts(svg)
    assert "opened on 2026-03-04" in texts(svg)
    assert ElementTree.fromstring(svg).attrib["width"] == f"{WIDTH:g}"


def test_who_does_not_see_it_is_told() -> None:
    title = ElementTree.fromstring(alert_picture(alert())).attrib["aria-label"]
    assert title.startswith("user <1> & co: HIGH since 2026-02-01, score 0.876, usual 0.031, days past due 41, because")


def test_long_words_are_cut_before_they_reach_what_stands_beside_them() -> None:
    reason = Reason(code="near_limit", text="the balance has been close to the credit limit " * 3, contribution=2.0)
    svg = alert_picture(alert(user_id="a-very-long-id-of-a-user-" * 4, reasons=[reason]))
    cut = [text for text in texts(svg) if text.endswith("…")]
    assert len(cut) == 2
    name, words = (
        next(one for one in ElementTree.fromstring(svg).iter(f"{SVG}text") if one.text == text) for text in cut
    )
    (bar,) = [one for one in ElementTree.fromstring(svg).iter(f"{SVG}rect") if one.attrib["height"] == "12.0"]
    assert float(words.attrib["x"]) + text_width(words.text or "", 14) <= float(bar.attrib["x"])
    since = text_width("alert open since 2026-02-01", 14, bold=True)
    assert float(name.attrib["x"]) + text_width(name.text or "", 18, bold=True) <= WIDTH - 24 - since
