"""Whether a consumer group's offsets, and so its states, are of the topics that it is about to read.

An offset means nothing in another topic. A topic that was deleted and made anew keeps its name, and what the states
have read of the old one would silently leave its first events out. So each committed offset carries the ids that the
broker gave the input topics, all of them, since a broker forgets the offsets of a topic that is deleted, and that of
the changelog, without which states would begin anew; and how far the changelog was then, so that whoever reads it can
tell that it has read all that belongs to these offsets. Whoever takes partitions over compares. Knows nothing of what
the records mean.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faust.types import TP
from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import answering_admin

SEPARATOR = ","
CHANGELOG_OFFSET = "changelog="
"""Begins the part of an offset's metadata that says how far the changelog was when it was committed."""

logger = logging.getLogger("foreshock.lineage")


class OtherLineage(RuntimeError):
    """The group's offsets are not of these topics; the message says which differ, why that may be, and what to do."""


def with_changelog_offset(lineage: str, offset: int) -> str:
    """What is kept with a committed offset: the lineage, and the offset of the last row in the changelog by then."""
    return lineage if offset < 0 else f"{lineage}{SEPARATOR}{CHANGELOG_OFFSET}{offset}"


def changelog_offset_in(metadata: str) -> int:
    """The offset of `with_changelog_offset`, -1 where none was kept."""
    *_, last = metadata.split(SEPARATOR)
    digits = last.removeprefix(CHANGELOG_OFFSET)
    return int(digits) if last != digits and digits.isdecimal() else -1


@dataclass(frozen=True)
class Topic:
    """A topic as the broker describes it."""

    topic_id: str
    partitions: int


@dataclass(frozen=True)
class Committed:
    """A group's next offset in one partition, and the ids of the input topics and the changelog then, in their order
    and joined by `SEPARATOR`, with what `with_changelog_offset` adds; empty where they were not kept."""

    offset: int
    lineage: str


def examine(
    connection: KafkaConnection, group: str, inputs: Sequence[str], changelog: str, outputs: Sequence[str] = ()
) -> str:
    """The lineage to be kept with offsets, where all topics are there, `outputs` too.

    Raises `OtherLineage`, and `ProvisioningError` when no broker answers.

    Says in the log when somebody else has set offsets.
    """
    with answering_admin(connection) as admin:
        topics = {
            found["name"]: Topic(str(found["topic_id"]), len(found["partitions"])) for found in admin.describe_topics()
        }
        try:
            offsets = admin.list_group_offsets({group: None}).get(group, {})
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
            offsets = {}  # a new broker has no groups yet
        kept = range(topics[changelog].partitions if changelog in topics else 0)
        asked = {TopicPartition(changelog, number): OffsetSpec.EARLIEST for number in kept}
        begins = {tp.partition: int(found.offset) for tp, found in admin.list_partition_offsets(asked).items()}
    missing = [name for name in outputs if name not in topics]
    if missing:
        raise OtherLineage(f"{', '.join(missing)} does not exist; create it: `foreshock topics create`")
    committed = {
        TP(tp.topic, tp.partition): Committed(found.offset, found.metadata or "") for tp, found in offsets.items()
    }
    strange = sorted(
        f"{tp.topic}-{tp.partition} to {found.offset}" for tp, found in committed.items() if not found.lineage
    )
    if strange:
        logger.warning(
            "offsets of %s were set by another program than a worker (%s): where they were set forward, the events "
            "between are left out, where back, those that the states have read are skipped",
            group,
            ", ".join(strange),
        )
    return judge(group, topics, committed, inputs, changelog, begins)


def judge(
    group: str,
    topics: Mapping[str, Topic],
    committed: Mapping[TP, Committed],
    inputs: Sequence[str],
    changelog: str,
    changelog_begins: Mapping[int, int],
) -> str:
    """As `examine`, of what the broker has said. `changelog_begins` are the first offsets of the changelog's
    partitions: compaction leaves them at 0."""
    absent = [name for name in inputs if name not in topics]
    if absent:
        raise OtherLineage(f"{', '.join(absent)} does not exist; create it: `foreshock topics create`")
    counts = {name: topics[name].partitions for name in (*inputs, changelog) if name in topics}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise OtherLineage(
            f"topics have different numbers of partitions ({listed}): partitions were added to some. A user's events "
            "would go to different workers, and new partitions have no states. Make all of them anew with one number, "
            "under another topic_prefix and application_id, and publish the events again"
        )
    others = sorted({tp.topic for tp, found in committed.items() if found.offset > 0 and tp.topic not in inputs})
    if others:
        raise OtherLineage(
            f"application_id {group} has read {', '.join(others)} and not {', '.join(inputs)}: its states are of those "
            "topics (was topic_prefix changed?). Choose another application_id, or the former topic_prefix"
        )
    names = (*inputs, changelog)
    ids = [topics[name].topic_id if name in topics else "" for name in names]
    for tp, found in sorted(committed.items()):
        for name, now, then in zip(names, ids, found.lineage.split(SEPARATOR), strict=False):
            if then and then != now:
                anew = f"made anew: its id is {now}, and was {then}" if now else f"not made anew: its id was {then}"
                raise OtherLineage(
                    f"{name} was deleted and {anew} when application_id {group} committed offset {found.offset} of "
                    f"{tp.topic}-{tp.partition}. {_LOST if name == changelog else _LEFT_OUT}. Start under another "
                    "application_id"
                )
    cut = {number: begin for number, begin in sorted(changelog_begins.items()) if begin > 0}
    if cut and any(found.offset > 0 for found in committed.values()):
        listed = ", ".join(f"partition {number} before offset {begin}" for number, begin in cut.items())
        raise OtherLineage(
            f"{changelog} has lost records ({listed}): something other than compaction has deleted them (is its "
            f"cleanup.policy compact alone?). {_LOST}. Start under another application_id"
        )
    return SEPARATOR.join(ids)


_LEFT_OUT = "The states hold the old events, and offsets begin again, so new events would be left out"
_LOST = "Users whose states are gone would begin anew, although their events count as scored"
