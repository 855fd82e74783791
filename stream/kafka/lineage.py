"""Whether a consumer group's offsets, and so its states, are of the topics that it is about to read.

An offset means nothing in another topic. A topic that was deleted and made anew keeps its name, and what the states
have read of the old one would silently leave its first events out. So each committed offset carries the ids that the
broker gave the input topics, all of them, since a broker forgets the offsets of a topic that is deleted, and that of
the changelog, without which states would begin anew; and how far the changelog was then, so that whoever reads it can
tell that it has read all that belongs to these offsets. Whoever takes partitions over compares.

Also that a group follows another application in a partition, or was relieved of it by one, stands there: it counts
together with the offsets. Knows nothing of what the records mean.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from faust.types import TP
from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import answering_admin
from stream.logs import ToldInFull
from stream.topics import is_order

SEPARATOR = ","
CHANGELOG_OFFSET = "changelog="
"""Begins the part of an offset's metadata that says how far the changelog was when it was committed."""
FOLLOWING, WATCHING, HANDED_OVER = "following=", "watching=", "handed-over="
"""Begin the parts that say whose order journal is followed in the partition, by workers that would take it over and by
others, and who has taken it over."""

_MARKS = (FOLLOWING, WATCHING, HANDED_OVER)

logger = logging.getLogger("foreshock.lineage")


class OtherLineage(ToldInFull):
    """The group's offsets are not of these topics; the message says which differ, why that may be, and what to do."""


class HandedOver(ToldInFull):
    """Another application has taken this one's partitions over; the message says which, and what to do."""


@dataclass(frozen=True)
class Leader:
    """An application that is followed, and its order journal; None where it has none."""

    application_id: str
    journal: str | None


@dataclass(frozen=True)
class Standing:
    """What a group's offset says of its partition: whom the group follows there, whether its workers would take over
    from them, and to whom it was handed over. None of that where the group leads."""

    follows: str | None = None
    takes_over: bool = False
    handed_to: str | None = None

    @classmethod
    def of(cls, metadata: str) -> Standing:
        found: dict[str, str] = {}
        for part in metadata.split(SEPARATOR):
            for beginning in _MARKS:
                if part.startswith(beginning):
                    found[beginning] = part.removeprefix(beginning)
        return cls(found.get(FOLLOWING, found.get(WATCHING)), FOLLOWING in found, found.get(HANDED_OVER))


def marked(metadata: str, mark: str) -> str:
    """Metadata of an offset with a mark (`FOLLOWING`, `WATCHING` or `HANDED_OVER` and the name behind it) in place of
    what it has of them; without any where `mark` is empty."""
    *parts, last = [part for part in metadata.split(SEPARATOR) if not part.startswith(_MARKS)] or [""]
    behind = [last] if last.startswith(CHANGELOG_OFFSET) else []
    before = parts if behind else [*parts, last]
    return SEPARATOR.join([*before, *([mark] if mark else []), *behind])


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


def committed_by(connection: KafkaConnection, group: str) -> dict[TP, Committed]:
    """A group's offsets. Raises `ProvisioningError`, `NotAllowed`."""
    with answering_admin(connection) as admin:
        return {tp: found for tp, found in _committed(admin, group).items() if found.offset >= 0}


def _committed(admin: Any, group: str) -> dict[TP, Committed]:
    try:
        offsets = admin.list_group_offsets({group: None}).get(group, {})
    except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
        return {}  # a new broker has no groups yet
    return {TP(tp.topic, tp.partition): Committed(found.offset, found.metadata or "") for tp, found in offsets.items()}


