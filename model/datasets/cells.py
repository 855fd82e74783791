"""Cells: from the cells of a table's row to the values of fields, by the rules of a mapping.

Works on text (CSV) and on typed values (Parquet). Compiles each rule once; opens no file.
"""

from __future__ import annotations

import datetime as dt
import math
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from model.datasets.mapping import Band, Condition, Csv, FieldType, Rule, Section, Sign, Value, columns_of, rule_of

Row: TypeAlias = Sequence[Any]
"""A row's cells, in the order of the section's columns."""
Reader: TypeAlias = Callable[[Row], Any]

UTC = dt.UTC
_TIME_CODES = ("%H", "%I", "%s", "%c", "%X", "%T", "%R")
_EPOCHS = {"epoch_s": 1.0, "epoch_ms": 1e-3}


class CellError(ValueError):
    """A cell cannot be converted to a field; the message names the column, its content, and what to do."""

    def __init__(self, column: str, told: str) -> None:
        super().__init__(f"column {column}: {told}")


@dataclass(frozen=True)
class Style:
    """How a table writes values: numbers, missing values, and the time zone of times without one."""

    csv: Csv
    missing: tuple[Value, ...]
    zone: dt.tzinfo

    def with_missing(self, more: Sequence[Value] | None) -> Style:
        """The same, with more that stands for missing."""
        return Style(self.csv, (*self.missing, *more), self.zone) if more else self


class SectionReader:
    """The compiled rules of a section: `columns` to read, `wanted(row)`, and `fields(row)` by field name."""

    def __init__(self, section: Section, types: Mapping[str, FieldType], style: Style) -> None:
        self.columns = columns_of(section)
        self._position = {column: position for position, column in enumerate(self.columns)}
        self._style = style
        self._conditions = [self._condition(condition) for condition in section.where or ()]
        self._readers = [(name, self._field(name, section, types[name])) for name in section.fields]

    def wanted(self, row: Row) -> bool:
        """Whether the section's conditions hold for a row."""
        return all(condition(row) for condition in self._conditions)

    def fields(self, row: Row) -> dict[str, Any]:
        """Values by field name, None where missing. Raises `CellError`."""
        return {name: read(row) for name, read in self._readers}

    def _field(self, name: str, section: Section, kind: FieldType) -> Reader:
        rule = rule_of(section, name)
        assert rule is not None
        read = self._value(rule, kind)
        if not rule.where:
            return read
        conditions = [self._condition(condition) for condition in rule.where]
        return lambda row: read(row) if all(condition(row) for condition in conditions) else None

    def _value(self, rule: Rule, kind: FieldType) -> Reader:
        style = self._style.with_missing(rule.missing)
        if rule.constant is not None:
            fixed = _constant(rule, kind, style)
            return lambda _: fixed
        if rule.sum is not None:
            return _scaled(rule, self._sum(rule, style), self._sign(rule.sign))
        assert rule.column is not None
        cell = self._cell(rule.column)
        if rule.map is not None:
            if kind not in ("number", "integer"):
                return _mapped(rule, rule.column, cell, style, _written)
            number = _number(rule.column, lambda raw: raw, style)
            return _scaled(rule, _mapped(rule, rule.column, cell, style, number), self._sign(rule.sign))
        if rule.bands is not None:
            return _banded(rule.bands, _number(rule.column, cell, style))
        if kind == "number":
            return _scaled(rule, _number(rule.column, cell, style), self._sign(rule.sign))
        if kind == "integer":
            return _whole(rule.column, _number(rule.column, cell, style))
        if kind in ("moment", "day"):
            return _dated(rule, cell, style, whole_days=kind == "day")
        text = _text(cell, style)
        if kind != "identifier":
            return text
        return _identifier(rule, text)

    def _cell(self, column: str) -> Reader:
        position = self._position[column]
        return lambda row: row[position]

    def _sum(self, rule: Rule, style: Style) -> Reader:
        terms = [(term.scale, _number(term.column, self._cell(term.column), style)) for term in rule.sum or ()]

        def read(row: Row) -> float | None:
            known = [scale * value for scale, number in terms if (value := number(row)) is not None]
            return math.fsum(known) if known else None

        return read

    def _sign(self, sign: Sign | None) -> Reader | None:
        if sign is None:
            return None
        cell, column = self._cell(sign.column), sign.column
        signs = {_written(value): -1.0 for value in sign.negative} | {_written(value): 1.0 for value in sign.positive}

        def read(row: Row) -> float:
            found = signs.get(_written(cell(row)))
            if found is None:
                raise CellError(
                    column, f"{cell(row)!r} is neither negative nor positive in sign; add it to one of them"
                )
            return found

        return read

    def _condition(self, condition: Condition) -> Callable[[Row], bool]:
        cell = self._cell(condition.column)
        listed = {_written(value) for value in condition.in_ or condition.not_in or ()}
        inside = condition.in_ is not None
        return lambda row: (_written(cell(row)) in listed) == inside


