"""Charts are well-formed SVG that shows what it was given, in proportion; every label can be read whole."""

from __future__ import annotations

import datetime as dt
import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.presentation.charts import (
    GREY,
    ORANGE,
    Bar,
    Cell,
    Estimate,
    bars,
    calibration,
    change_bar,
    columns,
    estimates,
    heat_map,
    lines,
    nice_ticks,
    panels,
    short,
    timeline,
)
from model.presentation.drawing import SLANT_DEGREES, Box, slanted_box, text_box

SVG = "{http://www.w3.org/2000/svg}"
MONTHS = [f"{2023 + number // 12}-{number % 12 + 1:02}" for number in range(30)]
DATES = [(float(day), str(dt.date(2023, 12, 31) + dt.timedelta(days=day))) for day in range(0, 361, 90)]

EVERY = {
    "columns": columns("transactions.counterparty_type", ["missing", "unseen", "a_long_category_of_a_lender"] * 4,
                       {"reference": [0.1] * 12, "recent": [0.0, 1.0, 0.2] * 4}),
    "few columns": columns("x", ["a", "b"], {"reference": [0.25, 0.75], "recent": [0.5, 0.5]}),
    "estimates": estimates("AUC", [Estimate(month, 0.8, 0.7, 0.9) for month in MONTHS]),
    "few estimates": estimates("AUC", [Estimate(month, 0.8, 0.7, 0.9) for month in MONTHS[:3]], level=0.75),
    "calibration": calibration("Mean score and what came true", [(0.0004, Estimate("", 0.001, 0.0, 0.01))]),
    "bars": bars("Events per second", [Bar("a contender with a long name " * 4, 4e6, "4,000,000 events/s", True),
                                       Bar("b", 1.0, "1 event/s")]),
    "lines": lines("Twice the sustainable rate", "seconds", "events",
                   {"published": [(-4.16, 0.0), (24.8, 605_123.0)], "scored": [(3.0, 2.0)]}),
    "log lines": lines("t", "events behind the user", "µs per event",
                       {"median": [(10.0**power, 5.0) for power in range(1, 8)]}, log_x=True),
    "panels": panels("learning curves", [{"loss": [(epoch, 1 / epoch) for epoch in range(1, 61)]}, {"auc": []}],
                     last=60, missing="not known"),
    "timeline": timeline("score", [(0.0, 0.1), (360.0, 0.9)], DATES, 0.25, "MEDIUM 25%"),
    "one moment": timeline("score", [(0.0, 0.1)], DATES[:1], 0.25, "MEDIUM 25%"),
    "heat map": heat_map("attention", {"transactions": [Cell(0.0, 0.5, 1.0, "")]}, (0.0, 360.0), DATES),
    "empty": columns("x", [], {"reference": []}),
}  # fmt: skip


def labels(picture: str) -> list[tuple[str, Box, float]]:
    """Text, box and slant of every label."""
    found = []
    for each in ElementTree.fromstring(picture).iter(f"{SVG}text"):
        x, y, size = (float(each.get(name, "nan")) for name in ("x", "y", "font-size"))
        text, anchor, bold = each.text or "", each.get("text-anchor"), each.get("font-weight") is not None
        slant = each.get("transform")
        box = text_box(x, y, text, size, anchor, bold=bold) if slant is None else slanted_box(x, y, text, size)  # type: ignore[arg-type]
        found.append((text, box, 0.0 if slant is None else 1.0))
    return found


@pytest.mark.parametrize("name", EVERY)
def test_every_label_lies_inside_the_view_box(name: str) -> None:
    root = ElementTree.fromstring(EVERY[name])
    _, _, width, height = map(float, root.get("viewBox", "").split())
    assert labels(EVERY[name])
    for text, box, _ in labels(EVERY[name]):
        assert text, "no label is cut down to nothing"
        assert box.left >= -0.1, text
        assert box.right <= width + 0.1, text
        assert box.top >= -0.1, text
        assert box.bottom <= height + 0.1, text
    assert "nan" not in EVERY[name]


@pytest.mark.parametrize("name", EVERY)
def test_no_upright_labels_overlap(name: str) -> None:
    upright = [(text, box) for text, box, slant in labels(EVERY[name]) if not slant]
    for number, (text, box) in enumerate(upright):
        for other, beside in upright[number + 1 :]:
            apart = box.right <= beside.left or beside.right <= box.left or box.bottom <= beside.top + 3
            assert apart or beside.bottom <= box.top + 3, f"{text!r} and {other!r}"


@pytest.mark.parametrize("name", EVERY)
def test_no_slanted_labels_overlap(name: str) -> None:
    ends = [box.right for _, box, slant in labels(EVERY[name]) if slant]
    assert all((after - before) * math.sin(math.radians(SLANT_DEGREES)) >= 11.9 for before, after in pairwise(ends))


@pytest.mark.parametrize("name", EVERY)
def test_a_chart_asks_for_nothing_from_elsewhere(name: str) -> None:
    assert not re.search(r"<script|@import|url\(|href|https?://(?!www\.w3\.org/2000/svg)", EVERY[name])


