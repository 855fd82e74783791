"""Single cells of tables: what their text and their typed values mean, the same whether they come from text or Parquet.

Knows nothing of rules and fields. Opens no file.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from model.datasets.rules import Csv, Value

Row: TypeAlias = Sequence[Any]
"""A row's cells, in the order of the section's columns."""
Reader: TypeAlias = Callable[[Row], Any]

EXACT_FLOAT = 2**53
"""From here on, whole numbers written as floats may have lost their last digits."""

NULL_TEXTS = frozenset(
    {"NULL", "null", "Null", "(null)", "None", "NaN", "nan", "NAN", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaT", "\\N"}
)
"""How programs write that there is no value. As an id or a name they need a word from the user what they are."""

_WHOLE = re.compile(r"([+-]?(?:0|[1-9][0-9]*))\.0+")
_ROUNDED = re.compile(r"[+-]?[0-9][.,][0-9]+[eE]\+?[0-9]+")
_GROUPING = {" ": "[ \u00a0\u202f]", "'": "['\u2019]"}
"""Characters that are written for a blank or an apostrophe between groups of digits."""


class CellError(ValueError):
    """A cell cannot be converted to a field; the message names the column, its content, and what to do."""

    def __init__(self, column: str, told: str) -> None:
        super().__init__(f"column {column}: {told}")
        self.column = column
        self.told = told


@dataclass(frozen=True)
class Unreadable:
    """A typed cell that has no value here, such as a timestamp of the year 12000. `text` is what `missing` may name."""

    text: str
    told: str


@dataclass(frozen=True)
class Style:
    """How a table writes values: numbers, missing values, and the time zone of times without one."""

    csv: Csv
    missing: tuple[Value, ...]
    zone: dt.tzinfo

    def with_missing(self, more: Sequence[Value] | None) -> Style:
        """The same, with more that stands for missing."""
        return Style(self.csv, (*self.missing, *more), self.zone) if more else self

    def missing_keys(self) -> frozenset[str]:
        """What stands for missing, as `key_of` writes it."""
        return frozenset({key_of(value) for value in self.missing} | {""})


def is_missing(cell: Any) -> bool:
    """Whether a typed cell holds no value: null, or not a number."""
    return cell is None or (isinstance(cell, (float, Decimal)) and math.isnan(cell))


def written(cell: Any) -> str:
    """A cell as text. Whole floats and decimals lose their point, since tables with gaps turn integers into floats."""
    if isinstance(cell, str):
        return cell.strip()
    if is_missing(cell):
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, Decimal):
        text = f"{cell:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(cell, dt.date):
        return cell.isoformat()
    return str(cell)


def key_of(cell: Any) -> str:
    """What conditions, maps, ids and lists of missing values compare: `1`, `1.0` and the text "1.00" are one key, and a
    timestamp at midnight is its date."""
    if isinstance(cell, str):
        text = cell.strip()
    elif isinstance(cell, dt.datetime) and cell.time() == dt.time():
        return cell.date().isoformat()
    else:
        text = written(cell)
    if text.endswith("0") and (whole := _WHOLE.fullmatch(text)):
        return whole[1]
    return text


def text_reader(cell: Reader, column: str, style: Style) -> Reader:
    """Texts; what looks like a program's word for no value is refused, unless it is listed as missing."""
    missing = style.missing_keys()

    def read(row: Row) -> str | None:
        raw = cell(row)
        text, key = written(raw), key_of(raw)
        if text in missing or key in missing:
            return None
        if text in NULL_TEXTS:
            raise CellError(
                column,
                f"{text!r} is how programs write that there is no value: list it under missing, or, if it is a name, "
                f'in a map: map = {{ "{text}" = "{text}" }} with unlisted = "keep"',
            )
        return text

    return read


