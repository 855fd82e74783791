"""SVG text with labels that stay inside the picture: shapes, text of an estimated width, and the document around them.

No font is at hand where a picture is written, so widths are estimated for a wide sans-serif font, and a label is moved
or shortened until its estimated box lies inside the view box. Colours have enough contrast on white and on black.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal, NamedTuple, TypeAlias

Anchor: TypeAlias = Literal["start", "middle", "end"]

INK = "#6b7280"
FONT_SIZE = 12.0
HEADING_SIZE = 14.0
ASCENT, DESCENT = 0.95, 0.25
"""How far text reaches above and below its base line, in font sizes."""
SLANT_DEGREES = 32.0
PADDING = 2.0
"""Least distance of a label from the edge of the view box."""

_NARROW = frozenset("ijl.,:;'|!()[]")
_WIDE = frozenset("mwMW%@—…→≤≥±×")
_BOLD = 1.12
_THEME = ".label{fill:#4b5563}@media (prefers-color-scheme:dark){.label{fill:#c9d1d9}}"


class Box(NamedTuple):
    """A rectangle that a label needs at most, in units of the view box; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float


def text_width(text: str, size: float = FONT_SIZE, *, bold: bool = False) -> float:
    """Width of a line of text in a sans-serif font of `size`, rather too large than too small."""
    return sum(_em(character) for character in text) * size * (_BOLD if bold else 1.0)


def text_box(x: float, y: float, text: str, size: float, anchor: Anchor, *, bold: bool = False) -> Box:
    """The box of upright text whose base line is at `y`."""
    width = text_width(text, size, bold=bold)
    left = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
    return Box(left, y - ASCENT * size, left + width, y + DESCENT * size)


def slanted_box(x: float, y: float, text: str, size: float = FONT_SIZE) -> Box:
    """The box of text that ends at (`x`, `y`) and rises towards it by `SLANT_DEGREES`."""
    along, slant = text_width(text, size), math.radians(SLANT_DEGREES)
    corners = [(length, height * size) for length in (-along, 0.0) for height in (-ASCENT, DESCENT)]
    places = [
        (
            x + length * math.cos(slant) + height * math.sin(slant),
            y - length * math.sin(slant) + height * math.cos(slant),
        )
        for length, height in corners
    ]
    return Box(
        min(place[0] for place in places),
        min(place[1] for place in places),
        max(place[0] for place in places),
        max(place[1] for place in places),
    )


def shortened(text: str, room: float, size: float = FONT_SIZE, *, bold: bool = False) -> str:
    """`text`, or as much of its start as fits into `room` with an ellipsis; empty where not even that does."""
    if text_width(text, size, bold=bold) <= room:
        return text
    for length in range(len(text) - 1, 0, -1):
        candidate = f"{text[:length].rstrip()}…"
        if text_width(candidate, size, bold=bold) <= room:
            return candidate
    return ""


class Drawing:
    """A picture of `width` and `height`; shapes are drawn in the order in which they are added."""

    def __init__(self, width: float, height: float) -> None:
        self.width = width
        self.height = height
        self._parts: list[str] = []

    def line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        colour: str = INK,
        *,
        opacity: float = 1.0,
        thickness: float = 1.5,
        dashed: bool = False,
    ) -> None:
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{thickness:g}" opacity="{opacity:g}"{dashes}/>'
        )

    def rectangle(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        colour: str,
        *,
        opacity: float = 1.0,
        corner: float = 0.0,
        outline: str = "none",
        tooltip: str = "",
    ) -> None:
        opening = (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{corner:g}" '
            f'fill="{colour}" fill-opacity="{opacity:.2f}" stroke="{outline}"'
        )
        self._parts.append(f"{opening}><title>{escape(tooltip)}</title></rect>" if tooltip else f"{opening}/>")

    def circle(self, x: float, y: float, radius: float, colour: str) -> None:
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}"/>')

    def polyline(self, points: Iterable[tuple[float, float]], colour: str) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        anchor: Anchor = "start",
        *,
        size: float = FONT_SIZE,
        bold: bool = False,
        colour: str | None = None,
    ) -> Box:
        """Add a label, moved and shortened as far as its box would leave the picture; returns its box.

        Without a `colour`, the page or the theme of `document` decides.
        """
        text = shortened(text, self.width - 2 * PADDING, size, bold=bold)
        box = text_box(x, y, text, size, anchor, bold=bold)
        x += max(PADDING - box.left, 0.0) or min(self.width - PADDING - box.right, 0.0)
        y += max(PADDING - box.top, 0.0) or min(self.height - PADDING - box.bottom, 0.0)
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:g}"{weight} {_fill(colour)}>'
            f"{escape(text)}</text>"
        )
        return text_box(x, y, text, size, anchor, bold=bold)

    def slanted(self, x: float, y: float, text: str, size: float = FONT_SIZE) -> Box:
        """Add a label that ends at (`x`, `y`) and rises towards it, shortened as far as it would leave the picture."""
        while text:
            box = slanted_box(x, y, text, size)
            if box.left >= PADDING and box.bottom <= self.height - PADDING:
                break
            text = f"{text.removesuffix('…')[:-1].rstrip()}…" if len(text) > 2 else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="end" font-size="{size:g}" {_fill(None)} '
            f'transform="rotate({-SLANT_DEGREES:g} {x:.1f} {y:.1f})">{escape(text)}</text>'
        )
        return slanted_box(x, y, text, size)

    def heading(self, title: str) -> None:
        """The title at the top left."""
        self.text(PADDING, HEADING_SIZE + PADDING, title, size=HEADING_SIZE, bold=True)

    def inline(self, title: str) -> str:
        """The picture for a page of HTML, whose stylesheet may colour `.label`. `title` is for screen readers."""
        return self._document(title, "", ())

    def document(self, title: str) -> str:
        """The picture as a file of its own, with colours of text for light and for dark pages."""
        size = f' width="{self.width:g}" height="{self.height:g}"'
        return self._document(title, size, (f"<style>{_THEME}</style>",)) + "\n"

    def _document(self, title: str, size: str, before: Sequence[str]) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}"{size} role="img" '
            f'aria-label="{escape(title, quote=True)}" font-family="system-ui, sans-serif">'
        )
        return "\n".join([head, *before, *self._parts, "</svg>"])


def _fill(colour: str | None) -> str:
    return f'class="label" fill="{INK}"' if colour is None else f'fill="{colour}"'


def _em(character: str) -> float:
    """Width of a character in font sizes."""
    if character in _NARROW:
        return 0.42
    if character in _WIDE:
        return 1.02
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if character.isspace():
        return 0.36
    if character.isupper():
        return 0.82
    if ord(character) < 0x250:
        return 0.66
    return 0.95
