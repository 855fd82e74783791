"""What a replay reads, before it begins: how far the topics and the order journal go, what retention has taken, and who
was forgotten. Reads topics and archives; changes nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from events.types import KINDS
from stream.event_archive.manifest import ArchiveError
from stream.event_archive.parquet import require_pyarrow
from stream.event_archive.reader import ArchiveReader
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import TopicReader
from stream.replay.range import ReplayRange
from stream.scoring.forgetting import is_forgetting
from stream.scoring.intake import Intake, Taken
from stream.scoring.order_journal import OrderRecord
from stream.settings import Settings

PROFILES = KINDS.index("profiles")


class Span(msgspec.Struct, frozen=True):
    """The offsets of a topic's partition that are there: from `begin` up to before `end`."""

    begin: int
    end: int

    @property
    def offsets(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class ReplayPlan:
    """What a replay reads.

    `inputs` are the spans of the input topics by topic and partition. `order_topic` is the journal that is followed,
    None where there is none, and `journal` its spans by partition. `taken_to` has, by partition and in the order of
    `KINDS`, the offsets before which the live workers have taken everything: what follows them is left for a later
    replay. `forgotten` has, by partition and key, the offset of the last request to forget a user. `archives` are the
    folders of archives that are read in the place of the topics, as far as they go: `archived` of the `offsets`.
    """

    replayed: ReplayRange
    inputs: Mapping[str, tuple[Span, ...]]
    order_topic: str | None
    journal: tuple[Span, ...]
    taken_to: tuple[tuple[int, ...], ...]
    forgotten: Mapping[int, Mapping[bytes, int]] = field(default_factory=dict)
    archives: tuple[Path, ...] = ()
    archived: int = 0

    @property
    def partitions(self) -> int:
        return len(self.taken_to)

    @property
    def offsets(self) -> int:
        """Offsets of input topics that are read: records, and ends of transactions beside them."""
        return sum(
            max(end - self.inputs[topic][partition].begin, 0)
            for partition, ends in enumerate(self.taken_to)
            for topic, end in zip(self.inputs, ends, strict=True)
        )

    @property
    def lost(self) -> dict[str, tuple[int, ...]]:
        """By topic, what stands at the beginning of its partitions no more; of profiles, which are compacted, nothing
        is meant by that."""
        found = {topic: tuple(span.begin for span in spans) for topic, spans in self.inputs.items()}
        return {
            topic: begins
            for number, (topic, begins) in enumerate(found.items())
            if number != PROFILES and any(begins)
        }  # fmt: skip

    def done(self, committed: Mapping[tuple[str, int], int]) -> int:
        """How many of `offsets` a group has read whose next offsets are `committed`."""
        return sum(
            max(min(committed.get((topic, partition), 0), end) - self.inputs[topic][partition].begin, 0)
            for partition, ends in enumerate(self.taken_to)
            for topic, end in zip(self.inputs, ends, strict=True)
        )

    def is_done(self, committed: Mapping[tuple[str, int], int]) -> bool:
        """Whether that group has taken everything."""
        if self.order_topic is None:
            return self.done(committed) >= self.offsets
        return all(
            committed.get((self.order_topic, partition), 0) >= span.end
            for partition, span in enumerate(self.journal)
            if span.offsets
        )


def plan_replay(
    kafka: KafkaConnection,
    settings: Settings,
    replayed: ReplayRange,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    archives: Sequence[Path] = (),
) -> ReplayPlan:
    """Look at what is there, in the topics and in archives of them.

    Raises `TopicUnreadable` when an input topic is missing or the broker stays silent, and `ArchiveError` where an
    archive is of other topics, or something is missing between them.
    """
    topics = settings.topics
    with open_source(kafka, archives) as reader:
        partitions = reader.partitions(topics.inputs[0])
        archived = 0
        if isinstance(reader, ArchiveReader):
            archived = _looked_over(reader, settings, partitions)
        # The journal first: while workers go on, what it tells of by now stands in the inputs a moment later, too.
        order_topic: str | None = topics.order(settings.application_id)
        journal: tuple[Span, ...] = ()
        if order_topic is not None and reader.exists(order_topic):
            journal = _spans(reader, order_topic, partitions)
        if not any(span.offsets for span in journal):
            order_topic, journal = None, ()
        inputs = {topic: _spans(reader, topic, partitions) for topic in topics.inputs}
        forgotten: dict[int, dict[bytes, int]] = {}
        taken_to: list[tuple[int, ...]] = []
        for partition in range(partitions):
            ends = tuple(spans[partition].end for spans in inputs.values())
            if order_topic is not None:
                ends = _taken_to(reader, order_topic, partition, journal[partition].end)
            taken_to.append(ends)
            forgotten[partition] = _forgotten(reader, topics.inputs[PROFILES], partition, taken_to[-1][PROFILES])
            on_progress(partition + 1, partitions)
    return ReplayPlan(replayed, inputs, order_topic, journal, tuple(taken_to), forgotten, tuple(archives), archived)


def open_source(kafka: KafkaConnection, archives: Sequence[Path]) -> TopicReader | ArchiveReader:
    """What a replay's events are read from. Raises `ArchiveError`."""
    if not archives:
        return TopicReader(kafka)
    require_pyarrow()
    return ArchiveReader(archives, kafka, alone_where_empty=True)


def _looked_over(archived: ArchiveReader, settings: Settings, partitions: int) -> int:
    """How many offsets of the inputs archives hold, which are of these topics and go on in them without a hole.

    Raises `ArchiveError`.
    """
    topics = settings.topics
    for archive in archived.archives:
        folder, prefix = archive.folder, archive.description.topic_prefix
        if prefix != topics.prefix:
            raise ArchiveError(
                f"{folder} is of topic_prefix = {prefix!r}, and this command of {topics.prefix!r}: ids of scores name "
                f"the topics; give --topic-prefix {prefix!r}, or import it: `foreshock archive import --keep-offsets`"
            )
    total = 0
    for topic in (*topics.inputs, topics.order(settings.application_id)):
        held = archived.archived_partitions(topic)
        if held > partitions:
            raise ArchiveError(
                f"{archived.place} has {held} partitions of {topic}, and {topics.inputs[0]} has {partitions}: make the "
                f"topics with {held} (`foreshock topics create --partitions {held}`)"
            )
        for partition in range(held):
            archived.require_whole(topic, partition)
            begin, end = archived.archived_span(topic, partition)
            total += end - begin if topic in topics.inputs else 0
    return total


def _spans(reader: TopicReader | ArchiveReader, topic: str, partitions: int) -> tuple[Span, ...]:
    return tuple(Span(*reader.span(topic, partition)) for partition in range(partitions))


def _taken_to(reader: TopicReader | ArchiveReader, order_topic: str, partition: int, end: int) -> tuple[int, ...]:
    """Where the journal's last record before offset `end` says that reading went on; the beginning where the partition
    has none. What live workers have added to it since is not a part of this replay."""
    last = reader.last(order_topic, partition, end)
    return (0,) * len(KINDS) if last is None else OrderRecord.decode(last.value).ends


def _forgotten(reader: TopicReader | ArchiveReader, profiles: str, partition: int, end: int) -> dict[bytes, int]:
    """By key, the last request before `end` to forget a user."""
    intake, now_ms = Intake("profiles"), int(dt.datetime.now(dt.UTC).timestamp() * 1000)
    found: dict[bytes, int] = {}
    for record in reader.each(profiles, partition):
        if record.value is None and record.offset < end:
            taken = intake.take(record, now_ms)
            if isinstance(taken, Taken) and is_forgetting(taken):
                found[taken.key] = taken.offset
    return found
