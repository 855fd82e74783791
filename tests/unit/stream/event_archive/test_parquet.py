"""Records come out of a file as they went in, byte for byte."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.event_archive import parquet
from stream.event_archive.manifest import ArchiveError
from stream.event_archive.parquet import COLUMNS, decode, encode, has_key
from stream.kafka.record import RawRecord

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
BYTES = st.none() | st.binary(max_size=40)
HEADERS = st.lists(st.tuples(st.text(max_size=8), BYTES), max_size=3).map(tuple)
RECORDS = st.lists(st.builds(RawRecord, st.just("t"), st.just(1), INT64, INT64, BYTES, BYTES, HEADERS), max_size=20)


@given(records=RECORDS)
@settings(max_examples=60)
def test_records_come_out_as_they_went_in(records: list[RawRecord]) -> None:
    assert list(decode(encode(records), "t", 1, "here")) == records


def test_more_records_than_a_batch_come_out_in_order(
    some_records: Callable[..., list[RawRecord]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH_RECORDS", 7)
    monkeypatch.setattr(parquet, "ROW_GROUP_RECORDS", 30)
    records = some_records(range(100))
    assert list(decode(encode(records), "repayments", 0, "here")) == records


def test_a_key_is_found_and_no_part_of_one(some_records: Callable[..., list[RawRecord]]) -> None:
    content = encode(some_records(range(20)))
    assert has_key(content, b"user-3")
    assert not has_key(content, b"user-")
    assert not has_key(encode([]), b"user-3")


def test_a_file_of_another_kind_is_refused() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    with pytest.raises(ArchiveError, match="here has other columns"):
        list(decode(bytes(sink.getvalue()), "t", 0, "here"))
    for content in (b"", b"PAR1PAR1", encode([])[:-20] + b"\0" * 20):
        with pytest.raises(ArchiveError, match="here cannot be read as Parquet"):
            list(decode(content, "t", 0, "here"))


def written(**columns: Any) -> bytes:
    """A file with an archive's columns of one record, of which some are others."""
    table = pq.read_table(pa.BufferReader(encode([RawRecord("t", 0, 7, 9, b"u", b"v", (("h", b"1"),))])))
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def header(names: list[bytes], kind: pa.DataType) -> pa.Array:
    fields = [pa.field("name", kind, nullable=False), pa.field("value", pa.binary())]
    buffers = pa.array(names, pa.binary()).buffers()
    told = pa.StructArray.from_arrays(
        [pa.Array.from_buffers(kind, len(names), buffers), pa.array([b"1"] * len(names), pa.binary())], fields=fields
    )
    of = pa.list_(pa.field("element", pa.struct(fields), nullable=False))
    return pa.ListArray.from_arrays(pa.array([0, len(names)], pa.int32()), told, type=of)


def test_a_file_whose_columns_are_of_other_types_is_refused() -> None:
    assert [record.offset for record in decode(written(), "t", 0, "here")] == [7]
    assert [record.headers for record in decode(written(headers=header([b"x"], pa.string())), "t", 0, "here")] == [
        (("x", b"1"),)
    ]
    for columns in ({"key": pa.array(["u"])}, {"offset": pa.array([7.0])}, {"headers": header([b"x"], pa.binary())}):
        with pytest.raises(ArchiveError, match="here has other columns than"):
            list(decode(written(**columns), "t", 0, "here"))
    with pytest.raises(ArchiveError, match="without offset or time"):
        list(decode(written(offset=pa.array([None], pa.int64())), "t", 0, "here"))
    with pytest.raises(ArchiveError, match="here cannot be read as Parquet: 'utf-8'"):
        list(decode(written(headers=header([b"\xff"], pa.string())), "t", 0, "here"))


def test_the_columns_are_those_that_are_documented() -> None:
    assert tuple(pq.read_schema(pa.BufferReader(encode([]))).names) == COLUMNS


def test_without_pyarrow_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ArchiveError, match=r"pip install -c constraints\.txt '\.\[files\]'"):
        encode([])
