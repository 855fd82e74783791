"""Parquet files: rows of cells with their number. Needs pyarrow (the `files` extra).

Types come out normalised: text is str whatever it is stored as, times are datetimes of microseconds, and a cell that
Python has no value for is an `Unreadable`, which is an error only where a rule reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model.datasets.cell_values import Row, Unreadable
from model.datasets.dataset import DatasetError
from model.datasets.table_files import Place, check_columns

BATCH_ROWS = 8_192
_LISTED = "list it under missing if it stands for none"


def parquet_rows(
    file: Path, columns: Sequence[str], made: Sequence[str] = (), *, zone_is_utc: bool = True
) -> Iterator[tuple[Place, Row]]:
    """Rows with the cells of `columns`. `made` are columns that the table must not have; `zone_is_utc` says whether
    times without a zone are UTC. Raises `DatasetError`."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DatasetError(
            f"{file}: {error}; Parquet needs pyarrow: pip install -c constraints.txt '.[files]'"
        ) from None
    try:
        # Read as microseconds, since the nanoseconds of years before 1678 and after 2262 would come out as other dates.
        with pq.ParquetFile(file, coerce_int96_timestamp_unit="us") as table:
            check_columns(file, columns, table.schema_arrow.names, made)
            _check_types(pa, file, columns, table, zone_is_utc)
            number = 0
            for batch in table.iter_batches(BATCH_ROWS, columns=list(columns)):
                cells = [_cells(pa, batch.column(batch.schema.get_field_index(column))) for column in columns]
                for row in zip(*cells, strict=True) if cells else [()] * batch.num_rows:
                    number += 1
                    yield Place("row", number), row
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{file}: cannot be read as Parquet: {error}; write it again") from None


def _check_types(pa: Any, file: Path, columns: Sequence[str], table: Any, zone_is_utc: bool) -> None:
    for column in columns:
        kind = table.schema_arrow.field(column).type
        if not _is_read(pa, kind):
            raise DatasetError(
                f"{file}: column {column} is of type {kind}, which no rule reads; write it as text, number or date"
            )
    if zone_is_utc:
        return
    for position in range(len(table.schema)):
        leaf = table.schema.column(position)
        if leaf.path in columns and leaf.physical_type == "INT96":
            raise DatasetError(
                f"{file}: column {leaf.path} has times of the type INT96, which does not say whether they are UTC; "
                "write it as TIMESTAMP (Spark: spark.sql.parquet.outputTimestampType), or, if they are UTC, set "
                'time_zone = "UTC"'
            )


def _is_read(pa: Any, kind: Any) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return _is_read(pa, kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return str(kind.extension_name) == "arrow.uuid"
    return not (types.is_nested(kind) or types.is_duration(kind) or types.is_interval(kind))


def _cells(pa: Any, values: Any) -> list[Any]:
    """A column as Python values. Times are truncated to microseconds, the resolution of Python's datetimes."""
    types = pa.types
    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if types.is_timestamp(kind) and kind.unit == "ns":
        values = values.cast(pa.timestamp("us", kind.tz), safe=False)
    elif types.is_float16(kind):
        values = values.cast(pa.float32())
    try:
        found: list[Any] = values.to_pylist()
    except (ValueError, OverflowError):
        found = [_cell(pa, value) for value in values]
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind) or _is_view(pa, kind):
        return [None if each is None else _text(each) for each in found]
    return found


def _is_view(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_binary_view(kind))


def _cell(pa: Any, value: Any) -> Any:
    """One cell of a column of which some have no Python value."""
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return _text(value.cast(pa.binary()).as_py())
    except (ValueError, OverflowError):
        raw = str(value.value) if hasattr(value, "value") else str(value)
        return Unreadable(raw, f"{raw} as {value.type} is outside the years 1 to 9999; {_LISTED}, or correct it")


def _text(content: bytes) -> str | Unreadable:
    try:
        return content.decode().rstrip("\0")
    except UnicodeDecodeError as error:
        shown = repr(content[:40])
        return Unreadable(shown, f"{shown} is no text in UTF-8 ({error.reason}); write the column as text in UTF-8")
