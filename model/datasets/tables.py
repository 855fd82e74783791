"""Tables: the public data sets' text files, plain or gzipped, whose errors name file, line, column and what to do."""

from __future__ import annotations

import csv
import datetime as dt
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from model.datasets.cell_values import NULL_TEXTS
from model.datasets.dataset import DatasetError
from model.datasets.delimited import marked_encoding, open_text
from model.datasets.table_files import check_unique

DAY_MS = 86_400_000
MISSING = NULL_TEXTS | {"", "."}
"""How public files write that a value is not known; blanks around it do not count."""
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_EPOCH = dt.date(1970, 1, 1)


class Row(dict[str, str]):
    """A row's cells by column, and the line on which it ends."""

    __slots__ = ("line",)

    def __init__(self, cells: dict[str, str], line: int) -> None:
        super().__init__(cells)
        self.line = line


def find_file(path: Path, names: Iterable[str]) -> Path:
    """`path` itself if it is a file, else the first of `names`, plain or with `.gz`, in that folder, in any case."""
    wanted = list(names)
    if path.is_file():
        return path
    if not path.exists():
        raise DatasetError(f"{path} does not exist; name the data set's file or folder with --path")
    for name in wanted:
        for candidate in (name, f"{name}.gz"):
            if found := find_files(path, re.escape(candidate)):
                return found[0]
    raise DatasetError(f"{path} holds none of {', '.join(wanted)} (plain or .gz); see docs/data.md")


def find_files(folder: Path, pattern: str) -> list[Path]:
    """A folder's files whose whole name matches a regular expression, in upper or lower case, in order of name."""
    name = re.compile(pattern, re.IGNORECASE)
    return sorted(file for file in folder.iterdir() if name.fullmatch(file.name) and file.is_file())


def read_rows(path: Path, columns: Iterable[str], delimiter: str = ",") -> Iterator[Row]:
    """Rows as dictionaries. Raises `DatasetError` when the file is no such table or lacks one of `columns`."""
    wanted = list(columns)
    try:
        encoding = marked_encoding(path) or "latin-1"
        with open_text(path, encoding) as text:
            reader = csv.DictReader(text, delimiter=delimiter)
            header = list(reader.fieldnames or ())
            absent = [column for column in wanted if column not in header]
            if absent:
                raise DatasetError(f"{path}: no column {', '.join(absent)}; see docs/data.md for the right file")
            check_unique(path, wanted, header)
            for cells in reader:
                if None in cells:
                    raise DatasetError(
                        f"{path}, line {reader.line_num}: more cells than the header names; fetch the file again"
                    )
                yield Row(cells, reader.line_num)
    except (OSError, EOFError, UnicodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a table: {error}; fetch the file again") from None


def text(row: Row, column: str) -> str | None:
    """A text, None where the file has none."""
    cell = row[column]
    return None if cell is None or cell.strip() in MISSING else cell


def number(row: Row, column: str, path: Path) -> float | None:
    """A number, None where the file has none."""
    cell = text(row, column)
    if cell is None:
        return None
    value = float(cell) if _NUMBER.fullmatch(cell.strip()) else math.nan
    if not math.isfinite(value):
        raise DatasetError(
            f"{path}, line {row.line}: column {column} holds {cell!r}, which is no number, nor one of the texts for an "
            "unknown one (NA, None, NULL, …); correct the cell, or fetch the file again"
        )
    return value


def required(row: Row, column: str, path: Path) -> float:
    """A number that the file must have."""
    value = number(row, column, path)
    if value is None:
        raise DatasetError(
            f"{path}, line {row.line}: column {column} is empty in a row that needs it; fetch the file again"
        )
    return value


def midnight_ms(date: dt.date) -> int:
    """Start of a day (UTC) in milliseconds since 1970-01-01."""
    return (date - _EPOCH).days * DAY_MS


def moment(date: dt.date, second: int) -> dt.datetime:
    """A moment of a day, in UTC."""
    return dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC) + dt.timedelta(seconds=second)


def age_band(age_years: float | None) -> str | None:
    """The band of an age, in the words of the profile events."""
    if age_years is None:
        return None
    for limit, band in ((25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (65, "55-64")):
        if age_years < limit:
            return band
    return "65+"
