"""Whether a consumer group's offsets, and so its states, are of the topics that it is about to read.

An offset means nothing in another topic. A topic that was deleted and made anew keeps its name, and what the states
have read of the old one would silently leave its first events out. So each committed offset carries the ids that the
broker gave the input topics, all of them, since a broker forgets the offsets of a topic that is deleted. Whoever takes
partitions over compares. Knows nothing of what the records mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faust.types import TP
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import answering_admin

SEPARATOR = ","


class OtherLineage(RuntimeError):
    """The group's offsets are not of these topics; the message says which differ, why that may be, and what to do."""


@dataclass(frozen=True)
class Topic:
    """A topic as the broker describes it."""

    topic_id: str
    partitions: int


@dataclass(frozen=True)
class Committed:
    """A group's next offset in one partition, and the ids of the input topics then, in their order and joined by
    `SEPARATOR`; empty where they were not kept."""

    offset: int
    lineage: str


def examine(connection: KafkaConnection, group: str, inputs: Sequence[str], changelog: str) -> str:
    """The lineage to be kept with offsets. Raises `OtherLineage`, and `ProvisioningError` when no broker answers."""
    with answering_admin(connection) as admin:
        topics = {
            found["name"]: Topic(str(found["topic_id"]), len(found["partitions"])) for found in admin.describe_topics()
        }
        try:
            offsets = admin.list_group_offsets({group: None}).get(group, {})
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
            offsets = {}  # a new broker has no groups yet
    committed = {
        TP(tp.topic, tp.partition): Committed(found.offset, found.metadata or "") for tp, found in offsets.items()
    }
    return judge(group, topics, committed, inputs, changelog)


def judge(
    group: str,
    topics: Mapping[str, Topic],
    committed: Mapping[TP, Committed],
    inputs: Sequence[str],
    changelog: str,
) -> str:
    """As `examine`, of what the broker has said."""
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
    ids = [topics[name].topic_id for name in inputs]
    for tp, found in sorted(committed.items()):
        for name, now, then in zip(inputs, ids, found.lineage.split(SEPARATOR), strict=False):
            if then and then != now:
                raise OtherLineage(
                    f"{name} was deleted and made anew: its id is {now}, and was {then} when application_id {group} "
                    f"committed offset {found.offset} of {tp.topic}-{tp.partition}. The states hold the old events, "
                    "and offsets begin again, so new events would be left out. Start under another application_id"
                )
    return SEPARATOR.join(ids)
