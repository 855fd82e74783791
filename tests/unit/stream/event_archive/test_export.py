"""Where an export goes on, and how records are cut into segments and days."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stream.event_archive.archive import Archive
from stream.event_archive.export import ExportRange, continued
from stream.event_archive.manifest import NO_DAY, ArchiveError, Manifest, Segment
from stream.kafka.record import RawRecord

Make = Callable[..., Archive]
Some = Callable[..., list[RawRecord]]
MANIFEST = Manifest("repayments", "id", 0, 5, 5).with_segment(Segment(5, 10))


def test_it_goes_on_where_the_archive_ends() -> None:
    for held in (range(0, 10), range(5, 30), range(10, 10), range(10, 12)):
        assert continued(MANIFEST, "id", held, ExportRange(), "DIR") == MANIFEST


@pytest.mark.parametrize(
    ("found_id", "held", "wanted", "said"),
    [
        ("other", range(0, 10), ExportRange(), "was made anew"),
        ("id", range(0, 9), ExportRange(), "ends before offset 9, and DIR goes on at 10"),
        ("id", range(13, 20), ExportRange(), "offsets 10 to 12 have left the topic before they were exported"),
        ("id", range(0, 10), ExportRange(from_ms=7), "--from says another time"),
    ],
)
def test_what_does_not_follow_the_archive_is_refused(
    found_id: str, held: range, wanted: ExportRange, said: str
) -> None:
    with pytest.raises(ArchiveError, match=said):
        continued(MANIFEST, found_id, held, wanted, "DIR")


def test_a_loss_that_is_accepted_is_noted() -> None:
    found = continued(MANIFEST, "id", range(13, 20), ExportRange(accepts_loss=True), "DIR")
    assert found.lost == [range(10, 13)]
    assert found.next_offset == 13


def test_a_segment_ends_by_number_or_size(make_archive: Make) -> None:
    records = [RawRecord("t", 0, offset, 0, b"k" * 10, b"v" * 90, ()) for offset in range(20)]
    (by_number,) = make_archive(records, most_records=6).manifests()
    assert [segment.records for segment in by_number.segments] == [6, 6, 6, 2]


def test_headers_count_as_bytes(make_archive: Make) -> None:
    records = [RawRecord("t", 0, offset, 0, None, None, (("n" * 40, b"v" * 60),)) for offset in range(20)]
    (by_size,) = make_archive(records, most_bytes=500).manifests()
    assert [segment.records for segment in by_size.segments] == [5, 5, 5, 5]


def test_offsets_behind_the_last_record_are_covered(make_archive: Make, some_records: Some) -> None:
    (found,) = make_archive(some_records([2, 3]), stop=9, most_records=1).manifests()
    assert (found.start_offset, found.next_offset, found.records) == (0, 9, 2)
    assert [(each.start_offset, each.next_offset) for each in found.segments] == [(0, 3), (3, 9)]


def test_a_record_without_a_time_has_no_day(make_archive: Make) -> None:
    made = make_archive([RawRecord("t", 0, 0, -1, None, b"v", ())])
    (manifest,) = made.manifests()
    assert [file.day for file in manifest.files] == [NO_DAY]
    assert (made.folder / f"topic=t/date={NO_DAY}/partition=0").is_dir()
