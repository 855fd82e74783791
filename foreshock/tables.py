"""Tables of the commands: they fit the terminal, and are plain lines of full width in a pipe.

A terminal that is too narrow gets the first of these layouts that fits: headings on several lines; the column of prose
wrapped, or on lines of its own below each row; one line for each cell, headed by its column.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from foreshock.terminal import styled

GAP = 2
INDENT = 4
LEAST_PROSE = 40
"""Columns below which prose is not wrapped beside the other columns but below them: about seven words a line."""


@dataclass(frozen=True)
class Column:
    """A column: `numeric` is aligned right; `prose`, one column at most, may be wrapped or moved below the row."""

    heading: str
    numeric: bool = False
    prose: bool = False


@dataclass(frozen=True)
class Layout:
    """Columns that stand side by side: their numbers, their widths, and the blanks between them."""

    numbers: Sequence[int]
    widths: Sequence[int]
    gap: int = GAP

    @property
    def columns(self) -> int:
        """Width of a line."""
        return sum(self.widths) + self.gap * (len(self.widths) - 1)


class Table:
    """Rows of text below headings, to be printed by a console of `foreshock.terminal`."""

    def __init__(self, *columns: Column | str, title: str | None = None) -> None:
        self._columns = [Column(column) if isinstance(column, str) else column for column in columns]
        self._prose = next((number for number, column in enumerate(self._columns) if column.prose), None)
        self._title = title
        self._rows: list[list[Text]] = []

    def add_row(self, *cells: str | Text) -> None:
        """Add a row with one cell for each column; make a styled cell with `foreshock.terminal.styled`."""
        if len(cells) != len(self._columns):
            raise ValueError(f"a row of {len(self._columns)} columns has {len(cells)} cells")
        self._rows.append([styled(cell) if isinstance(cell, str) else cell for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._title is not None:
            yield from _fitted(styled(self._title, "italic"), options.max_width, console)
        for line in self._lines(console, options.max_width if console.is_terminal else None):
            line.rstrip()
            line.no_wrap, line.overflow = True, "ignore"
            yield line

    def _lines(self, console: Console, columns: int | None) -> Iterator[Text]:
        everything = list(range(len(self._columns)))
        if columns is None:
            yield from self._grid(console, Layout(everything, self._widths(everything, heading_lines=1)))
            return
        if (layout := self._fitting(everything, columns)) is not None:
            yield from self._grid(console, layout)
            return
        others = [number for number in everything if number != self._prose]
        if self._prose is not None and others:
            if (layout := self._fitting(others, columns - GAP - LEAST_PROSE)) is not None:
                widths = list(layout.widths)
                widths.insert(self._prose, columns - layout.gap - layout.columns)
                yield from self._grid(console, Layout(everything, widths, layout.gap))
                return
            if (layout := self._fitting(others, columns)) is not None:
                yield from self._grid(console, layout, prose_columns=columns - INDENT)
                return
        yield from self._records(console, columns)

    def _fitting(self, numbers: Sequence[int], columns: int) -> Layout | None:
        """The columns `numbers`, the headings on as few lines as it takes to fit; None if they do not fit."""
        for heading_lines, gap in ((1, GAP), (2, GAP), (3, GAP), (3, 1)):
            layout = Layout(numbers, self._widths(numbers, heading_lines), gap)
            if layout.columns <= columns:
                return layout
        return None

    def _widths(self, numbers: Sequence[int], heading_lines: int) -> list[int]:
        headings = (_least_width(self._columns[number].heading, heading_lines) for number in numbers)
        return [
            max(heading, *(row[number].cell_len for row in self._rows), 0)
            for number, heading in zip(numbers, headings, strict=True)
        ]

    def _grid(self, console: Console, layout: Layout, *, prose_columns: int = 0) -> Iterator[Text]:
        """Aligned rows; with `prose_columns`, the prose that the layout leaves out stands on lines below its row."""

        def below(prose: Text) -> Iterator[Text]:
            for line in _fitted(prose, prose_columns, console) if prose else ():
                yield Text(" " * INDENT).append_text(line)

        headings = [styled(column.heading, "bold") for column in self._columns]
        if any(headings):
            yield from self._row(console, headings, layout, bottom=True)
            if prose_columns and self._prose is not None:
                yield from below(headings[self._prose])
        for row in self._rows:
            yield from self._row(console, row, layout)
            if prose_columns and self._prose is not None:
                yield from below(row[self._prose])

    def _row(self, console: Console, cells: Sequence[Text], layout: Layout, *, bottom: bool = False) -> Iterator[Text]:
        parts = [
            list(_fitted(cells[number], width, console))
            for number, width in zip(layout.numbers, layout.widths, strict=True)
        ]
        height = max(map(len, parts))
        for at in range(height):
            line = Text()
            for number, width, lines in zip(layout.numbers, layout.widths, parts, strict=True):
                index = at - (height - len(lines)) if bottom else at
                part = lines[index].copy() if 0 <= index < len(lines) else Text()
                part.align("right" if self._columns[number].numeric else "left", width)
                line.append(" " * layout.gap if line else "").append_text(part)
            yield line

    def _records(self, console: Console, columns: int) -> Iterator[Text]:
        """Each cell on a line of its own behind its heading."""
        for row in self._rows:
            for number, (column, cell) in enumerate(zip(self._columns, row, strict=True)):
                heading = styled(f"{column.heading}: " if column.heading else "", "bold")
                for at, line in enumerate(_fitted(Text.assemble(heading, cell), columns - 2 * INDENT, console)):
                    yield Text(" " * (INDENT * ((number > 0) + (at > 0)))).append_text(line)


def facts_table(rows: Iterable[tuple[str, str]], title: str | None = None) -> Table:
    """A table of names and what is said of each, without headings."""
    table = Table("", Column("", prose=True), title=title)
    for row in rows:
        table.add_row(*row)
    return table


def _least_width(heading: str, lines: int) -> int:
    """The least width in which a heading takes no more than `lines` lines."""
    words = heading.split()
    width = max(map(cell_len, words), default=0)
    while len(textwrap.wrap(heading, max(width, 1))) > lines:
        width += 1
    return width


def _fitted(text: Text, width: int, console: Console) -> Iterator[Text]:
    """The text in lines of at most `width` cells, broken between words where it can be."""
    if text.cell_len <= width:
        yield text
        return
    for line in text.wrap(console, width, overflow="fold"):
        line.rstrip()
        yield line


def bytes_text(count: float | None) -> str:
    """A number of bytes, to three digits or so; empty where it is not known."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1_000 or unit == "TB":
            break
        count /= 1_000
    return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
