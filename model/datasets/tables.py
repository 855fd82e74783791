"""Tables: delimited text files, plain or gzipped, read with checks whose errors name the file and the column."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

from model.datasets.dataset import DatasetError

DAY_MS = 86_400_000
_MISSING = frozenset({"", "NA", " "})
_EPOCH = dt.date(1970, 1, 1)

Row = dict[str, str]


def find_file(path: Path, names: Iterable[str]) -> Path:
    """`path` itself if it is a file, else the first of `names`, plain or with `.gz`, in that folder."""
    wanted = list(names)
    if path.is_file():
        return path
    if not path.exists():
        raise DatasetError(f"{path} does not exist; name the data set's file or folder with --path")
    for name in wanted:
        for candidate in (path / name, path / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    raise DatasetError(f"{path} holds none of {', '.join(wanted)} (plain or .gz); see docs/data.md")


def read_rows(path: Path, columns: Iterable[str], delimiter: str = ",") -> Iterator[Row]:
    """Rows as dictionaries. Raises `DatasetError` when the file is no such table or lacks one of `columns`."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="latin-1", newline="") as text:
            reader = csv.DictReader(text, delimiter=delimiter)
            absent = [column for column in columns if column not in (reader.fieldnames or ())]
            if absent:
                raise DatasetError(f"{path}: no column {', '.join(absent)}; see docs/data.md for the right file")
            yield from reader
    except (OSError, EOFError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a table: {error}; fetch the file again") from None


def number(row: Row, column: str, path: Path) -> float | None:
    """A number, None where the file has none."""
    text = row[column]
    if text is None or text in _MISSING:
        return None
    try:
        return float(text)
    except ValueError:
        raise DatasetError(f"{path}: column {column} holds {text!r}, not a number; fetch the file again") from None


def required(row: Row, column: str, path: Path) -> float:
    """A number that the file must have."""
    value = number(row, column, path)
    if value is None:
        raise DatasetError(f"{path}: column {column} is empty in a row that needs it; fetch the file again")
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
