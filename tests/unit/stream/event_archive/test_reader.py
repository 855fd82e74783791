"""An archive read alone: all records, in the order of their offsets, from any offset on, and nothing that is not whole.

What follows in topics is read in tests/integration/test_event_archive.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stream.event_archive import reader as module
from stream.event_archive.archive import Archive
from stream.event_archive.manifest import ArchiveError, Segment
from stream.event_archive.reader import ArchiveReader
from stream.kafka.record import RawRecord

Make = Callable[..., Archive]
Some = Callable[..., list[RawRecord]]


def test_records_of_several_days_and_segments_come_in_order(make_archive: Make, some_records: Some) -> None:
    records = some_records(range(2, 90, 2))
    made = make_archive(records, most_records=10)
    assert len(list(made.folder.glob("topic=repayments/date=*"))) == 2
    with ArchiveReader(made.folder) as reader:
        assert list(reader.each("repayments", 0)) == records
        for start in (0, 2, 3, 21, 22, 88, 89, 1_000):
            assert list(reader.each("repayments", 0, start)) == [each for each in records if each.offset >= start]
        assert list(reader.values("repayments", 0)) == [record.value for record in records]
        assert reader.size(["repayments"]) == 87
        assert reader.topics == ["repayments"]


def test_several_topics_are_read_in_turn(
    make_archive: Make, some_records: Some, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_RECORDS", 8)
    long, short = some_records(range(11)), some_records(range(4), "profiles")
    made = make_archive([*long, *short])
    with ArchiveReader(made.folder) as reader:
        found = list(reader.records(["repayments", "profiles"], 0))
    assert [record for batch, _ in found for record in batch.get("repayments", [])] == long
    assert [record for batch, _ in found for record in batch.get("profiles", [])] == short
    assert found[0][1] == {"repayments", "profiles"}
    assert found[-1][1] == set()
    assert max(sum(map(len, batch.values())) for batch, _ in found) == 8


def test_partitions_are_counted_up_to_the_last(make_archive: Make, some_records: Some) -> None:
    made = make_archive([*some_records(range(3)), *some_records(range(3), partition=4)])
    with ArchiveReader(made.folder) as reader:
        assert reader.partitions("repayments") == 5
        assert len(list(reader.each("repayments", 4))) == 3
        for topic, partition in (("repayments", 2), ("profiles", 0)):
            with pytest.raises(ArchiveError, match=f"holds nothing of {topic}-{partition}"):
                list(reader.each(topic, partition))
        with pytest.raises(ArchiveError, match="holds nothing of profiles"):
            reader.partitions("profiles")


def test_lost_records_are_an_error_unless_they_are_accepted(make_archive: Make, some_records: Some) -> None:
    records = some_records(range(5))
    made = make_archive(records)
    (manifest,) = made.manifests()
    made.save(manifest.with_segment(Segment(5, 9, lost=True)))
    with ArchiveReader(made.folder) as reader, pytest.raises(ArchiveError, match="offsets 5 to 8 are not in"):
        list(reader.each("repayments", 0))
    with ArchiveReader(made.folder) as reader:
        assert list(reader.each("repayments", 0, 9)) == []
    with ArchiveReader(made.folder, accepts_loss=True) as reader:
        assert list(reader.each("repayments", 0)) == records


def test_nothing_of_a_damaged_file_is_given_out(make_archive: Make, some_records: Some) -> None:
    made = make_archive(some_records(range(4)))
    for place in made.folder.rglob("*.parquet"):
        place.write_bytes(place.read_bytes()[:-1] + b"\0")
    with ArchiveReader(made.folder) as reader, pytest.raises(ArchiveError, match="is damaged"):
        next(reader.each("repayments", 0))


def test_several_archives_are_read_as_one(make_archive: Make, some_records: Some) -> None:
    """Of which the second begins before the first ends, and only one has the second partition."""
    records, others = some_records(range(90)), some_records(range(7), partition=1)
    first = make_archive(records[:40], name="2024", most_records=12)
    second = make_archive([*records[30:], *others], name="2025", most_records=10)
    with ArchiveReader([second.folder, first.folder]) as reader:
        assert list(reader.each("repayments", 0)) == records
        for start in (0, 29, 35, 40, 41, 89, 90):
            assert list(reader.each("repayments", 0, start)) == records[start:]
        assert list(reader.each("repayments", 1)) == others
        assert reader.archived_span("repayments", 0) == reader.span("repayments", 0) == (0, 90)
        assert reader.archived_partitions("repayments") == 2
        last = reader.last("repayments", 0)
        assert last is not None
        assert last.offset == 89
        for before in (1, 12, 30, 41, 89):
            found = reader.last("repayments", 0, before)
            assert found is not None
            assert found.offset == before - 1
        assert reader.last("repayments", 0, 0) is None


def test_archives_that_leave_out_records_between_them_are_an_error(make_archive: Make, some_records: Some) -> None:
    first = make_archive(some_records(range(10)), name="2023")
    third = make_archive(some_records(range(20, 30)), name="2025")
    with pytest.raises(ArchiveError, match=r"repayments-0: offsets 10 to 19 lie between .*2023 and .*2025"):
        ArchiveReader([first.folder, third.folder])


def test_archives_of_a_topic_that_was_made_anew_are_an_error(make_archive: Make, some_records: Some) -> None:
    first = make_archive(some_records(range(10)), name="before")
    second = make_archive(some_records(range(10)), name="after", of="another-")
    with pytest.raises(ArchiveError, match="different topics of the name repayments"):
        ArchiveReader([first.folder, second.folder])


def test_what_one_archive_has_lost_another_may_have(make_archive: Make, some_records: Some) -> None:
    records = some_records(range(20))
    late = make_archive(records[:5], name="late")
    (manifest,) = late.manifests()
    late.save(manifest.with_segment(Segment(5, 12, lost=True)))
    early = make_archive(records[3:], name="early")
    with ArchiveReader([late.folder, early.folder]) as reader:
        assert list(reader.each("repayments", 0)) == records
