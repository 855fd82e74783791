"""What pages of figures are made of: single figures, and tiles with a chart or a table."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

MOST_COLUMNS = 4


@dataclass(frozen=True)
class Figure:
    """One figure: its name, itself, and what stands below it."""

    name: str
    value: str
    under: str = ""


@dataclass(frozen=True)
class Link:
    """A cell that leads to a page of the desk."""

    address: str
    words: str


@dataclass(frozen=True)
class Tile:
    """A part of the page: a chart, a table, or `later`, the address of what comes after the page; `link` stands below
    the note."""

    title: str
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str | Link, ...], ...] = ()
    chart: Markup | None = None
    note: str = ""
    later: str = ""
    link: Link | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it takes a whole row of the page: its table has more columns than a part of one holds."""
        return len(self.heads) > MOST_COLUMNS
