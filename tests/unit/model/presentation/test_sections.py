"""Only what stands between the marks of one section is replaced."""

from __future__ import annotations

import pytest

from model.presentation.sections import SectionError, marks, with_section

BEGIN, END = marks("figures")


def test_what_is_outside_the_marks_stays() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    written = with_section(document, "figures", "\nnew\n\n", "x.md")
    assert written == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert with_section(written, "figures", "new", "x.md") == written


def test_each_section_has_its_own_marks() -> None:
    other, other_end = marks("others")
    document = f"{other}\nkept\n{other_end}\n{BEGIN}\n{END}\n"
    assert with_section(document, "figures", "new", "x.md") == f"{other}\nkept\n{other_end}\n{BEGIN}\n\nnew\n\n{END}\n"


@pytest.mark.parametrize("document", ["", BEGIN, END, f"{END}{BEGIN}"])
def test_a_document_without_both_marks_in_order_is_refused(document: str) -> None:
    with pytest.raises(SectionError, match=r"x\.md has no section between .*figures:begin"):
        with_section(document, "figures", "new", "x.md")


def test_a_document_with_two_such_sections_is_refused() -> None:
    with pytest.raises(SectionError, match=r"x\.md has more than one section"):
        with_section(f"{BEGIN}{END}" * 2, "figures", "new", "x.md")
