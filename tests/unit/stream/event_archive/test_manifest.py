"""What a manifest says of a partition's offsets, and what it must not say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.event_archive.manifest import (
    NO_DAY,
    ArchivedFile,
    ArchiveError,
    Manifest,
    Segment,
    day_of,
    decode_manifest,
    is_file_name,
    require_same_topic,
    shown,
)

FILE = ArchivedFile("2024-03-01", 10, 14, 4, 1_000, "0" * 64)
MANIFEST = Manifest("risk.repayments", "id", 3, 10, 10).with_segment(Segment(10, 20, 4, (FILE,)))


@pytest.mark.parametrize(
    ("timestamp_ms", "day"),
    [
        (0, "1970-01-01"),
        (86_399_999, "1970-01-01"),
        (86_400_000, "1970-01-02"),
        (-2, "1969-12-31"),
        (1_709_251_200_000, "2024-03-01"),
        (-1, NO_DAY),
        (253_402_300_799_999, "9999-12-31"),
        (253_402_300_800_000, NO_DAY),
        (1 << 62, NO_DAY),
        (-(1 << 62), NO_DAY),
    ],
)
def test_a_day_is_that_of_the_time_in_utc(timestamp_ms: int, day: str) -> None:
    assert day_of(timestamp_ms) == day


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert decode_manifest(msgspec.json.encode(MANIFEST), "here") == MANIFEST
    assert MANIFEST.path_of(FILE) == ("topic=risk.repayments/date=2024-03-01/partition=3/00000000000000000010.parquet")
    assert (MANIFEST.records, MANIFEST.size_bytes, MANIFEST.next_offset) == (4, 1_000, 20)


def test_a_file_that_was_written_anew_has_another_name() -> None:
    again = msgspec.structs.replace(FILE, revision=2)
    assert again.name == "00000000000000000010.2.parquet"
    assert all(is_file_name(name) for name in (FILE.name, again.name))
    assert not any(is_file_name(name) for name in ("10.parquet", "part-0.parquet", f"{FILE.name}.bak"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"topic": "../outside"}, "is no partition of a topic"),
        ({"topic": ".."}, "is no partition of a topic"),
        ({"partition": -1}, "is no partition of a topic"),
        ({"start_offset": 9}, "what follows offset 9 is said to begin at 10"),
        ({"next_offset": 21}, "what follows offset 20 is said to begin at 21"),
        ({"format": 2}, "has format 2, this release reads 1"),
        ({"segments": [{"start_offset": 10, "next_offset": 20, "records": 4}]}, "have 4 records, their files another"),
        ({"unknown": 1}, "is no manifest"),
    ],
)
def test_what_contradicts_itself_is_refused(change: dict[str, Any], said: str) -> None:
    content = msgspec.json.encode(msgspec.to_builtins(MANIFEST) | change)
    with pytest.raises(ArchiveError, match=said):
        decode_manifest(content, "DIR/_manifests/x/3.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"day": "2024-02-30"}, "has the day"),
        ({"day": "../../x"}, "has the day"),
        ({"day": "20240301"}, "has the day"),
        ({"last_offset": 20}, "does not fit into offsets 10 to 19"),
        ({"first_offset": 15}, "does not fit"),
        ({"revision": -1}, "does not fit"),
    ],
)
def test_a_file_that_cannot_be_is_refused(change: dict[str, Any], said: str) -> None:
    (segment,) = MANIFEST.segments
    file = msgspec.structs.replace(FILE, **change)
    wrong = msgspec.structs.replace(MANIFEST, segments=(msgspec.structs.replace(segment, files=(file,)),))
    with pytest.raises(ArchiveError, match=said):
        decode_manifest(msgspec.json.encode(wrong), "here")


@given(st.binary(max_size=60))
def test_bytes_that_are_no_manifest_are_refused(content: bytes) -> None:
    with pytest.raises(ArchiveError, match="here is no manifest"):
        decode_manifest(content, "here")


def test_offsets_without_a_record_make_no_segment_of_their_own() -> None:
    grown = MANIFEST.with_segment(Segment(20, 21)).with_segment(Segment(21, 25))
    assert [(segment.start_offset, segment.next_offset) for segment in grown.segments] == [(10, 25)]
    lost = grown.with_segment(Segment(25, 30, lost=True)).with_segment(Segment(30, 31))
    assert lost.lost == [range(25, 30)]
    assert lost.next_offset == 31
    assert decode_manifest(msgspec.json.encode(lost), "here") == lost
    assert shown(lost.lost) == "25 to 29"


def test_a_topic_that_was_made_anew_is_refused() -> None:
    require_same_topic(MANIFEST, "id", "DIR")
    with pytest.raises(ArchiveError, match="was made anew since DIR was begun"):
        require_same_topic(MANIFEST, "other", "DIR")
