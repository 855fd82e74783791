"""Pictures are well-formed SVG that shows what it was given, in proportion, and asks for nothing from elsewhere."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from reports.charts import RECENT, REFERENCE, Estimate, by_label, calibration, shares

SVG = "{http://www.w3.org/2000/svg}"


def test_columns_are_in_proportion() -> None:
    picture = shares("x <&>", ["a", "b"], [0.25, 0.75], [0.5, 0.5])
    reference, recent = [
        [float(rect.get("height", 0)) for rect in ElementTree.fromstring(picture).iter(f"{SVG}rect")
         if rect.get("fill") == colour and rect.get("width") != "10"]
        for colour in (REFERENCE, RECENT)
    ]  # fmt: skip
    assert reference[1] == pytest.approx(3 * reference[0], abs=0.2)
    assert recent[0] == recent[1] == pytest.approx(2 * reference[0], abs=0.2)
    assert "x <&>" in [text.text for text in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def test_an_interval_surrounds_its_estimate() -> None:
    picture = by_label("AUC", [Estimate("2023-01", 0.8, 0.7, 0.85), Estimate("2023-02", None, None, None)], level=0.75)
    root = ElementTree.fromstring(picture)
    (circle,) = root.iter(f"{SVG}circle")
    (whisker,) = [line for line in root.iter(f"{SVG}line") if line.get("stroke") == RECENT]
    low, middle, high = (float(value or 0) for value in (whisker.get("y1"), circle.get("cy"), whisker.get("y2")))
    assert low > middle > high
    assert (low - middle) == pytest.approx(2 * (middle - high), abs=0.3)


def test_calibration_draws_what_came_true_above_what_was_said() -> None:
    picture = calibration("c", [(0.01, Estimate("", 0.1, 0.05, 0.2)), (0.0, Estimate("", 0.0, 0.0, 0.01))])
    circles = list(ElementTree.fromstring(picture).iter(f"{SVG}circle"))
    assert len(circles) == 2
    assert float(circles[0].get("cy", 0)) < float(circles[1].get("cy", 0))


def test_nothing_to_draw_is_drawn() -> None:
    for picture in (shares("x", [], [], []), by_label("x", []), calibration("x", [])):
        ElementTree.fromstring(picture)
