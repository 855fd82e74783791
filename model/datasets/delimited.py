"""Delimited text, plain or gzipped, whose first line names the columns: rows of cells with their line."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TextIO

from model.datasets.cell_values import Row
from model.datasets.dataset import DatasetError
from model.datasets.rules import Csv
from model.datasets.table_files import Place, check_columns, is_gzipped

_MARK = "\ufeff"
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
"""Bytes that a file of an encoding may begin with (the byte order mark)."""


def text_rows(file: Path, columns: Sequence[str], style: Csv, made: Sequence[str] = ()) -> Iterator[tuple[Place, Row]]:
    """Rows with the cells of `columns`. `made` are columns that the table must not have. Raises `DatasetError`."""
    try:
        marked = marked_encoding(file)
        _check_encoding(file, style.encoding, marked)
        with open_text(file, style.encoding) as text:
            lines = csv.reader(text, delimiter=style.delimiter, strict=True)
            header = [name.strip() for name in next(lines, [])]
            check_columns(file, columns, header, made)
            positions = [header.index(column) for column in columns]
            width = len(header)
            for cells in lines:
                if len(cells) == width:
                    yield Place("line", lines.line_num), [cells[position] for position in positions]
                elif cells:
                    raise DatasetError(
                        f"{file}, line {lines.line_num}: {len(cells)} cells, but the header names {width} columns; "
                        "correct the line, or the delimiter under csv"
                    )
    except UnicodeError as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else error
        raise DatasetError(f"{file} is not written in {style.encoding} ({reason}); set encoding under csv") from None
    except LookupError:
        raise DatasetError(f"{file}: encoding {style.encoding!r} is not known; correct it under csv") from None
    except (OSError, EOFError, csv.Error) as error:
        raise DatasetError(f"{file}: cannot be read as a table: {error}; look at csv in the mapping") from None


def open_text(file: Path, encoding: str) -> AbstractContextManager[TextIO]:
    """A text file, unpacked, after the mark that some programs put before the first line."""
    opener: Callable[..., Any] = gzip.open if is_gzipped(file) else open
    text: TextIO = opener(file, "rt", encoding=encoding, newline="")
    try:
        if text.read(1) != _MARK:
            text.seek(0)
    except BaseException:
        text.close()
        raise
    return text


def marked_encoding(file: Path) -> str | None:
    """The encoding that a file names by the mark that it begins with; None without one."""
    opener: Callable[..., Any] = gzip.open if is_gzipped(file) else open
    with opener(file, "rb") as content:
        start = content.read(3)
    return next((encoding for mark, encoding in _MARKS if start.startswith(mark)), None)


def _check_encoding(file: Path, encoding: str, marked: str | None) -> None:
    """A file that says by its mark how it is written is read in no other way, which would often fail in silence."""
    plain = encoding.lower().replace("-", "").replace("_", "")
    if marked is not None and not plain.startswith(marked.replace("-", "")):
        raise DatasetError(
            f'{file} begins with the mark of {marked}, not {encoding}; set encoding = "{marked}" under csv'
        )
