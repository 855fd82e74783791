"""An archive in a folder of the test's own, without a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stream.event_archive.archive import Archive, Description
from stream.event_archive.export import store
from stream.event_archive.manifest import Manifest
from stream.kafka.record import RawRecord

DAY_MS = 86_400_000


@pytest.fixture
def make_archive(tmp_path: Path) -> Callable[..., Archive]:
    """Makes an archive of records by topic and partition; options are those of `store`."""

    def make(
        records: Iterable[RawRecord], stop: int | None = None, name: str = "archive", of: str = "id-of-", **options: Any
    ) -> Archive:
        archive = Archive.make(tmp_path / name, Description("", "foreshock"))
        by_place: dict[tuple[str, int], list[RawRecord]] = {}
        for record in records:
            by_place.setdefault((record.topic, record.partition), []).append(record)
        for (topic, partition), own in by_place.items():
            start = own[0].offset if stop is None else 0
            manifest = Manifest(topic, of + topic, partition, start, start)
            store(archive, manifest, own, own[-1].offset + 1 if stop is None else stop, **options)
        return archive

    return make


@pytest.fixture
def some_records() -> Callable[..., list[RawRecord]]:
    """Makes records of one partition, a third of them of the day before: offsets, and what each is to have."""

    def make(offsets: Sequence[int], topic: str = "repayments", partition: int = 0) -> list[RawRecord]:
        return [
            RawRecord(
                topic,
                partition,
                offset,
                19_800 * DAY_MS - (offset % 3 == 0) * DAY_MS + offset,
                None if offset % 7 == 6 else b"user-%d" % (offset % 5),
                None if offset % 11 == 10 else b'{"event":%d}' % offset,
                (("trace", b"%d" % offset), ("none", None)) if offset % 4 == 0 else (),
            )
            for offset in offsets
        ]

    return make
