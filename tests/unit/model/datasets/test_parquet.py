"""Every type that a Parquet file may have comes out as one value, or as an error that names row and column."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.datasets.cell_values import Unreadable
from model.datasets.dataset import DatasetError
from model.datasets.parquet import parquet_rows

DAY = dt.datetime(2024, 1, 5, 12)
INT64_MAX = 2**63 - 1
BYTES = pa.array([b"\xff\xfe"], pa.binary())


def written(folder: Path, values: pa.Array, **options: Any) -> Path:
    path = folder / "t.parquet"
    pq.write_table(pa.table({"a": values}), path, **options)
    return path


def read(folder: Path, values: pa.Array, **options: Any) -> list[Any]:
    return [row[0] for _, row in parquet_rows(written(folder, values, **options), ["a"])]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (pa.array([b"a", None, b"\xc3\xbc\x00"], pa.binary()), ["a", None, "ü"]),
        (pa.array([b"a", None], pa.large_binary()), ["a", None]),
        (pa.array([b"ab\0", b"abc"], pa.binary(3)), ["ab", "abc"]),
        (pa.array([b"a", b"b", b"a"], pa.binary()).dictionary_encode(), ["a", "b", "a"]),
        (pa.array(["a", None, "b"]).dictionary_encode(), ["a", None, "b"]),
        (pa.array(["a"], pa.large_string()), ["a"]),
        (pa.array(["a"], pa.string_view()), ["a"]),
        (pa.array([b"a"], pa.binary_view()), ["a"]),
        (pa.array([Decimal("1001.00")], pa.decimal128(38, 2)), [Decimal("1001.00")]),
        (pa.array([Decimal("1001.00")], pa.decimal256(50, 2)), [Decimal("1001.00")]),
        (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
        (pa.array([1.5], pa.float32()).cast(pa.float16()), [1.5]),
        (pa.array([True, None]), [True, None]),
        (pa.array([None, None]), [None, None]),
        (pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31)]), [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
        (pa.array([dt.date(2024, 1, 5)], pa.date64()), [dt.date(2024, 1, 5)]),
        (pa.array([dt.time(12, 30)], pa.time64("us")), [dt.time(12, 30)]),
    ],
)
def test_types_are_normalised(tmp_path: Path, values: pa.Array, found: list[Any]) -> None:
    assert read(tmp_path, values) == found


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Prague", "+05:30"])
def test_timestamps_of_every_unit_and_zone_are_one_moment(tmp_path: Path, unit: str, zone: str | None) -> None:
    moment = DAY if zone is None else DAY.replace(tzinfo=dt.UTC)
    (found,) = read(tmp_path, pa.array([moment], pa.timestamp(unit, zone)))
    assert found == moment
    assert (found.tzinfo is None) == (zone is None)


EDGES = {text: dt.datetime.fromisoformat(text) for text in ("0001-01-01", "1900-01-01", "9999-12-31")}


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Prague", "America/New_York"])
@pytest.mark.parametrize("edge", EDGES.values())
def test_timestamps_at_the_edges_are_themselves_or_unreadable(
    tmp_path: Path, unit: str, zone: str | None, edge: dt.datetime
) -> None:
    at = (edge - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)
    values = pa.array([at], pa.int64()).cast(pa.timestamp("us")).cast(pa.timestamp(unit)).cast(pa.timestamp(unit, zone))
    plain = pa.array([0], pa.int64()).cast(pa.timestamp(unit, zone))
    found, other = read(tmp_path, pa.concat_arrays([values, plain]))
    assert other.replace(tzinfo=None).year == 1970 or other.year == 1969, "what is beside it stays"
    if isinstance(found, Unreadable):
        assert zone not in (None, "UTC")
        assert "outside the years 1 to 9999" in found.told
    else:
        assert found.replace(tzinfo=None if zone is None else found.tzinfo) == (
            edge if zone is None else edge.replace(tzinfo=dt.UTC)
        )


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("value", [INT64_MAX, -INT64_MAX])
def test_timestamps_beyond_the_calendar_are_unreadable_with_their_number(tmp_path: Path, unit: str, value: int) -> None:
    if unit == "s":
        value = value // abs(value) * (abs(value) // 1_000)  # the file holds milliseconds
    values = pa.array([value, None], pa.int64()).cast(pa.timestamp(unit))
    found, missing = read(tmp_path, values)
    assert isinstance(found, Unreadable)
    assert found.text.strip("-0").startswith(str(abs(value)).strip("0"))
    assert missing is None


@pytest.mark.parametrize("text", EDGES)
def test_old_timestamps_of_twelve_bytes_do_not_wrap_around(tmp_path: Path, text: str) -> None:
    values = pa.array([EDGES[text]], pa.timestamp("us"))
    path = written(tmp_path, values, use_deprecated_int96_timestamps=True)
    assert [row[0] for _, row in parquet_rows(path, ["a"])] == [EDGES[text]]
    with pytest.raises(DatasetError, match=r"t.parquet: column a has times of the type INT96"):
        list(parquet_rows(path, ["a"], zone_is_utc=False))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.lists(st.datetimes(dt.datetime(1678, 1, 1), dt.datetime(2262, 1, 1)), min_size=1))
def test_nanoseconds_are_cut_to_microseconds(tmp_path: Path, moments: list[dt.datetime]) -> None:
    assert read(tmp_path, pa.array(moments, pa.timestamp("ns"))) == moments


@pytest.mark.parametrize(
    "values",
    [BYTES, pa.Array.from_buffers(pa.string(), 1, BYTES.buffers())],
)
def test_bytes_that_are_no_text_are_unreadable(tmp_path: Path, values: pa.Array) -> None:
    (found,) = read(tmp_path, values)
    assert isinstance(found, Unreadable)
    assert "is no text in UTF-8" in found.told


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1]]),
        pa.array([{"x": 1}]),
        pa.array([dt.timedelta(days=1)], pa.duration("us")),
        pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
    ],
)
def test_types_without_a_plain_value_are_named(tmp_path: Path, values: pa.Array) -> None:
    with pytest.raises(DatasetError, match=r"t.parquet: column a is of type .*, which no rule reads; write it as text"):
        read(tmp_path, values)


def test_uuids_are_texts(tmp_path: Path) -> None:
    value = uuid.UUID(int=7)
    storage = pa.array([value.bytes], pa.binary(16))
    (found,) = read(tmp_path, pa.ExtensionArray.from_storage(pa.uuid(), storage))
    assert str(found) == str(value)


def test_columns_of_a_name_with_a_point_or_twice(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a.b": [1], "a": [2]}), path)
    assert [row for _, row in parquet_rows(path, ["a.b", "a"])] == [(1, 2)]
    pq.write_table(pa.table([[1], [2], [3]], names=["a", "b", "a"]), path)
    with pytest.raises(DatasetError, match=r"2 columns have the name a \(columns 1 and 3\)"):
        list(parquet_rows(path, ["a"]))
    assert [row for _, row in parquet_rows(path, ["b"])] == [(2,)]
    with pytest.raises(DatasetError, match=r"it has a column b, and unpivot makes another one"):
        list(parquet_rows(path, [], ["b"]))
