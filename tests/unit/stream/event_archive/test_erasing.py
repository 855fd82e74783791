"""A user is erased from an archive, everybody else stays as they were, and an interruption is made good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from stream.event_archive import archive as module
from stream.event_archive.archive import Archive, write_file
from stream.event_archive.check import check
from stream.event_archive.erasing import erase
from stream.event_archive.reader import ArchiveReader
from stream.kafka.record import RawRecord

Make = Callable[..., Archive]
Some = Callable[..., list[RawRecord]]
USER = b"user-2"


def erased(records: list[RawRecord]) -> list[RawRecord]:
    return [
        msgspec.structs.replace(record, value=None, headers=()) if record.key == USER else record for record in records
    ]


def read(made: Archive, topic: str = "repayments") -> list[RawRecord]:
    with ArchiveReader(made.folder) as reader:
        return list(reader.each(topic, 0))


def test_records_of_a_user_stay_as_tombstones(make_archive: Make, some_records: Some) -> None:
    records = some_records(range(40))
    made = make_archive(records, most_records=8)
    before = {path: path.read_bytes() for path in made.folder.rglob("*.parquet")}
    (done,) = erase(made, USER, {})
    assert done.records == sum(old != new for old, new in zip(records, erased(records), strict=True)) > 5
    assert read(made) == erased(records)
    (found,) = check(made)
    assert (found.faults, found.leftovers, found.records) == ((), 0, 40)
    after = {path: path.read_bytes() for path in made.folder.rglob("*.parquet")}
    assert len(after) == len(before)
    assert len(before.keys() - after.keys()) == done.files

    assert [(one.records, one.files) for one in erase(made, USER, {})] == [(0, 0)], "a second time does no harm"


def test_what_else_is_about_a_user_is_told_by_the_topic(make_archive: Make, some_records: Some) -> None:
    letters = [RawRecord("dead-letters", 0, n, 0, b"key", b"about %d" % (n % 2), ()) for n in range(6)]
    made = make_archive([*letters, *some_records(range(5))])
    done = {
        one.topic: one.records for one in erase(made, USER, {"dead-letters": lambda record: record.value == b"about 1"})
    }
    assert done == {"dead-letters": 3, "repayments": 1}
    assert [record.value for record in read(made, "dead-letters")] == [b"about 0", None] * 3


@pytest.mark.parametrize("writes", range(7))
def test_an_interruption_is_made_good_by_the_same_command(
    make_archive: Make, some_records: Some, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    records = some_records(range(40))
    made = make_archive(records, most_records=20)
    count = iter(range(writes))

    def dies(path: Path, content: bytes) -> None:
        if next(count, None) is None:
            raise KeyboardInterrupt
        write_file(path, content)

    monkeypatch.setattr(module, "write_file", dies)
    try:
        list(erase(made, USER, {}))
    except KeyboardInterrupt:
        assert read(made) in (records, erased(records))
    monkeypatch.setattr(module, "write_file", write_file)
    list(erase(made, USER, {}))
    assert read(made) == erased(records)
    (found,) = check(made)
    assert (found.faults, found.leftovers) == ((), 0)
