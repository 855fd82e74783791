"""Delimited text is read in the encoding that it has, and each column by one name."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path

import pytest

from model.datasets.dataset import DatasetError
from model.datasets.delimited import text_rows
from model.datasets.rules import Csv

QUOTED = '"who","day"\n"Zoë","2024-01-05"\n'
PLAIN = QUOTED.replace('"', "")


def read(path: Path, encoding: str = "utf-8", columns: tuple[str, ...] = ("who", "day")) -> list[tuple[str, list[str]]]:
    return [(str(place), list(row)) for place, row in text_rows(path, columns, Csv(encoding=encoding))]


@pytest.mark.parametrize("content", [QUOTED, PLAIN])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF8, "UTF8"),
        (codecs.BOM_UTF8, "utf-8-sig"),
        (b"", "utf-16"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (b"", "latin-1"),
        (b"", "cp1252"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "T.CSV.GZ"])
def test_a_mark_before_the_header_is_no_part_of_it(
    tmp_path: Path, content: str, mark: bytes, encoding: str, name: str
) -> None:
    written = content.encode(encoding)
    written = written if written.startswith(mark) else mark + written
    path = tmp_path / name
    path.write_bytes(gzip.compress(written) if name.lower().endswith(".gz") else written)
    assert read(path, encoding) == [("line 2", ["Zoë", "2024-01-05"])]


@pytest.mark.parametrize(
    ("mark", "encoding", "meant"),
    [
        (codecs.BOM_UTF8, "latin-1", "utf-8"),
        (codecs.BOM_UTF8, "cp1252", "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-8", "utf-16"),
        (codecs.BOM_UTF16_BE, "latin-1", "utf-16"),
    ],
)
def test_a_mark_of_another_encoding_is_an_error(tmp_path: Path, mark: bytes, encoding: str, meant: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(mark + PLAIN.encode("utf-8"))
    with pytest.raises(DatasetError, match=rf"begins with the mark of {meant}.*set encoding = \"{meant}\""):
        read(path, encoding)


@pytest.mark.parametrize("header", ["who,day,who", '"who",day,"who"', " who ,day,who", "\ufeffwho,day,who"])
def test_a_column_twice_is_an_error_only_where_it_is_read(tmp_path: Path, header: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\na,b,c\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"t.csv: 2 columns have the name who \(columns 1 and 3\); rename"):
        read(path)
    assert read(path, columns=("day",)) == [("line 2", ["b"])]


def test_a_column_that_unpivot_makes_must_not_be_there(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(PLAIN)
    with pytest.raises(DatasetError, match=r"it has a column day, and unpivot makes another one"):
        list(text_rows(path, ["who"], Csv(), ["day"]))