@pytest.mark.parametrize("name", ["timeline", "heat map"])
def test_the_first_and_the_last_date_are_there(name: str) -> None:
    texts = [text for text, _, _ in labels(EVERY[name])]
    assert {"2023-12-31", "2024-12-25"} <= set(texts)


def test_columns_are_in_proportion() -> None:
    picture = columns("x <&>", ["a", "b"], {"reference": [0.25, 0.75], "recent": [0.5, 0.5]})
    reference, recent = [
        [float(rect.get("height", 0)) for rect in ElementTree.fromstring(picture).iter(f"{SVG}rect")
         if rect.get("fill") == colour and rect.get("width") != "10.0"]
        for colour in (GREY, ORANGE)
    ]  # fmt: skip
    assert reference[1] == pytest.approx(3 * reference[0], abs=0.2)
    assert recent[0] == recent[1] == pytest.approx(2 * reference[0], abs=0.2)
    assert "x <&>" in [text for text, _, _ in labels(picture)]


def test_an_interval_surrounds_its_estimate() -> None:
    picture = estimates("AUC", [Estimate("2023-01", 0.8, 0.7, 0.85), Estimate("2023-02", None, None, None)], level=0.75)
    root = ElementTree.fromstring(picture)
    (circle,) = root.iter(f"{SVG}circle")
    (whisker,) = [line for line in root.iter(f"{SVG}line") if line.get("stroke") == ORANGE]
    low, middle, high = (float(value or 0) for value in (whisker.get("y1"), circle.get("cy"), whisker.get("y2")))
    assert low > middle > high
    assert (low - middle) == pytest.approx(2 * (middle - high), abs=0.3)


def test_calibration_draws_what_came_true_above_what_was_said() -> None:
    picture = calibration("c", [(0.01, Estimate("", 0.1, 0.05, 0.2)), (0.0, Estimate("", 0.0, 0.0, 0.01))])
    circles = list(ElementTree.fromstring(picture).iter(f"{SVG}circle"))
    assert len(circles) == 2
    assert float(circles[0].get("cy", 0)) < float(circles[1].get("cy", 0))


def test_bars_are_in_proportion() -> None:
    root = ElementTree.fromstring(bars("a <title> & more", [Bar("first", 10, "10"), Bar("second", 2.5, "2.5 <", True)]))
    first, second = [float(rect.get("width", 0)) for rect in root.iter(f"{SVG}rect")]
    assert first == pytest.approx(4 * second, abs=0.2)
    assert first > 600
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts == ["a <title> & more", "first", "10", "second", "2.5 <"]


@pytest.mark.parametrize("log_x", [False, True])
def test_lines_run_from_edge_to_edge(log_x: bool) -> None:
    points = [(10.0, 0.0), (100.0, 5.0), (1_000.0, 10.0)]
    root = ElementTree.fromstring(lines("t", "x", "y", {"one": points, "two": points[:1]}, log_x=log_x))
    first = next(root.iter(f"{SVG}polyline")).get("points", "").split()
    xs = [float(pair.split(",")[0]) for pair in first]
    ys = [float(pair.split(",")[1]) for pair in first]
    assert len(xs) == 3
    assert (xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)) == log_x
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)


def test_time_runs_alike_in_timeline_and_heat_map() -> None:
    """So that a cell stands below the scores of its days."""
    places = [
        [
            each.get("x")
            for each in ElementTree.fromstring(EVERY[name]).iter(f"{SVG}text")
            if each.text in dict(DATES).values()
        ]
        for name in ("timeline", "heat map")
    ]
    assert places[0] == places[1]


def test_a_change_goes_to_the_right_for_a_rise() -> None:
    up, down, much = (
        next(ElementTree.fromstring(change_bar(change)).iter(f"{SVG}rect")) for change in (0.25, -0.25, 3.0)
    )
    assert (up.get("x"), down.get("x")) == ("80.0", "60.0")
    assert (up.get("width"), down.get("width"), much.get("width")) == ("20.0", "20.0", "80.0")


def test_nothing_to_draw_and_a_single_point_are_drawn() -> None:
    for picture in (
        columns("x", [], {}),
        estimates("x", []),
        calibration("x", []),
        bars("none", []),
        bars("zero", [Bar("zero", 0.0, "0")]),
        lines("t", "x", "y", {"one": [(5.0, 0.0)]}),
        panels("p", [{"a": []}], last=0, missing="not known"),
    ):
        ElementTree.fromstring(picture)
    with pytest.raises(ValueError, match="no point"):
        lines("t", "x", "y", {"one": []})


@given(low=st.floats(-1e9, 1e9), size=st.floats(1e-6, 1e9))
def test_ticks_are_few_even_and_surround_the_range(low: float, size: float) -> None:
    high = low + size
    ticks = nice_ticks(low, high)
    if high - low < 1e-9 * max(abs(low), abs(high)):
        return  # closer together than numbers of that size can be told apart
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-6 * step
    assert ticks[-1] >= high - 1e-6 * step
    assert all(math.isclose(after - before, step, rel_tol=1e-3) for before, after in pairwise(ticks))


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (12.5, "12.5"), (1_500, "1.5k"), (2_000_000, "2M"), (3e9, "3G")])
def test_scales_are_short(value: float, text: str) -> None:
    assert short(value) == text
