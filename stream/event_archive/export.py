"""Writes the committed records of topics into an archive, each partition from where the archive of it ends.

Per segment: 1. its files are written, 2. the manifest that lists them replaces the former one. Whoever ends in between
leaves files that no manifest lists; the next export removes them and reads their records again, so that nothing is lost
and nothing twice. Memory holds one segment. Changes nothing on the broker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from stream.event_archive.archive import Archive
from stream.event_archive.manifest import (
    ArchivedFile,
    ArchiveError,
    Manifest,
    Segment,
    day_of,
    require_same_topic,
    shown,
)
from stream.event_archive.parquet import encode
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import topic_id
from stream.kafka.record import Record, unread_records
from stream.kafka.topic_reader import TopicReader

SEGMENT_RECORDS = 200_000
SEGMENT_BYTES = 64 * 1024 * 1024
"""A segment ends with the record that reaches one of these: it is held in memory, and is what an interrupted export
reads again."""

PROGRESS_RECORDS = 5_000

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class ExportRange:
    """From and up to when, in milliseconds of record timestamps; None for all. `accepts_loss` says that an archive may
    go on where a topic begins, though records before that have left the topic unread."""

    from_ms: int | None = None
    to_ms: int | None = None
    accepts_loss: bool = False


class PartitionReport(msgspec.Struct, frozen=True):
    """What an export has done with one partition, and what the archive holds of it then."""

    topic: str
    partition: int
    exported: int
    records: int
    start_offset: int
    next_offset: int
    size_bytes: int
    unread_records: int
    leftovers_removed: int


@dataclass(frozen=True)
class _Part:
    """A partition that is to be exported up to before offset `stop`."""

    manifest: Manifest
    stop: int


def export(
    connection: KafkaConnection,
    archive: Archive,
    topics: Sequence[str],
    wanted: ExportRange,
    on_progress: OnProgress = lambda _done, _total: None,
) -> Iterator[PartitionReport]:
    """Export `topics`, partition by partition; yields a report of each when it is done.

    The archive must be `locked`. `on_progress` gets offsets done and all. Raises `ArchiveError`, `TopicUnreadable`,
    `ProvisioningError` and `KafkaError`.
    """
    with TopicReader(connection, skips_deleted=False) as reader:
        parts = [part for topic in topics for part in _parts(connection, reader, archive, topic, wanted)]
        total, done = sum(part.stop - part.manifest.next_offset for part in parts), 0
        for part in parts:
            yield _exported(reader, archive, part, _from(on_progress, done, total))
            done += part.stop - part.manifest.next_offset


def _from(on_progress: OnProgress, done: int, total: int) -> Callable[[int], None]:
    return lambda more: on_progress(done + more, total)


def _parts(
    connection: KafkaConnection, reader: TopicReader, archive: Archive, topic: str, wanted: ExportRange
) -> Iterator[_Part]:
    partitions = reader.partitions(topic)
    found_id = topic_id(connection, topic)
    for partition in range(partitions):
        held = range(*reader.span(topic, partition))
        manifest = archive.manifest(topic, partition)
        if manifest is None:
            start = held.start
            if wanted.from_ms is not None:
                at = reader.offset_at(topic, partition, wanted.from_ms)
                start = held.stop if at is None else min(at, held.stop)
            manifest = Manifest(topic, found_id, partition, start, start, from_ms=wanted.from_ms)
            with _writing(archive):
                archive.save(manifest)
        manifest = continued(manifest, found_id, held, wanted, str(archive.folder))
        stop = held.stop
        if wanted.to_ms is not None:
            at = reader.offset_at(topic, partition, wanted.to_ms)
            stop = held.stop if at is None else min(at, held.stop)
        yield _Part(manifest, max(stop, manifest.next_offset))


def continued(manifest: Manifest, found_id: str, held: range, wanted: ExportRange, archive: str) -> Manifest:
    """The manifest that an export goes on from, where the topic has the id `found_id` and holds the offsets `held`.

    Raises `ArchiveError` where the records that follow are not those that follow the archive's.
    """
    where = f"{manifest.topic}-{manifest.partition}"
    require_same_topic(manifest, found_id, archive)
    if wanted.from_ms is not None and wanted.from_ms != manifest.from_ms:
        raise ArchiveError(
            f"{archive} begins {where} at offset {manifest.start_offset}, and --from says another time than when it "
            "was begun; leave --from out, or name another folder"
        )
    if held.stop < manifest.next_offset:
        raise ArchiveError(
            f"{where} ends before offset {held.stop}, and {archive} goes on at {manifest.next_offset}: the topic has "
            "lost records that the archive has; export into another folder once the topic is whole"
        )
    if held.start <= manifest.next_offset:
        return manifest
    lost = Segment(manifest.next_offset, held.start, lost=True)
    if not wanted.accepts_loss:
        raise ArchiveError(
            f"{where}: offsets {shown([range(lost.start_offset, lost.next_offset)])} have left the topic before they "
            "were exported; --accept-loss goes on without them, and the archive says so from then on"
        )
    return manifest.with_segment(lost)


@contextmanager
def _writing(archive: Archive) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveError(
            f"{archive.folder} cannot be written: {error.strerror or error}; what the manifests list is whole, make "
            "room and run the command again"
        ) from error


def _exported(
    reader: TopicReader, archive: Archive, part: _Part, on_progress: Callable[[int], None]
) -> PartitionReport:
    manifest, start = part.manifest, part.manifest.next_offset
    before = manifest.records
    with _writing(archive):
        removed = archive.tidy(manifest)
    if start < part.stop:
        records = reader.each(manifest.topic, manifest.partition, start)
        manifest = store(archive, manifest, _until(records, start, part.stop, on_progress), part.stop)
        on_progress(part.stop - start)
    return PartitionReport(
        manifest.topic,
        manifest.partition,
        manifest.records - before,
        manifest.records,
        manifest.start_offset,
        manifest.next_offset,
        manifest.size_bytes,
        manifest.unread_records,
        removed,
    )


def _until(records: Iterable[Record], start: int, stop: int, on_progress: Callable[[int], None]) -> Iterator[Record]:
    """Records up to before offset `stop`."""
    for number, record in enumerate(records):
        if record.offset >= stop:
            return
        yield record
        if number % PROGRESS_RECORDS == 0:
            on_progress(record.offset - start)


def store(
    archive: Archive,
    manifest: Manifest,
    records: Iterable[Record],
    stop: int,
    most_records: int = SEGMENT_RECORDS,
    most_bytes: int = SEGMENT_BYTES,
) -> Manifest:
    """Add the records that follow a manifest, all that there are up to before offset `stop`; returns the manifest that
    lists them. Raises `ArchiveError`."""
    for segment, contents in _segments(records, manifest.next_offset, stop, most_records, most_bytes):
        with _writing(archive):
            for file, content in zip(segment.files, contents, strict=True):
                archive.add(manifest, file, content)
            manifest = manifest.with_segment(segment)
            archive.save(manifest)
    return manifest


def _segments(
    records: Iterable[Record], start: int, stop: int, most_records: int, most_bytes: int
) -> Iterator[tuple[Segment, list[bytes]]]:
    """Records of the offsets from `start` up to before `stop`, cut into segments, with the contents of their files."""
    held: list[Record] = []
    held_bytes = 0
    for record in records:
        held.append(record)
        held_bytes += len(record.key or b"") + len(record.value or b"")
        held_bytes += sum(len(name) + len(content or b"") for name, content in record.headers or ())
        if len(held) >= most_records or held_bytes >= most_bytes:
            yield _segment(held, start, record.offset + 1)
            start, held, held_bytes = record.offset + 1, [], 0
    if held or start < stop:
        yield _segment(held, start, stop)


def _segment(records: Sequence[Record], start: int, next_offset: int) -> tuple[Segment, list[bytes]]:
    by_day: dict[str, list[Record]] = {}
    for record in records:
        by_day.setdefault(day_of(record.timestamp), []).append(record)
    files, contents = [], []
    for day, own in sorted(by_day.items()):
        file, content = encoded(own, day)
        files.append(file)
        contents.append(content)
    unread = sum(unread_records(record) or 0 for record in records)
    return Segment(start, next_offset, len(records), tuple(files), unread), contents


def encoded(records: Sequence[Record], day: str, revision: int = 0) -> tuple[ArchivedFile, bytes]:
    """The content of a file of records of one day, and what a manifest says of it."""
    content = encode(records)
    return (
        ArchivedFile(
            day,
            records[0].offset,
            records[-1].offset,
            len(records),
            len(content),
            hashlib.sha256(content).hexdigest(),
            revision,
        ),
        content,
    )
