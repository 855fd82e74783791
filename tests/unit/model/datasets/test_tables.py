"""The public data sets' files: found and read whatever program saved them again, or refused with file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from model.datasets.dataset import DatasetError
from model.datasets.tables import find_file, number, read_rows, required, text

CONTENT = 'a,b\n"1",2\n3,None\n'


@pytest.mark.parametrize("name", ["t.csv", "T.CSV", "t.csv.gz", "T.csv.GZ"])
def test_a_file_is_found_in_any_case_plain_or_packed(tmp_path: Path, name: str) -> None:
    content = CONTENT.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
    found = find_file(tmp_path, ["missing.csv", "t.csv"])
    rows = list(read_rows(found, ["a", "b"]))
    assert [(row["a"], row["b"], row.line) for row in rows] == [("1", "2", 2), ("3", "None", 3)]
    assert [(number(row, "b", found), text(row, "b")) for row in rows] == [(2.0, "2"), (None, None)]
    with pytest.raises(DatasetError, match=r"line 3: column b is empty"):
        required(rows[1], "b", found)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_the_mark_of_an_encoding_is_no_part_of_the_header(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(f'"a","b"\n{"1,2"}\n'.encode(encoding))
    assert list(read_rows(path, ["a", "b"])) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b,a\n1,2,3\n", r"2 columns have the name a \(columns 1 and 3\)"),
        ("a,b\n1,2\n1,2,3\n", r"line 3: more cells than the header names"),
        ("a,c\n1,2\n", r"no column b"),
        ('a,b\n"1,2\n', None),
    ],
)
def test_a_table_that_can_be_read_in_two_ways_is_refused(tmp_path: Path, content: str, said: str | None) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    if said is None:
        (row,) = read_rows(path, ["a", "b"])
        with pytest.raises(DatasetError, match=r"line 2: column b is empty"):
            required(row, "b", path)
        return
    with pytest.raises(DatasetError, match=said):
        list(read_rows(path, ["a", "b"]))
