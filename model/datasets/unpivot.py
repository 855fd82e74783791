"""Wide tables: from a row with a column per period to a row per period. Works on cells; opens no file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from model.datasets.cell_dates import months_later
from model.datasets.cell_values import CellError, Reader, Row
from model.datasets.rules import Unpivot, as_rule, columns_of_rule


class Period(NamedTuple):
    """One of the rows that a wide row becomes: the number of its period, and its cells in the order of `names`."""

    number: int
    row: Row


class Unpivoting:
    """The compiled rule. `names` are the columns that fields read; `columns` those of the table that they need."""

    def __init__(self, rule: Unpivot, names: Sequence[str]) -> None:
        self._rule = rule
        self._numbers = rule.periods()
        self._wide = {name: rule.wide(name) for name in rule.columns if name in names}
        made = rule.made()
        self.made = [name for name in names if name in made]
        needed = dict.fromkeys(name for name in names if name not in made)
        if rule.start is not None and rule.date in names:
            needed |= dict.fromkeys(columns_of_rule(as_rule(rule.start)))
        for columns in self._wide.values():
            needed |= dict.fromkeys(columns)
        self.columns = list(needed)
        self.position = {column: position for position, column in enumerate(self.columns)}
        self._names = list(names)
        self._start: Reader | None = None

    def dated_from(self, start: Reader) -> None:
        """The reader of the first period's date, on rows of the table."""
        self._start = start

    def column_of(self, name: str, number: int) -> str:
        """What the table calls a column of a period, for messages."""
        wide = self._wide.get(name)
        return name if wide is None else f"{wide[self._numbers.index(number)]} ({name})"

    def periods(self, row: Row) -> Iterator[Period]:
        """The rows of a wide row. Raises `CellError`."""
        start: dt.date | None = self._start(row) if self._start is not None else None
        sources = [self._wide.get(name) for name in self._names]
        for place, number in enumerate(self._numbers):
            cells: list[object] = []
            for name, wide in zip(self._names, sources, strict=True):
                if wide is not None:
                    cells.append(row[self.position[wide[place]]])
                elif name == self._rule.number:
                    cells.append(number)
                elif name == self._rule.date:
                    cells.append(None if start is None else self._date(start, place))
                else:
                    cells.append(row[self.position[name]])
            yield Period(number, cells)

    def _date(self, start: dt.date, place: int) -> dt.date:
        try:
            if self._rule.step_days is not None:
                return start + dt.timedelta(days=place * self._rule.step_days)
            return months_later(start, place * (self._rule.step_months or 1))
        except (ValueError, OverflowError):
            raise CellError(self._rule.date or "", f"{place} steps from {start} are outside the calendar") from None
