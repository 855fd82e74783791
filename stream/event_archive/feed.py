"""Feeds a worker from an archive: what it holds of a partition is read from it, and not from the topic.

Memory holds, of each topic and partition that is read, the files of one segment, compressed, and a batch of records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from faust.types import TP

from stream.event_archive.reader import ArchiveReader
from stream.kafka.poll import Fetched
from stream.kafka.record import RawRecord

RECORDS = 2_000
"""So many of a partition are read at a time."""


class ArchiveFeed:
    """`stream.kafka.earlier_records.EarlierRecords` of an archive."""

    def __init__(self, reader: ArchiveReader, records: int = RECORDS) -> None:
        """`reader` needs no connection: the consumer reads the topics."""
        self._reader = reader
        self._records = records
        self._open: dict[TP, tuple[int, Iterator[RawRecord]]] = {}

    def span(self, tp: TP) -> tuple[int, int]:
        return self._reader.archived_span(tp.topic, tp.partition)

    def read(self, positions: Mapping[TP, int]) -> dict[TP, Fetched]:
        """Raises `ArchiveError` where a file is not what was written."""
        opened, self._open = self._open, {}
        found: dict[TP, Fetched] = {}
        for tp, position in positions.items():
            at, records = opened.get(tp, (-1, iter(())))
            if at != position:
                records = self._reader.archived(tp.topic, tp.partition, position)
            batch = list(islice(records, self._records))
            _, end = self.span(tp)
            if len(batch) == self._records:
                end = batch[-1].offset + 1
                self._open[tp] = end, records
            found[tp] = Fetched(batch, position, end)
        return found