def examine(
    connection: KafkaConnection,
    group: str,
    inputs: Sequence[str],
    changelog: str,
    outputs: Sequence[str] = (),
    leader: Leader | None = None,
) -> str:
    """The lineage to be kept with offsets, where all topics are there, `outputs` too. `leader` is whom this worker
    follows, if anyone.

    Raises `OtherLineage`, `HandedOver`, and `ProvisioningError` when no broker answers.

    Says in the log when somebody else has set offsets.
    """
    with answering_admin(connection) as admin:
        topics = {
            found["name"]: Topic(str(found["topic_id"]), len(found["partitions"])) for found in admin.describe_topics()
        }
        committed = _committed(admin, group)
        kept = range(topics[changelog].partitions if changelog in topics else 0)
        asked = {TopicPartition(changelog, number): OffsetSpec.EARLIEST for number in kept}
        begins = {tp.partition: int(found.offset) for tp, found in admin.list_partition_offsets(asked).items()}
    missing = [name for name in outputs if name not in topics]
    if missing:
        raise OtherLineage(f"{', '.join(missing)} does not exist; create it: `foreshock topics create`")
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
    require_standing(group, {tp: found for tp, found in committed.items() if tp.topic in inputs}, leader)
    return judge(group, topics, committed, inputs, changelog, begins, leader)


def require_standing(group: str, committed: Mapping[TP, Committed], leader: Leader | None) -> None:
    """See that a group may lead, or follow `leader`, by what its offsets of the input topics say.

    Raises `OtherLineage` where it still follows another one, and `HandedOver` where nothing is left to it.
    """
    standings = {tp: Standing.of(found.lineage) for tp, found in committed.items()}
    followed = {found.follows: tp.partition for tp, found in sorted(standings.items()) if found.follows}
    takers = {found.handed_to for found in standings.values() if found.handed_to}
    for other, partition in followed.items():
        if leader is None:
            raise OtherLineage(
                f"application_id {group} follows {other} (in partition {partition}, for instance), which publishes "
                f"what is live: start this worker with `--follow {quote(other)}`, or hand over: `foreshock replay "
                "promote`"
            )
        if other != leader.application_id:
            logger.warning("%s followed %s before, and now follows %s", group, other, leader.application_id)
    if leader is not None:
        takers -= {leader.application_id}
    if not takers:
        return
    named = ", ".join(sorted(map(str, takers)))
    partitions = sorted({tp.partition for tp, found in standings.items() if found.handed_to in takers})
    if leader is not None or len(partitions) == len({tp.partition for tp in standings}):
        raise HandedOver(
            f"application_id {group} was handed over to {named}, whose workers score now: stop these workers. To "
            f"go back to this model: `foreshock worker --follow {quote(min(map(str, takers)))}` here, then `foreshock "
            "replay rollback`"
        )
    logger.warning(
        "partitions %s were handed over to %s: this worker leaves them alone. A hand-over that was interrupted goes on "
        "with the same command",
        partitions,
        named,
    )


def judge(
    group: str,
    topics: Mapping[str, Topic],
    committed: Mapping[TP, Committed],
    inputs: Sequence[str],
    changelog: str,
    changelog_begins: Mapping[int, int],
    leader: Leader | None = None,
) -> str:
    """As `examine`, of what the broker has said. `changelog_begins` are the first offsets of the changelog's
    partitions: compaction leaves them at 0."""
    journal = [leader.journal] if leader is not None and leader.journal is not None else []
    absent = [name for name in (*inputs, *journal) if name not in topics]
    if absent:
        raise OtherLineage(f"{', '.join(absent)} does not exist; create it: `foreshock topics create`")
    counts = {name: topics[name].partitions for name in (*inputs, changelog, *journal) if name in topics}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise OtherLineage(
            f"topics have different numbers of partitions ({listed}): partitions were added to some. A user's events "
            "would go to different workers, and new partitions have no states. Make all of them anew with one number, "
            "under another topic_prefix and application_id, and publish the events again"
        )
    others = sorted(
        {
            tp.topic
            for tp, found in committed.items()
            if found.offset > 0 and not (tp.topic in inputs or is_order(tp.topic))
        }
    )
    if others:
        raise OtherLineage(
            f"application_id {group} has read {', '.join(others)} and not {', '.join(inputs)}: its states are of those "
            "topics (was topic_prefix changed?). Choose another application_id, or the former topic_prefix"
        )
    names = (*inputs, changelog, *journal)
    ids = [topics[name].topic_id if name in topics else "" for name in names]
    for tp, found in sorted(committed.items()):
        followed = Standing.of(found.lineage).follows
        for name, now, then in zip(names, ids, found.lineage.split(SEPARATOR), strict=False):
            if name in journal and (leader is None or followed != leader.application_id):
                continue  # what stands there is no id, or that of another journal
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