def _written(cell: Any) -> str:
    """A cell as text: what conditions, maps and lists of missing values compare. Whole floats lose their point, since
    tables with gaps turn integers into floats."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, dt.date):
        return cell.isoformat()
    return str(cell)


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _text(cell: Reader, style: Style) -> Reader:
    missing = {_written(value) for value in style.missing} | {""}

    def read(row: Row) -> str | None:
        raw = cell(row)
        text = "" if _is_missing(raw) else _written(raw)
        return None if text in missing else text

    return read


def _identifier(rule: Rule, text: Reader) -> Reader:
    prefix, column = rule.prefix or "", rule.column or ""

    def read(row: Row) -> str:
        found = text(row)
        if found is None:
            raise CellError(column, "is empty, but every record needs this id; leave such rows out with where")
        return f"{prefix}{found}"

    return read


def _number(column: str, cell: Reader, style: Style) -> Reader:
    missing = {_written(value) for value in style.missing} | {""}
    numbers = {float(value) for value in style.missing if not isinstance(value, str)}
    decimal, thousands = style.csv.decimal, style.csv.thousands

    def read(row: Row) -> float | None:
        raw = cell(row)
        if _is_missing(raw):
            return None
        if isinstance(raw, str):
            text = raw.strip()
            if text in missing:
                return None
            if thousands:
                text = text.replace(thousands, "")
            raw = text.replace(decimal, ".") if decimal != "." else text
        try:
            if not isinstance(raw, (str, int, float, Decimal)):
                raise ValueError
            value = float(raw)
        except ValueError:
            raise CellError(
                column, f"{raw!r} is no number; list it under missing, or set decimal and thousands under csv"
            ) from None
        if not math.isfinite(value):
            raise CellError(column, f"{raw!r} is no finite number; list it under missing")
        return None if value in numbers else value

    return read


def _whole(column: str, number: Reader) -> Reader:
    def read(row: Row) -> int | None:
        value = number(row)
        if value is None:
            return None
        if not float(value).is_integer():
            raise CellError(column, f"{value} is no whole number")
        return int(value)

    return read


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
    table: dict[str, Value | None] = {_written(value): None for value in ("", *style.missing)}
    table |= dict(rule.map or {})
    unlisted = rule.unlisted or "refuse"

    def read(row: Row) -> Any:
        raw = cell(row)
        text = "" if _is_missing(raw) else _written(raw)
        if text in table:
            return table[text]
        if unlisted == "refuse":
            raise CellError(column, f'{text!r} is not in the map; add it, or set unlisted = "keep" or "missing"')
        return keep(raw) if unlisted == "keep" else None

    return read


def _banded(bands: Sequence[Band], number: Reader) -> Reader:
    def read(row: Row) -> str | None:
        value = number(row)
        if value is None:
            return None
        return next((band.name for band in bands if band.below is None or value < band.below), None)

    return read


def _dated(rule: Rule, cell: Reader, style: Style, *, whole_days: bool) -> Reader:
    column, pattern = rule.column or "", rule.format or "iso"
    missing = {_written(value) for value in style.missing} | {""}
    clock = dt.time.fromisoformat(rule.time) if rule.time else dt.time()
    shift = dt.timedelta(days=rule.shift_days or 0.0)
    has_time = any(code in pattern for code in _TIME_CODES)

    def read(row: Row) -> dt.datetime | dt.date | None:
        raw = cell(row)
        if _is_missing(raw) or (not isinstance(raw, (dt.date, dt.datetime)) and _written(raw) in missing):
            return None
        try:
            found = _moment_of(raw, pattern, has_time, clock, style.zone) + shift
        except (ValueError, OverflowError, TypeError):
            raise CellError(
                column, f"{raw!r} is no date of the format {pattern!r}; set format, or list it under missing"
            ) from None
        return found.astimezone(style.zone).date() if whole_days else found.astimezone(UTC)

    return read


def _moment_of(raw: Any, pattern: str, has_time: bool, clock: dt.time, zone: dt.tzinfo) -> dt.datetime:
    """The moment that a cell names; a date without a time gets `clock`, a time without a zone `zone`."""
    if isinstance(raw, dt.datetime):
        found = raw
    elif isinstance(raw, dt.date):
        found = dt.datetime.combine(raw, clock)
    elif pattern in _EPOCHS:
        return dt.datetime.fromtimestamp(float(raw) * _EPOCHS[pattern], UTC)
    else:
        text = _written(raw)
        if pattern == "iso":
            found = dt.datetime.fromisoformat(text)
            has_time = len(text) > 10
        else:
            found = dt.datetime.strptime(text, pattern)
        if not has_time:
            found = dt.datetime.combine(found.date(), clock)
    return found if found.tzinfo is not None else found.replace(tzinfo=zone)


def _constant(rule: Rule, kind: FieldType, style: Style) -> Any:
    value = rule.constant
    if kind in ("moment", "day"):
        return _dated(rule, lambda _: value, style, whole_days=kind == "day")([])
    if kind in ("text", "choice"):
        return _written(value)
    return value


def zone_of(name: str) -> dt.tzinfo:
    """The time zone of a checked mapping."""
    return zoneinfo.ZoneInfo(name)
