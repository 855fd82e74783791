"""Table files: which files a path of a mapping names, and where a row stands in one.

A file that a folder or a pattern would leave out, though it looks like a table that is meant, is an error.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from model.datasets.dataset import DatasetError

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".asc")
PARQUET_SUFFIXES = (".parquet", ".pq")
OTHER_SUFFIXES = (
    ".7z", ".arrow", ".avro", ".bz2", ".dat", ".feather", ".json", ".jsonl", ".lz4", ".orc", ".rar", ".sas7bdat",
    ".snappy", ".tar", ".tgz", ".xls", ".xlsx", ".xz", ".zip", ".zst",
)  # fmt: skip
"""Endings of data that no reader here takes."""


class Place(NamedTuple):
    """Where a row stands in its file. `number` counts lines of text or rows of Parquet, from 1."""

    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.unit} {self.number}"


def is_parquet(file: Path) -> bool:
    """Whether a file's name says that it is Parquet."""
    return file.name.lower().endswith(PARQUET_SUFFIXES)


def is_gzipped(file: Path) -> bool:
    """Whether a file's name says that it is gzipped."""
    return file.name.lower().endswith(".gz")


def is_table(file: Path) -> bool:
    """Whether a folder's file is one of its tables, by its name."""
    name = file.name.lower().removesuffix(".gz")
    return _is_visible(file) and name.endswith((*TEXT_SUFFIXES, *PARQUET_SUFFIXES))


def files_of(mapping: Path, paths: Sequence[str]) -> list[Path]:
    """The files that paths name: a file, those of a folder, those that a pattern matches, in order of name.

    `mapping` is the mapping file, to whose folder paths are relative. Raises `DatasetError`.
    """
    found: dict[Path, Path] = {}
    for text in paths:
        path = mapping.parent / text
        if path.is_dir():
            matches = _of_folder(path, text)
        elif path.is_file():
            matches = [path]
        else:
            matches = _of_pattern(mapping, text)
        if not matches:
            raise DatasetError(
                f"{mapping}: path {text!r} is no file, no folder with tables and no pattern that matches one; "
                "paths are relative to the mapping file"
            )
        for file in matches:
            found.setdefault(file.resolve(), file)
    _refuse_both_forms(found.values())
    return list(found.values())


def name_from(folder: Path, file: Path) -> str:
    """A file's path from a folder, with slashes, which tells apart files of one name."""
    return Path(os.path.relpath(file, folder)).as_posix()


def check_columns(file: Path, columns: Iterable[str], header: Sequence[str], made: Sequence[str] = ()) -> None:
    """Whether a table has each column once. `made` are columns that `unpivot` makes, which it must not have."""
    counts = Counter(header)
    absent = [column for column in columns if column not in counts]
    if absent:
        shown = ", ".join(header[:20]) or "none"
        raise DatasetError(f"{file}: no column {', '.join(absent)}; it has {shown}. Correct the mapping")
    check_unique(file, columns, header)
    for column in made:
        if column in counts:
            raise DatasetError(
                f"{file}: it has a column {column}, and unpivot makes another one; give the latter another name"
            )


def check_unique(file: Path, columns: Iterable[str], header: Sequence[str]) -> None:
    """Whether each of the columns that are read stands once in a table's header. Raises `DatasetError`."""
    counts = Counter(header)
    for column in columns:
        if counts[column] > 1:
            at = " and ".join(str(place) for place, name in enumerate(header, 1) if name == column)
            raise DatasetError(
                f"{file}: {counts[column]} columns have the name {column} (columns {at}); rename all but the one meant"
            )


def _of_folder(folder: Path, text: str) -> list[Path]:
    """A folder's tables. Others that look like tables, and folders with tables in it, must be named."""
    entries = sorted(folder.iterdir())
    left_out = [each for each in entries if _is_visible(each) and each.name.lower().endswith(OTHER_SUFFIXES)]
    if left_out:
        raise DatasetError(
            f"{left_out[0]} is in a form that is not read; write it as text (gzipped or not) or as Parquet, or name "
            f'the files to read: path = "{text}/*.csv"'
        )
    for inner in entries:
        if inner.is_dir() and not inner.name.startswith((".", "_")):
            deeper = next((each for each in sorted(inner.rglob("*")) if is_table(each)), None)
            if deeper is not None:
                raise DatasetError(
                    f"{deeper} is in a folder within {text!r}, whose own tables alone are read; name those to read: "
                    f'path = "{text}/**/*{deeper.suffix}"'
                )
    return [each for each in entries if is_table(each)]


def _of_pattern(mapping: Path, text: str) -> list[Path]:
    """What a pattern matches. A file that differs from it in capitals only must be named or renamed."""
    path = Path(text)
    folder = Path(path.anchor) if path.is_absolute() else mapping.parent
    pattern = str(path.relative_to(path.anchor)) if path.is_absolute() else text
    matches = sorted(each for each in folder.glob(pattern) if each.is_file())
    either = "".join(
        f"[{sign.lower()}{sign.upper()}]" if sign.isalpha() and sign.isascii() else sign for sign in pattern
    )
    if "[" not in pattern and "*" in pattern:
        others = sorted(each for each in folder.glob(either) if each.is_file() and each not in matches)
        if others and matches:
            raise DatasetError(
                f"{others[0]} differs from {text!r} in capitals only, which leaves it out; name it too, or rename it"
            )
    return matches


def _refuse_both_forms(files: Iterable[Path]) -> None:
    plain = {file for file in files if not is_gzipped(file)}
    for file in files:
        if is_gzipped(file) and file.with_suffix("") in plain:
            raise DatasetError(f"{file}: the same table is there as {file.with_suffix('').name}; keep one of them")


def _is_visible(file: Path) -> bool:
    return file.is_file() and not file.name.startswith((".", "_"))
