"""Publishes the records of an archive into topics: per partition in the same order, with their keys, values, headers
and timestamps; to the offsets that a topic comes to, or to the same as before.

Before the first record of a topic, a file in the archive notes at which offset each partition begins. So an import that
was interrupted sees from the topic's end how far it came, compares what stands there, and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from kafka import TopicPartition

from stream.event_archive.archive import Archive, Description, write_file
from stream.event_archive.manifest import NO_DAY, ArchiveError, Manifest
from stream.event_archive.reader import ArchiveReader
from stream.event_archive.sending import Target, compare, send, settle
from stream.kafka.clients import open_consumer
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import LONGEST_MS, UNLIMITED, TopicState, topic_id, topic_states
from stream.kafka.topic_reader import TopicReader
from stream.topics import Topics

SETTLE_S = 30.0
LOOK_EVERY_S = 0.1

OnProgress = Callable[[int, int], None]


class Begun(msgspec.Struct, frozen=True):
    """At which offset of each partition an import into a topic began, or that it keeps offsets."""

    source: str
    topic: str
    bases: dict[int, int]
    keeps_offsets: bool = False


class ImportReport(msgspec.Struct, frozen=True):
    """A partition that was imported: records `already` there and `published` now, and how its offsets moved."""

    source: str
    topic: str
    partition: int
    already: int
    published: int
    from_offsets: tuple[int, int]
    to_offsets: tuple[int, int]
    lost_offsets: int


@dataclass(frozen=True)
class OrderFollower:
    """A topic whose records name offsets of the topics `leaders`, as an order journal names those of the inputs."""

    topic: str
    leaders: tuple[str, ...]

    def stays_valid(self, manifests: Iterable[Manifest]) -> bool:
        """Whether all leaders are archived from offset 0 on and without an offset left out, so that they keep them."""
        own = [manifest for manifest in manifests if manifest.topic in self.leaders]
        return {manifest.topic for manifest in own} == set(self.leaders) and all(
            manifest.start_offset == 0 and manifest.records == last_offset(manifest) + 1 for manifest in own
        )

    def require_same_offsets(self, targets: Sequence[Target]) -> None:
        """Raises `ArchiveError` where an import changes what the topic's records name."""
        bases = [target.base for target in targets if target.manifest.topic in self.leaders]
        if bases and set(bases) == {None}:
            return
        if any(bases) or not self.stays_valid(target.manifest for target in targets):
            raise ArchiveError(
                f"{self.topic} names offsets of {', '.join(self.leaders)}, which the import changes; give "
                "--keep-offsets, or leave it out with --topics"
            )


def last_offset(manifest: Manifest) -> int:
    """Of the last record that is held; -1 where there is none."""
    return max((file.last_offset for file in manifest.files), default=-1)


def target_of(source: str, of: Description, topics: Topics, application_id: str) -> str:
    """Name of the topic that a topic of the archive is imported into, under another prefix and application."""
    before = Topics(of.topic_prefix)
    if source == before.order(of.application_id):
        return topics.order(application_id)
    return topics.prefix + source.removeprefix(before.prefix) if source.startswith(before.prefix) else source


def import_records(
    connection: KafkaConnection,
    archive: Archive,
    names: dict[str, str],
    now_ms: int,
    *,
    follower: OrderFollower | None = None,
    appends: bool = False,
    keeps_offsets: bool = False,
    on_progress: OnProgress = lambda _done, _total: None,
) -> Iterator[ImportReport]:
    """Publish topics of the archive, by their names, into existing topics, whose names are the values of `names`.

    The archive must be `locked`. `follower` is a topic that names offsets of others, which must not change then. With
    `appends`, topics may hold records before the import begins; with `keeps_offsets`, no topic may ever have held any.
    Yields a report of each partition when all its records are there. Raises `ArchiveError`, `TopicUnreadable`,
    `ProvisioningError` and `KafkaError`.
    """
    manifests = [manifest for manifest in archive.manifests() if manifest.topic in names]
    absent = sorted(names.keys() - {manifest.topic for manifest in manifests})
    if absent:
        raise ArchiveError(
            f"{archive.folder} holds nothing of {', '.join(absent)}; `foreshock archive check` lists all"
        )
    states = topic_states(connection, lambda name: name in set(names.values()))
    with (
        TopicReader(connection) as reader,
        contextlib.closing(open_consumer(connection)) as uncommitted,
        ArchiveReader(archive.folder, accepts_loss=True) as archived,
    ):
        targets: list[Target] = []
        for source, topic in names.items():
            own = [manifest for manifest in manifests if manifest.topic == source]
            if topic not in states:
                raise ArchiveError(
                    f"topic {topic} does not exist on {connection}; `foreshock topics create --partitions {len(own)}` "
                    "makes it"
                )
            require_fit(states[topic], own, now_ms)
            begun = _begin(connection, archive, reader, source, topic, appends=appends, keeps_offsets=keeps_offsets)
            targets += [
                Target(manifest, topic, None if keeps_offsets else begun.bases[manifest.partition]) for manifest in own
            ]
        if follower is not None and follower.topic in names:
            follower.require_same_offsets(targets)
        total, done = sum(target.manifest.records for target in targets), 0
        for target in targets:
            report = _imported(connection, reader, uncommitted, archived, target, _from(on_progress, done, total))
            done += target.manifest.records
            yield report


def _from(on_progress: OnProgress, done: int, total: int) -> Callable[[int], None]:
    return lambda more: on_progress(done + more, total)


