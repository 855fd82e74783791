"""Pictures are well-formed SVG, in proportion, and say what they were given."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.pictures import LABEL_WIDTH, VALUE_WIDTH, WIDTH, Bar, bars, lines, short

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_in_proportion() -> None:
    root = ElementTree.fromstring(bars("a <title> & more", [Bar("first", 10, "10"), Bar("second", 2.5, "2.5 <", True)]))
    lengths = [float(rect.get("width", 0)) for rect in root.iter(f"{SVG}rect")]
    assert lengths == [WIDTH - LABEL_WIDTH - VALUE_WIDTH, (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / 4]
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts == ["a <title> & more", "first", "10", "second", "2.5 <"]


def test_no_bars_and_bars_of_nothing() -> None:
    ElementTree.fromstring(bars("none", []))
    ElementTree.fromstring(bars("zero", [Bar("zero", 0.0, "0")]))


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


def test_a_single_point_and_none() -> None:
    ElementTree.fromstring(lines("t", "x", "y", {"one": [(5.0, 0.0)]}))
    with pytest.raises(ValueError, match="no point"):
        lines("t", "x", "y", {"one": []})


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (12.5, "12.5"), (1_500, "1.5k"), (2_000_000, "2M"), (3e9, "3G")])
def test_scales_are_short(value: float, text: str) -> None:
    assert short(value) == text
