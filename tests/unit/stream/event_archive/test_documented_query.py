"""What docs/archive.md says of reading an archive with other tools, tried on one."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from stream.event_archive.archive import Archive
from stream.event_archive.parquet import COLUMNS
from stream.kafka.record import RawRecord

PAGE = (Path(__file__).parents[4] / "docs" / "archive.md").read_text(encoding="utf-8")
DAY_MS = 86_400_000
MARCH_MS = 19_783 * DAY_MS
"""2024-03-01."""

RECORDS = [
    RawRecord("repayments", 1, 7, MARCH_MS - 1, b"u1", b'{"event_id":"before"}'),
    RawRecord("repayments", 1, 8, MARCH_MS, b"u1", b'{"event_id":"first"}'),
    RawRecord("repayments", 1, 9, MARCH_MS + DAY_MS, b"u2", None),
    RawRecord("repayments", 0, 3, MARCH_MS, None, b"\xff is no JSON", (("trace", b"1"),)),
    RawRecord("repayments", 0, 4, -1, b"u3", b'{"event_id":"without a day"}'),
    RawRecord("profiles", 0, 0, MARCH_MS, b"u1", b'{"event_id":"of another topic"}'),
]


def documented(language: str, folder: Path) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)
    return str(found).replace("/archive", str(folder))


def test_duckdb_answers_the_query(make_archive: Callable[..., Archive]) -> None:
    made = make_archive(RECORDS)
    connection = duckdb.connect()
    rows = connection.execute(documented("sql", made.folder)).fetchall()
    at, day = dt.datetime(2024, 3, 1), dt.date(2024, 3, 1)
    assert rows == [
        ("repayments", day, 0, 3, at, None, None),
        ("repayments", day, 1, 8, at, "u1", "first"),
        ("repayments", day + dt.timedelta(days=1), 1, 9, at + dt.timedelta(days=1), "u2", None),
    ]


def test_the_folder_is_partitioned_data(make_archive: Callable[..., Archive]) -> None:
    made = make_archive(RECORDS)
    folder = ds.dataset(made.folder, partitioning="hive")
    table = folder.to_table(filter=ds.field("topic") == "repayments")
    assert table.num_rows == 5
    assert set(table.column_names) == {*COLUMNS, "topic", "date", "partition"}
    assert sorted(pa.compute.unique(table["partition"]).to_pylist()) == [0, 1]
    assert [row["headers"] for row in table.to_pylist() if row["offset"] == 3] == [[{"name": "trace", "value": b"1"}]]


def test_python_reads_it_as_documented(make_archive: Callable[..., Archive], capsys: Any) -> None:
    made = make_archive([RawRecord("repayments", 0, 3, 5, b"u", b"v", (("h", b"x"),))])
    exec(compile(documented("python", made.folder), "docs/archive.md", "exec"), {})
    assert capsys.readouterr().out == "3 5 b'u' b'v' (('h', b'x'),)\n"
