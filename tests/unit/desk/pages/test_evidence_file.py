"""The evidence as a PDF."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from desk.pages.evidence_file import EvidenceFile, latin, text

HEADS = ["Borrower", "Indicator", "Trigger", "Owner", "Actions", "Outcome"]


def made(rows: list[list[list[str]]]) -> bytes:
    return EvidenceFile("Evidence", "Alerts of May", HEADS, rows, lambda number: f"Page {number}", "Nothing").render()


def pages(pdf: bytes) -> int:
    return len(re.findall(rb"/Type /Page\b", pdf))


def test_a_document_of_nothing_says_so() -> None:
    assert made([]).startswith(b"%PDF-")


def test_what_is_long_goes_over_pages() -> None:
    row = [["u1"], ["late"], ["level"], ["ann"], ["said: " + "word " * 60] * 20, ["Paid"]]
    assert pages(made([row])) > 2
    assert pages(made([[["u1"]] + [["x"]] * 5])) == 1


@settings(max_examples=30)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=3))
def test_any_text_makes_a_document(lines: list[str]) -> None:
    assert made([[lines] * 6]).startswith(b"%PDF-")


@given(st.text())
def test_what_the_font_lacks_is_an_escape(line: str) -> None:
    shown = latin(line)
    assert shown.encode("cp1252").decode("cp1252") == shown
    assert shown.isprintable()


def test_markup_is_text() -> None:
    assert text("<b>&amp;") == "&lt;b&gt;&amp;amp;"
    assert latin("Łódź, café – 5 €") == "\\u0141ód\\u017a, café – 5 €"