def require_fit(state: TopicState, manifests: Sequence[Manifest], now_ms: int) -> None:
    """Raises `ArchiveError` where a topic would not keep records as they are."""
    topic, configs = state.name, state.configs
    partitions = 1 + max(manifest.partition for manifest in manifests)
    if state.partitions != partitions:
        raise ArchiveError(
            f"topic {topic} has {state.partitions} partitions, the archive {partitions}: users would be on other "
            f"partitions than their events; make the topic with {partitions}"
        )
    if configs.get("message.timestamp.type", "CreateTime") != "CreateTime":
        raise ArchiveError(
            f"topic {topic} puts times of its own on records (message.timestamp.type); set it to CreateTime"
        )
    retention_ms = configs.get("retention.ms", UNLIMITED)
    if "delete" not in configs.get("cleanup.policy", "") or retention_ms == UNLIMITED:
        return
    days = [file.day for manifest in manifests for file in manifest.files if file.day != NO_DAY]
    oldest = min(map(dt.date.fromisoformat, days), default=dt.date.max)
    kept = dt.timedelta(milliseconds=min(int(retention_ms), LONGEST_MS))
    if oldest < (dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC) - kept).date():
        raise ArchiveError(
            f"topic {topic} deletes records {kept / dt.timedelta(days=1):.1f} days after their time, and the archive's "
            f"oldest are of {oldest}; raise retention.ms before the import: "
            f"kafka-configs --alter --topic {topic} --add-config retention.ms=-1"
        )


def decode_begun(content: bytes) -> Begun:
    """Raises `ValueError` where it is none."""
    try:
        return msgspec.json.decode(content, type=Begun)
    except (msgspec.MsgspecError, RecursionError) as error:  # that something is no UTF-8 is a ValueError already
        raise ValueError(str(error)) from None


def _begin(
    connection: KafkaConnection,
    archive: Archive,
    reader: TopicReader,
    source: str,
    topic: str,
    *,
    appends: bool,
    keeps_offsets: bool,
) -> Begun:
    """Where the import into a topic began, which is noted when it begins."""
    place = archive.folder / "_imports" / f"{topic}.{topic_id(connection, topic)}.json"
    if place.exists():
        try:
            begun = decode_begun(place.read_bytes())
        except (OSError, ValueError) as error:
            raise ArchiveError(f"{place} cannot be read: {error}; delete it and the records in {topic}") from None
        if begun.source != source:
            raise ArchiveError(f"topic {topic} has records of {begun.source} from this archive; name another prefix")
        if begun.keeps_offsets != keeps_offsets:
            raise ArchiveError(
                f"the import into {topic} was begun {'with' if begun.keeps_offsets else 'without'} --keep-offsets; go "
                "on so, or make the topic anew"
            )
        return begun
    spans = {partition: reader.span(topic, partition) for partition in range(reader.partitions(topic))}
    held = {partition: end - begin for partition, (begin, end) in spans.items() if end > begin}
    if held and not appends:
        offsets = sum(held.values())
        raise ArchiveError(
            f"topic {topic} is not empty: it has {offsets:,} offsets on partitions {sorted(held)}; --append publishes "
            "behind them, or give another --topic-prefix"
        )
    written = [partition for partition, (_, end) in spans.items() if end]
    if written and keeps_offsets:
        raise ArchiveError(
            f"topic {topic} has given away offsets on partitions {written}, so that records cannot keep theirs; make "
            "the topic anew"
        )
    begun = Begun(source, topic, {partition: end for partition, (_, end) in spans.items()}, keeps_offsets)
    try:
        write_file(place, msgspec.json.encode(begun))
    except OSError as error:
        raise ArchiveError(f"{place} cannot be written: {error.strerror}") from None
    return begun


def _imported(
    connection: KafkaConnection,
    reader: TopicReader,
    uncommitted: Any,
    archived: ArchiveReader,
    target: Target,
    on_progress: Callable[[int], None],
) -> ImportReport:
    manifest = target.manifest
    if target.base is None:
        asyncio.run(settle(connection, target))
    end = _settled_end(reader, uncommitted, target)
    if not target.start <= end <= target.end:
        raise target.foreign(f"goes on at offset {end}, and the import is to end before {target.end}")
    already, rest = 0, target.placed(archived)
    if end > target.start:
        already, rest = compare(reader, rest, target, end, on_progress)
    published = 0
    if end < target.end:
        published = asyncio.run(send(connection, rest, target, end, lambda sent: on_progress(already + sent)))
        end = _settled_end(reader, uncommitted, target)
    if end != target.end or already + published != manifest.records:
        raise target.foreign(
            f"goes on at offset {end} after {already + published:,} records, and should at {target.end} after "
            f"{manifest.records:,}"
        )
    return ImportReport(
        manifest.topic,
        target.topic,
        manifest.partition,
        already,
        published,
        (manifest.start_offset, manifest.next_offset),
        (target.start, end),
        sum(len(offsets) for offsets in manifest.lost),
    )


def _settled_end(reader: TopicReader, uncommitted: Any, target: Target) -> int:
    """The offset that a topic's partition goes on at, when no transaction is open in it. `uncommitted` is a consumer
    that sees open ones, too. Raises `ArchiveError`."""
    tp = TopicPartition(target.topic, target.manifest.partition)
    deadline_s = time.monotonic() + SETTLE_S
    while True:
        _, committed = reader.span(tp.topic, tp.partition)
        end = int(uncommitted.end_offsets([tp])[tp])
        if committed == end:
            return end
        if time.monotonic() > deadline_s:
            raise target.foreign(f"has a transaction open since offset {committed}")
        time.sleep(LOOK_EVERY_S)
