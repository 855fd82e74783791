"""Records as the bytes of a Parquet file, and back: keys, values and headers byte for byte. Needs pyarrow.

Columns are `offset`, `timestamp_ms`, `key`, `value` and `headers`. Topic, day and partition stand in the file's path.
Times are plain milliseconds, since a producer may send numbers that no type of time takes. Does no other I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from stream.event_archive.manifest import ArchiveError
from stream.kafka.record import RawRecord, Record

COLUMNS = ("offset", "timestamp_ms", "key", "value", "headers")
ROW_GROUP_RECORDS = 50_000
BATCH_RECORDS = 4_096


def require_pyarrow() -> tuple[Any, Any]:
    """pyarrow and its module for Parquet. Raises `ArchiveError` where it is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ArchiveError(f"{error}; an archive needs pyarrow: pip install -c constraints.txt '.[files]'") from None
    return pa, pq


def encode(records: Sequence[Record]) -> bytes:
    """A Parquet file of records, in their order."""
    pa, pq = require_pyarrow()
    schema = _schema(pa)
    names: list[str] = []
    values: list[bytes | None] = []
    ends = [0]
    for record in records:
        for name, value in record.headers or ():
            names.append(name)
            values.append(value)
        ends.append(len(names))
    columns = [
        pa.array([record.offset for record in records], pa.int64()),
        pa.array([record.timestamp for record in records], pa.int64()),
        pa.array([record.key for record in records], pa.binary()),
        pa.array([record.value for record in records], pa.binary()),
        pa.ListArray.from_arrays(
            pa.array(ends, pa.int32()),
            pa.StructArray.from_arrays(
                [pa.array(names, pa.string()), pa.array(values, pa.binary())],
                fields=list(schema.field("headers").type.value_type),
            ),
            type=schema.field("headers").type,
        ),
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table(columns, schema=schema),
        sink,
        compression="zstd",
        use_dictionary=["key", "headers.list.element.name"],
        write_statistics=["offset", "timestamp_ms"],
        row_group_size=ROW_GROUP_RECORDS,
    )
    return bytes(sink.getvalue())


def _schema(pa: Any) -> Any:
    header = pa.struct([pa.field("name", pa.string(), nullable=False), pa.field("value", pa.binary())])
    types = (pa.int64(), pa.int64(), pa.binary(), pa.binary(), pa.list_(pa.field("element", header, nullable=False)))
    return pa.schema(
        [pa.field(name, kind, nullable=name in ("key", "value")) for name, kind in zip(COLUMNS, types, strict=True)]
    )


def decode(content: bytes, topic: str, partition: int, place: str) -> Iterator[RawRecord]:
    """The records of a file, in their order. Raises `ArchiveError`, which names its `place`."""
    pa, pq = require_pyarrow()
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            if tuple(file.schema_arrow.names) != COLUMNS or file.schema_arrow.types != _schema(pa).types:
                found = ", ".join(f"{field.name} {field.type}" for field in file.schema_arrow)
                raise ArchiveError(f"{place} has other columns than an archive's files: {found:.1000}")
            for batch in file.iter_batches(BATCH_RECORDS):
                *plain, headers = batch.columns
                if plain[0].null_count or plain[1].null_count:
                    raise ArchiveError(f"{place} has records without offset or time; restore it from a backup")
                told = [()] * len(headers) if not len(headers.flatten()) else map(_headers, headers.to_pylist())
                for offset, timestamp, key, value, own in zip(
                    *(column.to_pylist() for column in plain), told, strict=True
                ):
                    yield RawRecord(topic, partition, offset, timestamp, key, value, own)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise ArchiveError(f"{place} cannot be read as Parquet: {error}; restore it from a backup") from None


def _headers(entries: list[dict[str, Any]] | None) -> tuple[tuple[str, bytes | None], ...]:
    return tuple((entry["name"], entry["value"]) for entry in entries or ())


def has_key(content: bytes, key: bytes) -> bool:
    """Whether a file has a record with this key; reads the column of keys alone."""
    pa, pq = require_pyarrow()
    import pyarrow.compute as pc

    with pq.ParquetFile(pa.BufferReader(content)) as file:
        keys = file.read(columns=["key"]).column("key")
    return bool(pc.any(pc.equal(keys, pa.scalar(key, pa.binary()))).as_py())
