"""The evidence as a PDF: a table over as many pages as it takes. Text in, bytes out; reads nothing else.

The fonts of every PDF reader hold the letters of western Europe; another character stands as its escape, `\\u0142`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4, landscape
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from events.text import printable

_SHARES = (0.13, 0.23, 0.15, 0.09, 0.30, 0.10)
"""Widths of the columns, of the page's."""

_TITLE = ParagraphStyle("title", fontName="Helvetica-Bold", fontSize=14, leading=18)
_QUIET = ParagraphStyle("quiet", fontName="Helvetica", fontSize=8, leading=11, textColor=colors.HexColor("#4f5b6b"))
_CELL = ParagraphStyle("cell", fontName="Helvetica", fontSize=7.5, leading=9.5, splitLongWords=True)
_HEAD = ParagraphStyle("head", parent=_CELL, fontName="Helvetica-Bold")
_LOOKS = TableStyle(
    [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, colors.HexColor("#d8dee6")),
        ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#eef1f5")),
        ("TOPPADDING", (0, 0), (-1, -1), 3),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
    ]
)


@dataclass(frozen=True)
class EvidenceFile:
    """What the document says. `rows` hold a cell for each of `heads`, each cell as lines; `page` names a page."""

    title: str
    what: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Sequence[str]]]
    page: Callable[[int], str]
    empty: str

    def render(self) -> bytes:
        """The bytes of the PDF."""
        kept = io.BytesIO()
        document = SimpleDocTemplate(
            kept, pagesize=landscape(A4), leftMargin=14 * mm, rightMargin=14 * mm, topMargin=14 * mm,
            bottomMargin=16 * mm, title=latin(self.title), author="Foreshock",
        )  # fmt: skip
        parts = [Paragraph(text(self.title), _TITLE), Paragraph(text(self.what), _QUIET), Spacer(1, 5 * mm)]
        parts.append(self._table(document.width) if self.rows else Paragraph(text(self.empty), _CELL))
        document.build(parts, onFirstPage=self._foot, onLaterPages=self._foot)
        return kept.getvalue()

    def _table(self, width: float) -> Table:
        rows = [[Paragraph(text(head), _HEAD) for head in self.heads]]
        for row in self.rows:
            rows.append([Paragraph("<br/>".join(text(line) for line in lines), _CELL) for lines in row])
        return Table(rows, [share * width for share in _SHARES], repeatRows=1, splitInRow=1, style=_LOOKS)

    def _foot(self, canvas: Canvas, document: SimpleDocTemplate) -> None:
        canvas.saveState()
        canvas.setFont("Helvetica", 8)
        canvas.drawRightString(landscape(A4)[0] - 14 * mm, 9 * mm, latin(self.page(document.page)))
        canvas.restoreState()


def latin(line: str) -> str:
    """The line in the letters of the font, what it lacks as an escape."""
    line = printable(line).replace("\u202f", " ")
    return "".join(each if each.encode("cp1252", "ignore") else each.encode("unicode_escape").decode() for each in line)


def text(line: str) -> str:
    """The line for a paragraph, which reads XML."""
    return escape(latin(line))
