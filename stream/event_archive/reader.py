"""Reads records from archives as `stream.kafka.topic_reader` does from topics, and from the topics what the archives
do not hold: what came before their first offset, and what came after the last export.

Each file is compared with its SHA-256 before anything of it is used. Memory holds the files of one segment, compressed,
and a batch of records of each.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

from stream.event_archive.archive import Archive
from stream.event_archive.joining import JoinedManifests, Slice
from stream.event_archive.manifest import ArchiveError, Manifest, require_same_topic, shown
from stream.event_archive.parquet import decode
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import topic_id
from stream.kafka.record import RawRecord
from stream.kafka.topic_reader import POLL_RECORDS, TopicReader


class ArchiveReader:
    """Records of one archive or of several, of which one goes on where another ends or before that; with `connection`
    followed by those that the topics hold beyond them.

    What no archive has anything of is read from its topic. A topic must be the one that was archived, by the broker's
    id, and must go on where the last archive ends; with `alone_where_empty` it may also be another one to which nothing
    was ever written: then archives are all there is. Where records were lost to retention before an export came to
    them, in an archive or behind it, reading is an error; with `accepts_loss` they are passed over.
    """

    def __init__(
        self,
        folders: Path | Sequence[Path],
        connection: KafkaConnection | None = None,
        group_id: str | None = None,
        *,
        accepts_loss: bool = False,
        alone_where_empty: bool = False,
    ) -> None:
        """Raises `ArchiveError` where a folder is no archive, or archives are of other topics or leave out records
        between them."""
        self.archives = tuple(map(Archive.open, [folders] if isinstance(folders, Path) else folders))
        self.place = " and ".join(str(archive.folder) for archive in self.archives)
        self._holders: dict[tuple[str, int], list[Archive]] = {}
        """Which archives hold something of a partition, in the order of `JoinedManifests.manifests`."""
        self._manifests = self._joined()
        self._connection = connection
        self._group_id = group_id
        self._accepts_loss = accepts_loss
        self._alone_where_empty = alone_where_empty
        self._reader = None if connection is None else self._open(connection)
        self._ids: dict[str, str] = {}

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.__exit__()

    @property
    def topics(self) -> list[str]:
        """Names of the topics that the archives hold."""
        return sorted({topic for topic, _ in self._manifests})

    def partitions(self, topic: str) -> int:
        """Number of partitions. Raises as `TopicReader.partitions`, without a connection `ArchiveError`."""
        if self._reader is not None:
            return self._reader.partitions(topic)
        self._require_held(topic, None)
        return self.archived_partitions(topic)

    def each(self, topic: str, partition: int, since: int | None = None) -> Iterator[RawRecord]:
        """Records of one partition in order, from offset `since` on.

        Several may be read in turn: each has a consumer of its own once it comes to its topic. Raises `ArchiveError`,
        and as `TopicReader.records`.
        """
        manifest, held = self._manifests.get((topic, partition)), self._held(topic, partition) or range(0)
        first = since or 0
        if manifest is None:
            self._require_held(topic, partition)
            yield from self._of_topic(topic, partition, max(first, held.start), held.stop)
            return
        self.require_whole(topic, partition, first)
        yield from self._of_topic(topic, partition, max(first, held.start), min(manifest.start_offset, held.stop))
        yield from self.archived(topic, partition, first)
        yield from self._of_topic(topic, partition, max(first, manifest.next_offset, held.start), held.stop)

    def archived(self, topic: str, partition: int, since: int) -> Iterator[RawRecord]:
        """Those records of a partition from offset `since` on that the archives themselves hold, in order. Raises
        `ArchiveError`."""
        manifest = self._manifests.get((topic, partition))
        for one in () if manifest is None else manifest.slices:
            if one.end > since:
                assert manifest is not None
                yield from self._of_slice(manifest, one, since)

    def archived_span(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that the archives themselves hold, and the one after the last; 0 and 0 where they have
        nothing."""
        manifest = self._manifests.get((topic, partition))
        return (0, 0) if manifest is None else (manifest.start_offset, manifest.next_offset)

    def archived_partitions(self, topic: str) -> int:
        """Number of partitions that the archives themselves hold of a topic, 0 where they have nothing of it."""
        return 1 + max((partition for name, partition in self._manifests if name == topic), default=-1)

    def exists(self, topic: str) -> bool:
        """Whether an archive holds such a topic, or there is one that this client may see."""
        return topic in self.topics or (self._reader is not None and self._reader.exists(topic))

    def span(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is there, in an archive or in the topic, and the one after the last. Raises
        `ArchiveError`."""
        begin, end = self.archived_span(topic, partition)
        held = self._held(topic, partition)
        if held is None:
            return begin, end
        if not end:
            return held.start, held.stop
        return (min(begin, held.start) if held else begin), max(end, held.stop)

    def last(self, topic: str, partition: int, before: int | None = None) -> RawRecord | None:
        """The last record of a partition, `before` an offset where one is given, None where it has none. Raises as
        `each`."""
        manifest, held = self._manifests.get((topic, partition)), self._held(topic, partition)
        _, end = self.archived_span(topic, partition)
        found: RawRecord | None = None
        if held is not None and held.stop > end and self._reader is not None:
            found = self._reader.last(topic, partition, before)
        if found is not None or manifest is None:
            return found
        for one in reversed(manifest.slices):
            end = one.end if before is None else min(one.end, before)
            newest = max((file.last_offset for file in one.segment.files), default=-1)
            records = self._of_slice(manifest, one, newest if newest < end else one.begin)
            last = deque((record for record in records if record.offset < end), maxlen=1)
            if last:
                return last[0]
        return found

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
                begin, end = self.span(topic, partition)
                total += end - begin
        return total

    def _open(self, connection: KafkaConnection) -> TopicReader:
        return TopicReader(connection, self._group_id, skips_deleted=self._accepts_loss)

    def _held(self, topic: str, partition: int) -> range | None:
        """Offsets that the topic holds; None where it is not read: without a connection, or where it is another one and
        empty. Raises `ArchiveError` where it is another topic."""
        if self._reader is None or self._connection is None:
            return None
        manifest = self._manifests.get((topic, partition))
        held = range(*self._reader.span(topic, partition))
        if manifest is not None:
            if topic not in self._ids:
                self._ids[topic] = topic_id(self._connection, topic)
            if self._alone_where_empty and self._ids[topic] != manifest.topic_id and not held.stop:
                return None
            require_same_topic(manifest.manifests[-1], self._ids[topic], self.place)
        return held

    def _require_held(self, topic: str, partition: int | None) -> None:
        """Raises `ArchiveError` where neither a topic can be asked nor the archive has anything of it."""
        held = any(name == topic and partition in (None, number) for name, number in self._manifests)
        if self._reader is None and not held:
            what = topic if partition is None else f"{topic}-{partition}"
            raise ArchiveError(f"{self.place} holds nothing of {what}; export it, or name another folder")

    def require_whole(self, topic: str, partition: int, first: int = 0) -> None:
        """Raises `ArchiveError` where records from offset `first` on are neither in an archive nor in the topic."""
        manifest, held = self._manifests.get((topic, partition)), self._held(topic, partition)
        if manifest is None:
            return
        where, next_offset = f"{topic}-{partition}", manifest.next_offset
        if held is not None and held.stop < next_offset:
            raise ArchiveError(
                f"{where} ends before offset {held.stop}, and {self.place} goes on at {next_offset}: the "
                "topic has lost records that the archive has; read the archive alone, or import it into new topics"
            )
        lost = [offsets for offsets in manifest.lost if offsets.stop > first]
        if held is not None and held.start > next_offset and held.start > first:
            lost.append(range(next_offset, held.start))
        if lost and not self._accepts_loss:
            raise ArchiveError(
                f"{where}: offsets {shown(lost)} are not in {self.place} and not in the topic any more: "
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

    def _joined(self) -> dict[tuple[str, int], JoinedManifests]:
        """By topic and partition, what the archives hold together. Raises `ArchiveError`."""
        held: dict[tuple[str, int], list[Manifest]] = {}
        for archive in self.archives:
            for manifest in archive.manifests():
                place = manifest.topic, manifest.partition
                held.setdefault(place, []).append(manifest)
                self._holders.setdefault(place, []).append(archive)
        return {place: self._join(manifests, self._holders[place]) for place, manifests in held.items()}

    def _join(self, manifests: Sequence[Manifest], holders: Sequence[Archive]) -> JoinedManifests:
        joined = JoinedManifests.of(manifests)
        for archive, manifest in zip(holders, manifests, strict=True):
            if manifest.topic_id != joined.topic_id:
                raise ArchiveError(
                    f"{holders[0].folder} and {archive.folder} hold different topics of the name {joined.topic} (ids "
                    f"{joined.topic_id} and {manifest.topic_id}): it was made anew in between, and the same offsets "
                    "are other records; read them one at a time"
                )
        if joined.missing:
            raise ArchiveError(
                f"{joined.topic}-{joined.partition}: offsets {shown(joined.missing)} lie between what {self.place} "
                "hold, and are in none of them; name the archive that holds them as well"
            )
        return joined

    def _of_slice(self, joined: JoinedManifests, one: Slice, first: int) -> Iterator[RawRecord]:
        manifest = joined.manifests[one.number]
        archive, first = self._holders[joined.topic, joined.partition][one.number], max(first, one.begin)
        files = [file for file in one.segment.files if file.last_offset >= first]
        by_file = [
            decode(
                archive.content(manifest, file),
                manifest.topic,
                manifest.partition,
                str(archive.folder / manifest.path_of(file)),
            )
            for file in files
        ]
        records: Iterator[RawRecord] = heapq.merge(*by_file, key=attrgetter("offset"))
        if len(by_file) == 1:
            (records,) = by_file
        if first > one.segment.start_offset:
            records = (record for record in records if record.offset >= first)
        yield from records