def identifier_reader(cell: Reader, column: str, style: Style, prefix: str, *, required: bool) -> Reader:
    """Ids as text, whole numbers without their decimals. Refuses what has lost digits, and, where `required`, gaps."""
    missing = style.missing_keys()

    def read(row: Row) -> str | None:
        raw = cell(row)
        text = key_of(raw)
        if text in missing:
            if required:
                raise CellError(column, "is empty, but every record needs this id; leave such rows out with where")
            return None
        if text in NULL_TEXTS:
            left = "leave such rows out with where" if required else "list it under missing"
            raise CellError(column, f"{text!r} is how programs write that there is no value, and no id; {left}")
        if isinstance(raw, float) and abs(raw) >= EXACT_FLOAT:
            raise CellError(
                column, f"{raw!r} is a float too large to be exact; write the column as whole numbers or text"
            )
        if isinstance(raw, str) and _ROUNDED.fullmatch(text):
            raise CellError(
                column, f"{text!r} is a rounded number, whose last digits are lost; write the column as text"
            )
        return f"{prefix}{text}"

    return read


def joined(readers: Sequence[Reader], prefix: str) -> Reader:
    """One id of several columns, with "-" between them."""
    return lambda row: prefix + "-".join(read(row) for read in readers)


def number_reader(column: str, cell: Reader, style: Style) -> Reader:
    """Numbers, float or None; text as `style.csv` says, digits between separators in groups of three."""
    missing = style.missing_keys()
    numbers = {number for value in style.missing if (number := _listed_number(value)) is not None}
    pattern, clean = _number_text(style.csv)

    def read(row: Row) -> float | None:
        raw = cell(row)
        if isinstance(raw, str):
            text = raw.strip()
            if text in missing:
                return None
            if not pattern.fullmatch(text):
                raise CellError(column, _no_number(text, style.csv))
            value = float(clean(text))
        elif is_missing(raw):
            return None
        elif isinstance(raw, (int, float, Decimal)):
            if isinstance(raw, bool) and key_of(raw) in missing:
                return None
            value = float(raw)
        else:
            raise CellError(column, _no_number(raw, style.csv))
        if not math.isfinite(value):
            raise CellError(column, f"{raw!r} is no finite number; list it under missing")
        return None if value in numbers else value

    return read


def whole_reader(column: str, number: Reader) -> Reader:
    """Numbers without a fraction, int or None."""

    def read(row: Row) -> int | None:
        value = number(row)
        if value is None:
            return None
        if not float(value).is_integer():
            raise CellError(column, f"{value} is no whole number")
        return int(value)

    return read


def _listed_number(value: Value) -> float | None:
    """The number that an entry of `missing` names, so that "-999" also stands for a typed -999."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _number_text(csv: Csv) -> tuple[re.Pattern[str], Callable[[str], str]]:
    """How a number looks in text, and what makes of it one that Python reads."""
    decimal = re.escape(csv.decimal)
    digits = "[0-9]+"
    grouping = ""
    if csv.thousands:
        grouping = _GROUPING.get(csv.thousands, re.escape(csv.thousands))
        # Groups of two digits before the last are those of India: 12,34,567.
        digits = f"(?:[0-9]{{1,3}}(?:{grouping}[0-9]{{2,3}})*{grouping}[0-9]{{3}}|[0-9]+)"
    pattern = re.compile(f"[+-]?(?:{digits}(?:{decimal}[0-9]*)?|{decimal}[0-9]+)(?:[eE][+-]?[0-9]+)?")
    separator = re.compile(grouping) if grouping else None

    def clean(text: str) -> str:
        bare = separator.sub("", text) if separator else text
        return bare if csv.decimal == "." else bare.replace(csv.decimal, ".")

    return pattern, clean


def _no_number(raw: Any, csv: Csv) -> str:
    told = f"decimal is {csv.decimal!r}" + (f" and thousands {csv.thousands!r}" if csv.thousands else "")
    if isinstance(raw, str) and re.fullmatch(r"[+-]?[0-9][0-9.,'\s\u00a0\u202f\u2019]*", raw):
        others = sorted({sign for sign in raw if not sign.isdigit() and sign not in "+-"})
        shown = " and ".join(map(repr, others))
        return f"{raw!r} is no number where {told}; set decimal and thousands under csv for {shown}"
    return f"{raw!r} is no number; list it under missing, or set decimal and thousands under csv"
