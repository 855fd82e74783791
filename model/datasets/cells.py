"""Cells: from the cells of a table's row to the values of fields, by the rules of a mapping.

Works on text (CSV) and on typed values (Parquet). Compiles each rule once; opens no file.
"""

from __future__ import annotations

import datetime as dt
import math
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from model.datasets.cell_dates import date_reader, days_between_reader
from model.datasets.cell_values import (
    CellError,
    Reader,
    Row,
    Style,
    Unreadable,
    identifier_reader,
    joined,
    key_of,
    number_reader,
    text_reader,
    whole_reader,
    written,
)
from model.datasets.rules import (
    Band,
    Condition,
    FieldType,
    Rule,
    Section,
    Sign,
    Value,
    as_rule,
    columns_of,
    rule_of,
)
from model.datasets.unpivot import Unpivoting


class SectionReader:
    """The compiled rules of a section: `columns` to read from its tables, `periods(row)` into which a row falls,
    `wanted(row)`, and `fields(row)` by field name. Raises `CellError` where a rule cannot be compiled."""

    def __init__(self, section: Section, types: Mapping[str, FieldType], style: Style) -> None:
        self._style = style
        names = columns_of(section)
        self._unpivot: Unpivoting | None = None
        self.columns, self.made = names, list[str]()
        if section.unpivot is not None:
            self._unpivot = Unpivoting(section.unpivot, names)
            self.columns, self.made = self._unpivot.columns, self._unpivot.made
            if section.unpivot.start is not None and section.unpivot.date in names:
                # The first date is read from the table's row, everything else from those that it becomes.
                self._position = self._unpivot.position
                self._unpivot.dated_from(self._value(as_rule(section.unpivot.start), "day", style))
        self._position = {column: position for position, column in enumerate(names)}
        self._conditions = [self._condition(condition) for condition in section.where or ()]
        self._readers = [(name, self._field(name, section, types[name])) for name in section.fields]

    def periods(self, row: Row) -> Iterator[tuple[int | None, Row]]:
        """The rows that a table's row stands for, with the number of the period: itself, but for a wide table."""
        return iter(((None, row),)) if self._unpivot is None else self._unpivot.periods(row)

    def column_of(self, column: str, number: int | None) -> str:
        """What the table calls a column of a period, for messages."""
        return column if self._unpivot is None or number is None else self._unpivot.column_of(column, number)

    def wanted(self, row: Row) -> bool:
        """Whether the section's conditions hold for a row."""
        return all(condition(row) for condition in self._conditions)

    def fields(self, row: Row) -> dict[str, Any]:
        """Values by field name, None where missing. Raises `CellError`."""
        return {name: read(row) for name, read in self._readers}

    def _field(self, name: str, section: Section, kind: FieldType) -> Reader:
        rule = rule_of(section, name)
        assert rule is not None
        return self._value(rule, kind, self._style)

    def _value(self, rule: Rule, kind: FieldType, style: Style) -> Reader:
        """A rule's values, None where its conditions fail."""
        read = self._source(rule, kind, style)
        if not rule.where:
            return read
        conditions = [self._condition(condition) for condition in rule.where]
        return lambda row: read(row) if all(condition(row) for condition in conditions) else None

    def _source(self, rule: Rule, kind: FieldType, style: Style) -> Reader:
        style = style.with_missing(rule.missing)
        if kind in ("moment", "day"):
            return date_reader(rule, partial(self._cell, style=style), style, whole_days=kind == "day")
        if rule.constant is not None:
            fixed = written(rule.constant) if kind in ("text", "choice") else rule.constant
            return lambda _: fixed
        if kind in ("identifier", "optional identifier"):
            return self._identifier(rule, style, required=kind == "identifier")
        if rule.sum is not None:
            return _scaled(rule, self._sum(rule, style), self._sign(rule.sign))
        if rule.days_between is not None:
            start, end = (as_rule(rule.days_between.start), as_rule(rule.days_between.end))
            days = days_between_reader(self._value(start, "day", style), self._value(end, "day", style))
            return whole_reader("", days) if kind == "integer" else _scaled(rule, days, self._sign(rule.sign))
        assert rule.column is not None
        return self._of_column(rule, rule.column, kind, style)

    def _of_column(self, rule: Rule, column: str, kind: FieldType, style: Style) -> Reader:
        cell = self._cell(column, style)
        if rule.map is not None:
            if kind not in ("number", "integer"):
                return _mapped(rule, column, cell, style, written)
            number = number_reader(column, lambda raw: raw, style)
            mapped = _mapped(rule, column, cell, style, number)
            return whole_reader(column, mapped) if kind == "integer" else _scaled(rule, mapped, self._sign(rule.sign))
        if rule.bands is not None:
            return _banded(rule.bands, number_reader(column, cell, style))
        if kind == "number":
            return _scaled(rule, number_reader(column, cell, style), self._sign(rule.sign))
        if kind == "integer":
            return whole_reader(column, number_reader(column, cell, style))
        return text_reader(cell, column, style)

    def _identifier(self, rule: Rule, style: Style, *, required: bool) -> Reader:
        prefix = rule.prefix or ""
        if rule.join is not None:
            # A part that is missing would make one id of several.
            parts = [identifier_reader(self._cell(each), each, style, "", required=True) for each in rule.join]
            return joined(parts, prefix)
        column = rule.column or ""
        return identifier_reader(self._cell(column, style), column, style, prefix, required=required)

    def _cell(self, column: str, style: Style | None = None) -> Reader:
        position, missing = self._position[column], (style or self._style).missing_keys()

        def read(row: Row) -> Any:
            cell = row[position]
            if isinstance(cell, Unreadable):
                if cell.text in missing:
                    return None
                raise CellError(column, cell.told)
            return cell

        return read

    def _sum(self, rule: Rule, style: Style) -> Reader:
        terms = [(term.scale, number_reader(term.column, self._cell(term.column), style)) for term in rule.sum or ()]

        def read(row: Row) -> float | None:
            known = [scale * value for scale, number in terms if (value := number(row)) is not None]
            return math.fsum(known) if known else None

        return read

    def _sign(self, sign: Sign | None) -> Reader | None:
        if sign is None:
            return None
        cell, column = self._cell(sign.column), sign.column
        signs = {key_of(value): -1.0 for value in sign.negative}
        both = [value for value in sign.positive if key_of(value) in signs]
        if both:
            raise CellError(column, f"{both[0]!r} is under negative and under positive; leave one out")
        signs |= {key_of(value): 1.0 for value in sign.positive}

        def read(row: Row) -> float:
            found = signs.get(key_of(cell(row)))
            if found is None:
                raise CellError(
                    column, f"{cell(row)!r} is neither negative nor positive in sign; add it to one of them"
                )
            return found

        return read

    def _condition(self, condition: Condition) -> Callable[[Row], bool]:
        cell = self._cell(condition.column)
        listed = {key_of(value) for value in condition.in_ or condition.not_in or ()}
        inside = condition.in_ is not None
        return lambda row: (key_of(cell(row)) in listed) == inside


