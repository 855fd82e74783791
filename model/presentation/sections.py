"""Sections of a document that code writes. Each stands between two comments that name it:

    <!-- NAME:begin -->
    <!-- NAME:end -->

Takes and returns text; the caller reads and writes the file.
"""

from __future__ import annotations


class SectionError(ValueError):
    """A document lacks the two marks of a section; the message names the document and the marks."""


def marks(name: str) -> tuple[str, str]:
    """The comments before and after the section `name`."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def with_section(document: str, name: str, content: str, where: str) -> str:
    """`document` with `content` between the marks of the section `name`; everything outside them stays as it is.

    `where` is the document's name for messages. Raises `SectionError` unless each mark is there exactly once, in order.
    """
    begin, end = marks(name)
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SectionError(f"{where} has no section between {begin} and {end}; put the two lines back")
    if document.count(begin) > 1 or document.count(end) > 1:
        raise SectionError(f"{where} has more than one section between {begin} and {end}; leave one")
    return f"{before}{begin}\n\n{content.strip()}\n\n{end}{after}"
