"""What is wrong with an archive is found and named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest

from stream.event_archive.archive import Archive
from stream.event_archive.check import check
from stream.event_archive.manifest import ArchivedFile, Segment
from stream.event_archive.parquet import encode
from stream.kafka.record import TOO_LARGE_HEADER, RawRecord

Make = Callable[..., Archive]
Some = Callable[..., list[RawRecord]]


def test_a_whole_archive_has_no_faults(make_archive: Make, some_records: Some) -> None:
    stand_in = RawRecord("repayments", 0, 50, 0, None, None, ((TOO_LARGE_HEADER, b"12"),))
    made = make_archive(
        [*some_records([3, 4, 8, 9, 20]), stand_in, *some_records(range(7), "profiles", 2)], most_records=3
    )
    profiles, repayments = check(made)
    assert (profiles.faults, repayments.faults) == ((), ())
    assert (profiles.partition, profiles.records, profiles.without_record) == (2, 7, 0)
    assert (repayments.start_offset, repayments.next_offset, repayments.records) == (3, 51, 6)
    assert (repayments.without_record, repayments.unread_records, repayments.lost_offsets) == (42, 12, 0)


def test_lost_offsets_are_no_fault_and_are_told(make_archive: Make, some_records: Some) -> None:
    made = make_archive(some_records(range(5)))
    (manifest,) = made.manifests()
    made.save(manifest.with_segment(Segment(5, 9, lost=True)))
    (found,) = check(made)
    assert (found.faults, found.lost_offsets, found.without_record) == ((), 4, 0)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("day", "offset 1 is of 2024-03-18, not of 1999-01-01"),
        ("order", "offset 1 follows 2"),
        ("count", "has 2 records, the manifest says 3"),
        ("bytes", "is damaged"),
        ("gone", "cannot be read"),
        ("twice", "offset 1 stands in two files of 1 to 5"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_named(
    make_archive: Make, some_records: Some, monkeypatch: pytest.MonkeyPatch, damage: str, said: str
) -> None:
    """A file more, beside those of a whole archive, and a manifest that lists it, whatever it must not say."""
    one, two, *_ = records = some_records([1, 2, 4, 5])
    made = make_archive(records)
    (manifest,) = made.manifests()
    (segment,) = manifest.segments
    content = encode({"order": [two, one], "count": [one, two]}.get(damage, [one]))
    day = "1999-01-01" if damage == "day" else "2024-03-18"
    number = 3 if damage == "count" else 1
    file = ArchivedFile(day, 1, number, number, len(content), hashlib.sha256(content).hexdigest(), revision=9)
    made.add(manifest, file, content)
    place = made.folder / manifest.path_of(file)
    if damage == "bytes":
        place.write_bytes(content[:-1] + b"\0")
    if damage == "gone":
        place.unlink()
    changed = msgspec.structs.replace(segment, files=(*segment.files, file))
    monkeypatch.setattr(made, "manifests", lambda: [msgspec.structs.replace(manifest, segments=(changed,))])
    (found,) = check(made)
    assert len(found.faults) == 1
    assert said in found.faults[0]


def test_batches_that_were_not_unpacked_are_counted_again(make_archive: Make, some_records: Some) -> None:
    made = make_archive(some_records(range(3)))
    (manifest,) = made.manifests()
    made.save(
        msgspec.structs.replace(manifest, segments=(msgspec.structs.replace(manifest.segments[0], unread_records=3),))
    )
    (found,) = check(made)
    assert found.faults == ("repayments-0: 0 records of 0 to 2 were not unpacked, the manifest says 3",)
