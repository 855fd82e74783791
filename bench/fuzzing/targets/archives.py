"""Targets of what an archive of topics holds: its description and manifests, what imports note, and its files."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from random import Random

import msgspec

from bench.fuzzing.mutation import JSON
from bench.fuzzing.target import NOW_MS, Check, Target, require
from stream.event_archive.archive import Description, decode_description
from stream.event_archive.manifest import (
    ArchivedFile,
    ArchiveError,
    Manifest,
    Segment,
    decode_manifest,
    is_file_name,
)
from stream.event_archive.parquet import decode, encode
from stream.event_archive.publishing import Begun, decode_begun
from stream.kafka.record import RawRecord

TOPIC = "repayments"


def _manifest_seeds() -> list[bytes]:
    digest = hashlib.sha256(b"").hexdigest()
    files = (
        ArchivedFile("2025-05-01", 0, 9, 8, 2_000, digest),
        ArchivedFile("__HIVE_DEFAULT_PARTITION__", 4, 11, 2, 900, digest, revision=1),
    )
    empty = Manifest(TOPIC, "pO2SXbYwQ7yOmGOFRmBbhw", 0, 0, 0)
    filled = empty.with_segment(Segment(0, 12, 10, files)).with_segment(Segment(12, 20, lost=True))
    later = Segment(20, 30, 1, (ArchivedFile("2025-05-02", 29, 29, 1, 700, digest),), unread_records=3)
    manifests = (empty, filled, filled.with_segment(later))
    described = msgspec.json.encode(Description("", "foreshock"))
    begun = msgspec.json.encode(Begun(TOPIC, "new.repayments", {0: 0, 1: 7}, keeps_offsets=True))
    return [b"\0" + described, b"\2" + begun, *(b"\1" + msgspec.json.encode(manifest) for manifest in manifests)]


def _manifests() -> Check:
    def check(content: bytes) -> str:
        if content[:1] == b"\2":
            return _check_begun(content[1:])
        try:
            if content[:1] == b"\0":
                description = decode_description(content[1:], "here")
                again = decode_description(msgspec.json.encode(description), "here")
                require(again == description, "a description is another when it is read again")
                return "description"
            manifest = decode_manifest(content[1:], "here")
        except ArchiveError as error:
            require(str(error).startswith("here") and len(str(error)) < 5_000, "a message without place or end")
            return f"refused: {str(error)[:40]}"
        again_read = decode_manifest(msgspec.json.encode(manifest), "here")
        require(again_read == manifest, "a manifest is another when it is read again")
        for file in manifest.files:
            path = PurePosixPath(manifest.path_of(file))
            require(len(path.parts) == 4 and ".." not in path.parts, "a file outside of the archive's folder")
            require(is_file_name(path.name), "a file of a name that an archive does not give")
        require(all(0 <= lost.start <= lost.stop <= manifest.next_offset for lost in manifest.lost), "lost elsewhere")
        return "manifest"

    return check


def _check_begun(content: bytes) -> str:
    try:
        begun = decode_begun(content)
    except ValueError as error:
        return f"refused: {str(error)[:40]}"
    require(decode_begun(msgspec.json.encode(begun)) == begun, "the beginning of an import is another when it is read")
    return "beginning"


def _record(offset: int, value: bytes | None) -> RawRecord:
    headers = (("trace", b"1"), ("none", None)) if offset % 3 == 0 else ()
    return RawRecord(TOPIC, 0, offset, NOW_MS + offset, b"u%d" % (offset % 4), value, headers)


def _file_seeds() -> list[bytes]:
    some = [_record(offset, None if offset % 5 == 4 else b'{"amount":%d}' % offset) for offset in range(30)]
    return [encode(some), encode(some[:1]), encode([])]


def with_magic(content: bytes, random: Random) -> bytes:
    """A mutated file that mostly begins and ends as Parquet does."""
    return content if random.random() < 0.1 else b"PAR1" + content[4:-4] + b"PAR1"


def _files() -> Check:
    def check(content: bytes) -> str:
        try:
            found = list(decode(content, TOPIC, 0, "here"))
        except ArchiveError as error:
            require(str(error).startswith("here") and len(str(error)) < 5_000, "a message without place or end")
            return f"refused: {str(error)[:60]}"
        for record in found:
            numbers = (record.offset, record.timestamp)
            require(all(type(number) is int for number in numbers), "a record without an offset or a time")
            contents = (record.key, record.value, *(value for _, value in record.headers))
            require(all(part is None or type(part) is bytes for part in contents), "a record of something but bytes")
            require(all(type(name) is str for name, _ in record.headers), "a header without a name")
        return f"records: {len(found)}"

    return check


TARGETS = (
    Target("archive-manifests", "manifests and descriptions of archives", _manifest_seeds, _manifests, JSON),
    Target(
        "archive-files", "records in an archive's Parquet files", _file_seeds, _files, largest=8_192, repair=with_magic
    ),
)
