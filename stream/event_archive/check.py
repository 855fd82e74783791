"""Compares an archive's files with its manifests, and with themselves. Reads all of them; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import msgspec

from stream.event_archive.archive import Archive
from stream.event_archive.manifest import ArchivedFile, ArchiveError, Manifest, Segment, day_of, shown
from stream.event_archive.parquet import decode
from stream.kafka.record import unread_records


class PartitionCheck(msgspec.Struct, frozen=True):
    """What was found of one partition. `faults` are in words; none means that it is whole.

    `without_record` counts the offsets between the first and the last that have no record: ends of transactions,
    aborted, or compacted away.
    """

    topic: str
    partition: int
    files: int
    records: int
    start_offset: int
    next_offset: int
    without_record: int
    lost_offsets: int
    unread_records: int
    size_bytes: int
    leftovers: int
    faults: tuple[str, ...]


def check(
    archive: Archive, on_progress: Callable[[int, int], None] = lambda _done, _total: None
) -> Iterator[PartitionCheck]:
    """Check every partition; `on_progress` gets bytes done and all. Raises `ArchiveError` for a manifest that cannot be
    read."""
    manifests = archive.manifests()
    total, done = sum(manifest.size_bytes for manifest in manifests), 0
    for manifest in manifests:
        faults: list[str] = []
        for segment in manifest.segments:
            faults += _segment_faults(archive, manifest, segment)
            done += sum(file.size_bytes for file in segment.files)
            on_progress(done, total)
        lost = sum(len(offsets) for offsets in manifest.lost)
        yield PartitionCheck(
            manifest.topic,
            manifest.partition,
            len(list(manifest.files)),
            manifest.records,
            manifest.start_offset,
            manifest.next_offset,
            manifest.next_offset - manifest.start_offset - manifest.records - lost,
            lost,
            manifest.unread_records,
            manifest.size_bytes,
            len(archive.leftovers(manifest)),
            tuple(faults),
        )


def _segment_faults(archive: Archive, manifest: Manifest, segment: Segment) -> Iterator[str]:
    offsets: list[int] = []
    unread = 0
    for file in segment.files:
        try:
            found, stand_ins = _offsets_of(archive, manifest, file)
        except ArchiveError as error:
            yield str(error)
            return
        offsets += found
        unread += stand_ins
    offsets.sort()
    where = shown([range(segment.start_offset, segment.next_offset)])
    twice = next((one for one, other in pairwise(offsets) if one == other), None)
    if twice is not None:
        yield f"{manifest.topic}-{manifest.partition}: offset {twice} stands in two files of {where}"
    if unread != segment.unread_records:
        yield (
            f"{manifest.topic}-{manifest.partition}: {unread} records of {where} were not unpacked, the manifest says "
            f"{segment.unread_records}"
        )


def _offsets_of(archive: Archive, manifest: Manifest, file: ArchivedFile) -> tuple[list[int], int]:
    """The offsets in a file, and the number of records that were not unpacked. Raises `ArchiveError`."""
    place = str(archive.folder / manifest.path_of(file))
    offsets: list[int] = []
    unread = 0
    for record in decode(archive.content(manifest, file), manifest.topic, manifest.partition, place):
        if offsets and record.offset <= offsets[-1]:
            raise ArchiveError(f"{place}: offset {record.offset} follows {offsets[-1]}; restore it from a backup")
        if day_of(record.timestamp) != file.day:
            raise ArchiveError(f"{place}: offset {record.offset} is of {day_of(record.timestamp)}, not of {file.day}")
        offsets.append(record.offset)
        unread += unread_records(record) or 0
    told = (file.first_offset, file.last_offset, file.records)
    if (*(offsets[:1] + offsets[-1:]), len(offsets)) != told:
        raise ArchiveError(
            f"{place} has {len(offsets)} records, the manifest says {file.records} from offset {file.first_offset} to "
            f"{file.last_offset}; restore it from a backup"
        )
    return offsets, unread
