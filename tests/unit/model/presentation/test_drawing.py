"""Estimated text is no narrower than real text, and labels stay inside the picture wherever they are put."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.presentation.drawing import Box, Drawing, shortened, slanted_box, text_box, text_width

WORDS = (
    "2024-12-31",
    "MEDIUM 25%",
    "transactions.counterparty_type",
    "1,234,567 events/s",
    "WWWWmmmm@@@@",
    "≤ 0.0001",
    "years since the last payment",
    "Ärger über Öl — naïve",
    "100%",
    "AUC PR-AUC KS",
)


def inside(box: Box, drawing: Drawing) -> bool:
    return 0 <= box.left <= box.right <= drawing.width and 0 <= box.top <= box.bottom <= drawing.height


@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.parametrize("text", WORDS)
def test_text_is_not_wider_than_it_is_taken_for(text: str, bold: bool) -> None:
    """DejaVu Sans is among the widest fonts that a browser takes for sans-serif."""
    fonts = pytest.importorskip("matplotlib.font_manager")
    loaded = pytest.importorskip("matplotlib.ft2font").FT2Font(
        fonts.findfont(fonts.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal"))
    )
    loaded.set_size(100, 72)
    loaded.set_text(text)
    width = loaded.get_width_height()[0] / 64
    assert width <= text_width(text, 100, bold=bold) <= 1.6 * width


def test_a_label_at_an_edge_is_moved_inwards() -> None:
    drawing = Drawing(200, 40)
    for x, anchor in ((0, "middle"), (0, "end"), (200, "middle"), (200, "start")):
        box = drawing.text(x, 20, "2024-12-31", anchor)
        assert inside(box, drawing)
        assert box.right - box.left == pytest.approx(text_width("2024-12-31"))
    middle = drawing.text(100, 20, "2024-12-31", "middle")
    assert middle == text_box(100, 20, "2024-12-31", 12, "middle"), "one that has room stays where it is"


@given(
    text=st.text(max_size=60),
    x=st.floats(-50, 350),
    y=st.floats(-50, 150),
    anchor=st.sampled_from(["start", "middle", "end"]),
    bold=st.booleans(),
)
def test_upright_labels_lie_inside(text: str, x: float, y: float, anchor: str, bold: bool) -> None:
    drawing = Drawing(300, 100)
    assert inside(drawing.text(x, y, text, anchor, bold=bold), drawing)  # type: ignore[arg-type]


@given(text=st.text(min_size=1, max_size=60), x=st.floats(20, 290), y=st.floats(40, 80))
def test_slanted_labels_lie_inside(text: str, x: float, y: float) -> None:
    drawing = Drawing(300, 100)
    box = drawing.slanted(x, y, text)
    assert box.left >= 0
    assert box.bottom <= drawing.height


def test_a_slanted_box_surrounds_its_end() -> None:
    box = slanted_box(100, 50, "2024-12")
    assert box.left < 100 <= box.right
    assert box.top < 50 < box.bottom


def test_too_long_a_label_ends_with_an_ellipsis() -> None:
    text = "transactions.counterparty_type"
    cut = shortened(text, 100)
    assert cut.endswith("…")
    assert text.startswith(cut[:-1])
    assert text_width(cut) <= 100
    assert shortened("short", 100) == "short"
    assert shortened("short", 1) == ""


def test_what_is_drawn_is_escaped_and_well_formed() -> None:
    nasty = '<script>alert("x")</script>&'
    drawing = Drawing(600, 100)
    drawing.heading(nasty)
    drawing.text(10, 60, nasty)
    drawing.slanted(400, 60, nasty)
    drawing.rectangle(0, 0, 10, 10, "#000", tooltip=nasty)
    for picture in (drawing.inline(nasty), drawing.document(nasty)):
        root = ElementTree.fromstring(picture)
        assert root.get("aria-label") == nasty
        assert root.get("viewBox") == "0 0 600 100"
        assert not [each for each in root.iter() if each.tag.endswith("script")]
