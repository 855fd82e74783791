"""Erases a user from an archive: records of theirs lose value and headers and stay as tombstones, at their offsets.

A file that holds such a record is written anew under another name; the manifest that lists it then takes the former
one's place, and the former file is removed. Ended in between, the command is run again. Offsets and numbers of records
stay, and with them the order of all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from stream.event_archive.archive import Archive
from stream.event_archive.export import encoded
from stream.event_archive.manifest import ArchivedFile, ArchiveError, Manifest
from stream.event_archive.parquet import decode, has_key
from stream.kafka.record import RawRecord

IsAbout = Callable[[RawRecord], bool]


class Erased(msgspec.Struct, frozen=True):
    """How many records of a partition were erased, in how many files."""

    topic: str
    partition: int
    records: int
    files: int


def erase(
    archive: Archive,
    key: bytes,
    is_about: dict[str, IsAbout],
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[Erased]:
    """Erase the records with a key; of the topics in `is_about` those that it says. Yields what was done by partition.

    The archive must be `locked`. `on_progress` gets bytes done and all. Raises `ArchiveError`.
    """
    manifests = archive.manifests()
    total, done = sum(manifest.size_bytes for manifest in manifests), 0
    for manifest in manifests:
        told = is_about.get(manifest.topic)
        about: IsAbout = (lambda record: record.key == key) if told is None else told
        rewritten: dict[ArchivedFile, ArchivedFile] = {}
        records = 0
        try:
            archive.tidy(manifest)
            for file in manifest.files:
                content = archive.content(manifest, file)
                if told is not None or has_key(content, key):
                    found, count = _without(archive, manifest, file, content, about)
                    if count:
                        rewritten[file] = found
                        records += count
                done += file.size_bytes
                on_progress(done, total)
            if rewritten:
                changed = _replaced(manifest, rewritten)
                archive.save(changed)
                archive.tidy(changed)
        except OSError as error:
            raise ArchiveError(
                f"{archive.folder} cannot be written: {error.strerror}; make room and run the command again"
            ) from error
        yield Erased(manifest.topic, manifest.partition, records, len(rewritten))


def _without(
    archive: Archive, manifest: Manifest, file: ArchivedFile, content: bytes, about: IsAbout
) -> tuple[ArchivedFile, int]:
    """The file that takes the place of one, written, and how many records in it were erased; the same one if none."""
    place = str(archive.folder / manifest.path_of(file))
    records = list(decode(content, manifest.topic, manifest.partition, place))
    count = 0
    for number, record in enumerate(records):
        if (record.value is not None or record.headers) and about(record):
            records[number] = msgspec.structs.replace(record, value=None, headers=())
            count += 1
    if not count:
        return file, 0
    found, new_content = encoded(records, file.day, file.revision + 1)
    archive.add(manifest, found, new_content)
    return found, count


def _replaced(manifest: Manifest, rewritten: dict[ArchivedFile, ArchivedFile]) -> Manifest:
    segments = tuple(
        msgspec.structs.replace(segment, files=tuple(rewritten.get(file, file) for file in segment.files))
        for segment in manifest.segments
    )
    return msgspec.structs.replace(manifest, segments=segments)
