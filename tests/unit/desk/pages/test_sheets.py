"""Lists as CSV."""

from __future__ import annotations

import csv
import datetime as dt
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desk.pages.sheets import cell, lines


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""), (0.25, "0.25"), (-3, "-3"), ("card-1", "card-1"), ("=1+1", "'=1+1"), ("-x", "'-x"), ("@a", "'@a"),
        ("\t=1", "'\t=1"), (dt.datetime(2024, 3, 1, tzinfo=dt.UTC), "2024-03-01T00:00:00Z"),
    ],
)  # fmt: skip
def test_a_cell(value: object, shown: str) -> None:
    assert cell(value) == shown


@given(st.lists(st.tuples(st.text(), st.floats(allow_nan=False))))
def test_what_is_written_is_read_again(rows: list[tuple[str, float]]) -> None:
    text = b"".join(lines(["name", "value"], rows)).decode()
    found = list(csv.reader(io.StringIO(text, newline="")))
    assert found[0] == ["name", "value"]
    assert [float(row[1]) for row in found[1:]] == [value for _, value in rows]
    assert [row[0].removeprefix("'") for row in found[1:]] == [name.removeprefix("'") for name, _ in rows]


def test_a_long_list_comes_in_pieces() -> None:
    pieces = list(lines(["name"], (["x" * 100] for _ in range(5_000))))
    assert len(pieces) > 5
    assert max(len(piece) for piece in pieces) < 1 << 17
