"""What an import finds in a topic is compared with what is to be there, before it goes on.

Sending itself is tried on the real broker in tests/integration/test_event_archive.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from stream.event_archive.archive import Archive
from stream.event_archive.manifest import ArchiveError
from stream.event_archive.reader import ArchiveReader
from stream.event_archive.sending import Placed, Target, compare
from stream.kafka.record import RawRecord

Make = Callable[..., Archive]
Some = Callable[..., list[RawRecord]]


class Topic:
    """One partition that holds these records, from offset `begin` on."""

    def __init__(self, records: Sequence[RawRecord], begin: int = 0) -> None:
        self.records = [record for record in records if record.offset >= begin]
        self.begin = begin

    def span(self, _topic: str, _partition: int) -> tuple[int, int]:
        return self.begin, 1 + max((record.offset for record in self.records), default=-1)

    def each(self, _topic: str, _partition: int, since: int) -> Iterator[RawRecord]:
        return (record for record in self.records if record.offset >= since)


def compared(made: Archive, base: int | None, topic: Topic, end: int) -> tuple[int, list[Placed]]:
    """How many records are there, and what follows."""
    (manifest,) = made.manifests()
    target = Target(manifest, "again", base)
    with ArchiveReader(made.folder) as archived:
        any_topic: Any = topic
        count, rest = compare(any_topic, target.placed(archived), target, end, lambda _done: None)
        return count, list(rest)


def moved(records: Sequence[RawRecord], base: int) -> list[RawRecord]:
    return [msgspec.structs.replace(record, offset=base + number) for number, record in enumerate(records)]


@pytest.mark.parametrize("there", [0, 1, 4, 6])
@pytest.mark.parametrize("keeps", [True, False])
def test_what_follows_is_what_is_not_there(make_archive: Make, some_records: Some, there: int, keeps: bool) -> None:
    records = some_records([0, 1, 4, 5, 9, 10])
    made = make_archive(records)
    placed = records if keeps else moved(records, 20)
    end = 1 + placed[there - 1].offset if there else placed[0].offset
    count, rest = compared(made, None if keeps else 20, Topic(placed[:there]), end)
    assert count == there
    assert rest == [(place.offset, record) for place, record in zip(placed[there:], records[there:], strict=True)]


def test_a_gap_that_was_filled_in_part_is_no_record(make_archive: Make, some_records: Some) -> None:
    records = some_records([0, 1, 8, 9])
    count, rest = compared(make_archive(records), None, Topic(records[:2]), 5)
    assert (count, [place for place, _ in rest]) == (2, [8, 9])


def test_what_was_compacted_or_deleted_since_counts_as_there(make_archive: Make, some_records: Some) -> None:
    records = some_records(range(10))
    made = make_archive(records)
    assert compared(made, None, Topic(records[:8:3]), 8)[0] == 8
    assert compared(made, None, Topic(records[:8], begin=5), 8)[0] == 8
    assert compared(made, None, Topic([], begin=8), 8)[0] == 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": b"another"}, "has another record at offset 4 than the archive at 4"),
        ({"key": b"another"}, "has another record at offset 4"),
        ({"timestamp": 1}, "has another record at offset 4"),
        ({"headers": (("h", b""),)}, "has another record at offset 4"),
        ({"offset": 3}, "has a record at offset 3 that the archive has not"),
    ],
)
def test_a_record_of_somebody_else_is_an_error(
    make_archive: Make, some_records: Some, change: dict[str, Any], said: str
) -> None:
    records = some_records([0, 1, 4, 5])
    wrong = msgspec.structs.replace(records[2], **change)
    with pytest.raises(ArchiveError, match=f"again-0 {said}.*: somebody else writes there"):
        compared(make_archive(records), None, Topic([*records[:2], wrong, records[3]]), 6)


def test_a_record_behind_the_last_is_an_error(make_archive: Make, some_records: Some) -> None:
    records = some_records([0, 1])
    made = make_archive(records)
    with pytest.raises(ArchiveError, match="has a record at offset 2 that the archive has not"):
        compared(made, None, Topic([*records, *some_records([2])]), 3)
