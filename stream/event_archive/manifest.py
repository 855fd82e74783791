"""What an archive holds of one partition of a topic: which offsets, in which files. Pure.

A partition's offsets are cut into segments without a space between them. The records of a segment lie in one file for
each day of their timestamps, so that within a segment, files overlap in offsets; between segments they do not.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

import msgspec

FORMAT = 1
"""Of manifests and files. One that this release does not know is refused."""

NO_DAY = "__HIVE_DEFAULT_PARTITION__"
"""Day of a record whose timestamp names none: of a producer that sends no times, or outside the years 1 to 9999.
Readers of partitioned data take the name for NULL."""

TOPIC_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
"""What Kafka allows as the name of a topic."""

_DAY_MS = 86_400_000
_FIRST_DAY = dt.date(1970, 1, 1).toordinal()
_FILE_NAME = re.compile(r"\d{20}(\.\d+)?\.parquet")


class ArchiveError(RuntimeError):
    """An archive cannot be written or used; the message says what is wrong, where, and what to do."""


class ArchivedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file: records of one day, in the order of their offsets. `revision` counts how often it was written anew."""

    day: str
    first_offset: int
    last_offset: int
    records: int
    size_bytes: int
    sha256: str
    revision: int = 0

    @property
    def name(self) -> str:
        return f"{self.first_offset:020d}{f'.{self.revision}' if self.revision else ''}.parquet"


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Offsets from `start_offset` up to before `next_offset`, of which `records` have a record.

    The others are ends of transactions, aborted, or were compacted away. `lost` are offsets whose records had left the
    topic before they were read. `unread_records` are those of batches that were too large to be unpacked; one record
    stands for each such batch (`stream.kafka.unpacking`).
    """

    start_offset: int
    next_offset: int
    records: int = 0
    files: tuple[ArchivedFile, ...] = ()
    unread_records: int = 0
    lost: bool = False


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the archive holds of one partition. `topic_id` is the broker's; `from_ms` is where an export was told to
    begin, in milliseconds of record timestamps."""

    topic: str
    topic_id: str
    partition: int
    start_offset: int
    next_offset: int
    segments: tuple[Segment, ...] = ()
    from_ms: int | None = None
    format: int = FORMAT

    @property
    def records(self) -> int:
        return sum(segment.records for segment in self.segments)

    @property
    def unread_records(self) -> int:
        return sum(segment.unread_records for segment in self.segments)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def files(self) -> Iterator[ArchivedFile]:
        return (file for segment in self.segments for file in segment.files)

    @property
    def lost(self) -> list[range]:
        """Offsets whose records had left the topic before they were read."""
        return [range(segment.start_offset, segment.next_offset) for segment in self.segments if segment.lost]

    def path_of(self, file: ArchivedFile) -> str:
        """The file's place in the archive's folder."""
        return f"{folder_of(self.topic, file.day, self.partition)}/{file.name}"

    def with_segment(self, segment: Segment) -> Manifest:
        """With one more segment. Offsets without a record make none of their own, or each look at a topic would."""
        before, segments = self.segments[-1:], (*self.segments, segment)
        if before and not segment.records and segment.lost == before[0].lost:
            longer = msgspec.structs.replace(before[0], next_offset=segment.next_offset)
            segments = (*self.segments[:-1], longer)
        return msgspec.structs.replace(self, segments=segments, next_offset=segment.next_offset)


def folder_of(topic: str, day: str, partition: int) -> str:
    """Folder of a partition's records of one day, as tools for partitioned data name it."""
    return f"topic={topic}/date={day}/partition={partition}"


def is_file_name(name: str) -> bool:
    """Whether an archive may have given a file this name."""
    return _FILE_NAME.fullmatch(name) is not None


def day_of(timestamp_ms: int) -> str:
    """The day, in UTC, of a record's timestamp; `NO_DAY` where it has none."""
    if timestamp_ms == -1:
        return NO_DAY
    try:
        return dt.date.fromordinal(_FIRST_DAY + timestamp_ms // _DAY_MS).isoformat()
    except (ValueError, OverflowError):
        return NO_DAY


def require_same_topic(manifest: Manifest, found_id: str, archive: str) -> None:
    """Raises `ArchiveError` where a topic was deleted and made anew, so that its offsets name other records."""
    if manifest.topic_id != found_id:
        raise ArchiveError(
            f"topic {manifest.topic} was made anew since {archive} was begun (its id is {found_id}, that of the "
            f"archived one {manifest.topic_id}): the same offsets are other records; name another folder"
        )


def decode_manifest(content: bytes, place: str) -> Manifest:
    """A manifest, looked over. Raises `ArchiveError`, which names its `place`."""
    try:
        found = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArchiveError(f"{place} is no manifest of an archive: {error}; restore it from a backup") from None
    if found.format != FORMAT:
        raise ArchiveError(f"{place} has format {found.format}, this release reads {FORMAT}; use a newer release")
    wrong = next(faults(found), None)
    if wrong is not None:
        raise ArchiveError(f"{place}: {wrong}; restore it from a backup")
    return found


def faults(manifest: Manifest) -> Iterator[str]:
    """What in a manifest contradicts itself."""
    if not TOPIC_NAME.fullmatch(manifest.topic) or manifest.partition < 0:
        yield f"{manifest.topic!r:.100}-{manifest.partition} is no partition of a topic"
    borders = [(manifest.start_offset, manifest.start_offset)]
    borders += [(segment.start_offset, segment.next_offset) for segment in manifest.segments]
    borders += [(manifest.next_offset, manifest.next_offset)]
    for (_, end), (start, next_offset) in pairwise(borders):
        if start != end or next_offset < start or start < 0:
            yield f"what follows offset {end} is said to begin at {start} and to end before {next_offset}"
    for segment in manifest.segments:
        yield from _faults_of(segment)


def _faults_of(segment: Segment) -> Iterator[str]:
    offsets = range(segment.start_offset, segment.next_offset)
    if segment.records != sum(file.records for file in segment.files):
        yield f"offsets {_shown(offsets)} have {segment.records} records, their files another number"
    for file in segment.files:
        inside = file.first_offset in offsets and file.last_offset in offsets and file.first_offset <= file.last_offset
        if not inside or not 1 <= file.records <= file.last_offset - file.first_offset + 1 or file.revision < 0:
            yield f"file {file.name} does not fit into offsets {_shown(offsets)}"
        if file.day != NO_DAY and not _is_day(file.day):
            yield f"file {file.name} has the day {file.day!r:.40}"


def _is_day(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _shown(offsets: range) -> str:
    return f"{offsets.start} to {offsets.stop - 1}"


def shown(ranges: Iterable[range]) -> str:
    """Ranges of offsets in words."""
    return ", ".join(map(_shown, ranges))