def _scaled(rule: Rule, number: Reader, sign: Reader | None) -> Reader:
    scale, absolute = 1.0 if rule.scale is None else rule.scale, bool(rule.absolute)

    def read(row: Row) -> float | None:
        value = number(row)
        if value is None:
            return None
        value = abs(value) if absolute else value
        return float(value * scale if sign is None else value * scale * sign(row))

    return read if rule.scale is not None or absolute or sign is not None else number


def _mapped(rule: Rule, column: str, cell: Reader, style: Style, keep: Callable[[Any], Any]) -> Reader:
    """`keep` makes a value of a cell that the map does not list, where such cells are kept."""
    named: dict[str, Value] = {}
    for text, value in (rule.map or {}).items():
        if named.setdefault(key_of(text), value) != value:
            raise CellError(column, f"the map has {text!r} twice, since {key_of(text)!r} is the same number; keep one")
    table: dict[str, Value | None] = {**dict.fromkeys(style.missing_keys()), **named}
    unlisted = rule.unlisted or "refuse"

    def read(row: Row) -> Any:
        raw = cell(row)
        key = key_of(raw)
        if key in table:
            return table[key]
        if unlisted == "refuse":
            raise CellError(
                column, f'{written(raw)!r} is not in the map; add it, or set unlisted = "keep" or "missing"'
            )
        return keep(raw) if unlisted == "keep" else None

    return read


def _banded(bands: Sequence[Band], number: Reader) -> Reader:
    def read(row: Row) -> str | None:
        value = number(row)
        if value is None:
            return None
        return next((band.name for band in bands if band.below is None or value < band.below), None)

    return read


def zone_of(name: str) -> dt.tzinfo:
    """The time zone of a checked mapping."""
    return zoneinfo.ZoneInfo(name)
