"""Charts of what happens over time."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.presentation.charts import ORANGE
from model.presentation.courses import Band, Line, course, stacks

DATES = [(0.0, "1 Jan"), (10.0, "11 Jan")]
BANDS = [Band("Medium", 0.1, 0.4, "#b7791f", 0.1), Band("High", 0.4, 1.0, ORANGE, 0.1)]


def labels(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_a_course_shows_lines_bands_and_moments() -> None:
    svg = course("score", [Line("score", [(0.0, 0.05), (10.0, 0.6)])], BANDS, DATES, marks=[(5.0, "opened")])
    assert {"score", "Medium", "High", "opened", "1 Jan", "11 Jan"} <= set(labels(svg))
    assert svg.count("<polyline") == 1


def test_a_low_course_reaches_into_the_lowest_band_only() -> None:
    svg = course("score", [Line("score", [(0.0, 0.01), (10.0, 0.02)])], BANDS, DATES)
    assert "High" not in labels(svg)


def test_a_course_without_a_point_is_an_error() -> None:
    with pytest.raises(ValueError, match="no point to draw"):
        course("score", [Line("score", [])], BANDS, DATES)


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1)), min_size=1, max_size=20),
    st.sampled_from((340.0, 900.0)),
)
def test_all_points_lie_inside(points: list[tuple[float, float]], width: float) -> None:
    root = ElementTree.fromstring(
        course("score", [Line("score", sorted(points))], BANDS, DATES, width=width, left=80.0)
    )
    height = float(root.attrib["viewBox"].split()[3])
    line = next(one for one in root.iter() if one.tag.endswith("polyline"))
    for pair in line.attrib["points"].split():
        x, y = map(float, pair.split(","))
        assert 79.9 <= x <= width
        assert -0.1 <= y <= height


def test_stacks_stand_on_one_another() -> None:
    svg = stacks(
        "alerts", ["1 Jan", "2 Jan"], {"Medium": ("#111111", [2, 0]), "High": ("#222222", [1, 3])}, width=400.0
    )
    boxes = re.findall(
        r'<rect x="([\d.]+)" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"[^>]*fill="(#\w+)"[^>]*><title>', svg
    )
    (x1, y1, h1, c1), (x2, y2, h2, c2), (_, _, h3, c3) = boxes
    assert (c1, c2, c3) == ("#111111", "#222222", "#222222")
    assert x1 == x2
    assert float(y2) + float(h2) == pytest.approx(float(y1), abs=0.11)
    assert float(h1) == pytest.approx(2 * float(h2), abs=0.2)
    assert float(h3) == pytest.approx(3 * float(h2), abs=0.2)


@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_any_counts_are_drawn(counts: list[int]) -> None:
    names = [f"day {number}" for number in range(len(counts))]
    root = ElementTree.fromstring(stacks("alerts", names, {"High": (ORANGE, counts)}, width=420.0))
    titles = [one for one in root.iter() if one.tag.endswith("title")]
    assert len(titles) == sum(count > 0 for count in counts)


def test_charts_keep_to_a_strict_policy() -> None:
    """A page whose policy allows styles of files alone shows them as they are: attributes, no style."""
    drawn = course("score", [Line("score", [(0.0, 0.05), (10.0, 0.6)])], BANDS, DATES)
    drawn += stacks("alerts", ["1 Jan"], {"High": (ORANGE, [1])}, width=420.0)
    assert re.findall(r"\sstyle=|<style|<script|\son\w+=|url\(", drawn) == []
