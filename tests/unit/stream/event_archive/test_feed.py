"""A worker is fed all that an archive holds of a partition, in pieces, from any offset on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from faust.types import TP

from stream.event_archive.archive import Archive
from stream.event_archive.feed import ArchiveFeed
from stream.event_archive.reader import ArchiveReader
from stream.kafka.earlier_records import holds, joined
from stream.kafka.record import RawRecord

Make = Callable[..., Archive]
Some = Callable[..., list[RawRecord]]

REPAYMENTS = TP("repayments", 0)


def test_all_is_fed_in_pieces_that_follow_each_other(make_archive: Make, some_records: Some) -> None:
    records = some_records(range(3, 90, 2))
    feed = ArchiveFeed(ArchiveReader(make_archive(records, stop=95, most_records=10).folder), records=7)
    assert feed.span(REPAYMENTS) == (0, 95)
    position, found = 0, []
    while holds(feed, REPAYMENTS, position):
        fetched = feed.read({REPAYMENTS: position})[REPAYMENTS]
        assert fetched.start == position
        assert all(position <= record.offset < fetched.end for record in fetched.records)
        found += fetched.records
        position = fetched.end
    assert (position, found) == (95, records)


def test_it_begins_anywhere_and_again(make_archive: Make, some_records: Some) -> None:
    """As after a rebalance, and with several partitions at a time."""
    records, others = some_records(range(20)), some_records(range(5), "profiles")
    feed = ArchiveFeed(ArchiveReader(make_archive([*records, *others]).folder), records=6)
    profiles = TP("profiles", 0)
    for position in (0, 6, 3, 13, 0):
        fetched = feed.read({REPAYMENTS: position, profiles: 2})
        assert list(fetched[REPAYMENTS].records) == records[position : position + 6]
        assert list(fetched[profiles].records) == others[2:]
        assert fetched[profiles].end == 5


def test_several_archives_are_fed_as_one(make_archive: Make, some_records: Some) -> None:
    records = some_records(range(50))
    folders = [make_archive(records[:30], name="a").folder, make_archive(records[20:], name="b").folder]
    feed = ArchiveFeed(ArchiveReader(folders), records=7)
    position, found = 0, []
    while holds(feed, REPAYMENTS, position):
        fetched = feed.read({REPAYMENTS: position})[REPAYMENTS]
        found += fetched.records
        position = fetched.end
    assert (position, found) == (50, records)


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ((40, 120), (10, 120, False)),
        ((0, 120), (0, 120, False)),
        ((100, 100), (10, 100, False)),
        ((0, 0), (10, 90, True)),
    ],
)
def test_archive_and_topic_are_joined(
    make_archive: Make, some_records: Some, topic: tuple[int, int], expected: tuple[int, int, bool]
) -> None:
    feed = ArchiveFeed(ArchiveReader(make_archive(some_records(range(10, 90))).folder))
    assert joined(feed, REPAYMENTS, *topic) == expected
    assert joined(feed, TP("activity", 0), *topic) == (*topic, False)
    assert joined(None, REPAYMENTS, *topic) == (*topic, False)
    assert [holds(feed, REPAYMENTS, at) for at in (9, 10, 89, 90)] == [False, True, True, False]


def test_what_a_reader_says_of_an_archive(make_archive: Make, some_records: Some) -> None:
    made = make_archive([*some_records(range(4, 30)), *some_records(range(3), partition=1)], most_records=10)
    with ArchiveReader(made.folder) as reader:
        assert reader.archived_partitions("repayments") == 2
        assert reader.archived_partitions("profiles") == 0
        assert reader.exists("repayments")
        assert not reader.exists("profiles")
        assert reader.span("repayments", 0) == (4, 30)
        last = reader.last("repayments", 0)
        assert last is not None
        assert last.offset == 29
        assert reader.last("profiles", 0) is None
