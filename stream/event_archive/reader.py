"""Reads records from an archive as `stream.kafka.topic_reader` does from topics, and from the topics what the archive
does not hold: what came before its first offset, and what came after its last export.

Each file is compared with its SHA-256 before anything of it is used. Memory holds the files of one segment, compressed,
and a batch of records of each.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

from stream.event_archive.archive import Archive
from stream.event_archive.manifest import ArchiveError, Manifest, Segment, require_same_topic, shown
from stream.event_archive.parquet import decode
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import topic_id
from stream.kafka.record import RawRecord
from stream.kafka.topic_reader import POLL_RECORDS, TopicReader


class ArchiveReader:
    """Records of an archive, with `connection` followed by those that the topics hold beyond it.

    What the archive has nothing of is read from its topic. A topic must be the one that was archived, by the broker's
    id, and must go on where the archive ends. Where records were lost to retention before an export came to them, in
    the archive or behind it, reading is an error; with `accepts_loss` they are passed over.
    """

    def __init__(
        self,
        folder: Path,
        connection: KafkaConnection | None = None,
        group_id: str | None = None,
        *,
        accepts_loss: bool = False,
    ) -> None:
        self.archive = Archive.open(folder)
        self._manifests = {(found.topic, found.partition): found for found in self.archive.manifests()}
        self._connection = connection
        self._group_id = group_id
        self._accepts_loss = accepts_loss
        self._reader = None if connection is None else self._open(connection)
        self._ids: dict[str, str] = {}

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.__exit__()

    @property
    def topics(self) -> list[str]:
        """Names of the topics that the archive holds."""
        return sorted({topic for topic, _ in self._manifests})

    def partitions(self, topic: str) -> int:
        """Number of partitions. Raises as `TopicReader.partitions`, without a connection `ArchiveError`."""
        if self._reader is not None:
            return self._reader.partitions(topic)
        self._require_held(topic, None)
        return 1 + max(partition for name, partition in self._manifests if name == topic)

    def each(self, topic: str, partition: int, since: int | None = None) -> Iterator[RawRecord]:
        """Records of one partition in order, from offset `since` on.

        Several may be read in turn: each has a consumer of its own once it comes to its topic. Raises `ArchiveError`,
        and as `TopicReader.records`.
        """
        manifest, held = self._manifests.get((topic, partition)), self._held(topic, partition)
        first = since or 0
        if manifest is None:
            self._require_held(topic, partition)
            yield from self._of_topic(topic, partition, max(first, held.start), held.stop)
            return
        self._require_whole(manifest, first, held)
        yield from self._of_topic(topic, partition, max(first, held.start), min(manifest.start_offset, held.stop))
        for segment in manifest.segments:
            if segment.next_offset > first:
                yield from self._of_segment(manifest, segment, first)
        yield from self._of_topic(topic, partition, max(first, manifest.next_offset, held.start), held.stop)

    def records(
        self, topics: Sequence[str], partition: int, since: Mapping[str, int] | None = None
    ) -> Iterator[tuple[Mapping[str, list[Any]], set[str]]]:
        """As `TopicReader.records`: equal numbers of records of each topic at a time. Raises as `each`."""
        left = {topic: self.each(topic, partition, (since or {}).get(topic)) for topic in topics}
        share = max(POLL_RECORDS // max(len(left), 1), 1)
        while left:
            found = {topic: list(islice(records, share)) for topic, records in left.items()}
            left = {topic: records for topic, records in left.items() if len(found[topic]) == share}
            yield found, set(left)

    def values(self, topic: str, partition: int) -> Iterator[bytes | None]:
        """Values of one partition, in order; None is a tombstone. Raises as `each`."""
        return (record.value for record in self.each(topic, partition))

    def size(self, topics: Sequence[str]) -> int:
        """Offsets that `each` goes over: records, ends of transactions and what was aborted or compacted away."""
        total = 0
        for topic in topics:
            for partition in range(self.partitions(topic)):
                manifest, held = self._manifests.get((topic, partition)), self._held(topic, partition)
                begin, end = (held.start, held.stop)
                if manifest is not None:
                    begin, end = manifest.start_offset, manifest.next_offset
                    if held:
                        begin, end = min(begin, held.start), max(end, held.stop)
                total += end - begin
        return total

    def _open(self, connection: KafkaConnection) -> TopicReader:
        return TopicReader(connection, self._group_id, skips_deleted=self._accepts_loss)

    def _held(self, topic: str, partition: int) -> range:
        """Offsets that the topic holds, none without a connection. Raises `ArchiveError` where it is another topic."""
        if self._reader is None or self._connection is None:
            return range(0)
        manifest = self._manifests.get((topic, partition))
        if manifest is not None:
            if topic not in self._ids:
                self._ids[topic] = topic_id(self._connection, topic)
            require_same_topic(manifest, self._ids[topic], str(self.archive.folder))
        return range(*self._reader.span(topic, partition))

    def _require_held(self, topic: str, partition: int | None) -> None:
        """Raises `ArchiveError` where neither a topic can be asked nor the archive has anything of it."""
        held = any(name == topic and partition in (None, number) for name, number in self._manifests)
        if self._reader is None and not held:
            what = topic if partition is None else f"{topic}-{partition}"
            raise ArchiveError(f"{self.archive.folder} holds nothing of {what}; export it, or name another folder")

    def _require_whole(self, manifest: Manifest, first: int, held: range) -> None:
        """Raises `ArchiveError` where records from offset `first` on are neither in the archive nor in the topic."""
        where, next_offset = f"{manifest.topic}-{manifest.partition}", manifest.next_offset
        if self._reader is not None and held.stop < next_offset:
            raise ArchiveError(
                f"{where} ends before offset {held.stop}, and {self.archive.folder} goes on at {next_offset}: the "
                "topic has lost records that the archive has; read the archive alone, or import it into new topics"
            )
        lost = [offsets for offsets in manifest.lost if offsets.stop > first]
        if held.start > next_offset and held.start > first:
            lost.append(range(next_offset, held.start))
        if lost and not self._accepts_loss:
            raise ArchiveError(
                f"{where}: offsets {shown(lost)} are not in {self.archive.folder} and not in the topic any more: "
                "retention took them before they were exported"
            )

    def _of_topic(self, topic: str, partition: int, start: int, stop: int) -> Iterator[RawRecord]:
        if self._connection is None or start >= stop:
            return
        with self._open(self._connection) as reader:
            for record in reader.each(topic, partition, start):
                if record.offset >= stop:
                    return
                yield RawRecord(
                    topic,
                    partition,
                    record.offset,
                    record.timestamp,
                    record.key,
                    record.value,
                    tuple(record.headers or ()),
                )

    def _of_segment(self, manifest: Manifest, segment: Segment, first: int) -> Iterator[RawRecord]:
        files = [file for file in segment.files if file.last_offset >= first]
        by_file = [
            decode(
                self.archive.content(manifest, file),
                manifest.topic,
                manifest.partition,
                str(self.archive.folder / manifest.path_of(file)),
            )
            for file in files
        ]
        records: Iterator[RawRecord] = heapq.merge(*by_file, key=attrgetter("offset"))
        if len(by_file) == 1:
            (records,) = by_file
        if first > segment.start_offset:
            records = (record for record in records if record.offset >= first)
        yield from records
