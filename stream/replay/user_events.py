"""One user's events, read from the input topics, in the order in which the workers scored them.

Publishes nothing and commits no offset.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable

from events.types import KINDS, Event
from stream.kafka.connection import KafkaConnection
from stream.kafka.publisher import partition_of
from stream.kafka.topic_reader import TopicReader
from stream.replay.foreign import ForeignRecords
from stream.replay.live_order import LiveOrder
from stream.scoring.forgetting import is_forgetting
from stream.scoring.intake import Intake, Taken
from stream.scoring.merge import PartitionMerge
from stream.state.row import RECENT_IDS
from stream.topics import Topics

OnProgress = Callable[[int], None]


class UnknownUser(LookupError):
    """No event of the user is in the topics."""


def read_events(
    kafka: KafkaConnection, topics: Topics, user_id: str, on_progress: OnProgress = lambda _records: None
) -> list[Event]:
    """Every event of the user that the workers scored, then those that they have yet to score in event-time order.

    Reads the partition of the Java client's partitioner first. If the user is not there, it reads the others, because
    lenders may use another partitioner. Raises `UnknownUser` when the user is nowhere, `TopicUnreadable` when a topic
    is missing.
    """
    key = user_id.encode()
    with TopicReader(kafka) as reader:
        partitions = reader.partitions(topics.inputs[0])
        likely = partition_of(key, partitions)
        for partition in (likely, *(number for number in range(partitions) if number != likely)):
            taken = read_partition(reader, topics, partition, key, on_progress)
            if taken:
                return [item.event for item in taken]
    raise UnknownUser(
        f"user {user_id!r} has no event in {', '.join(topics.inputs)} on {kafka} "
        f"({partitions} partitions looked through); check the spelling, --topic-prefix and --bootstrap-servers"
    )


def read_partition(
    reader: TopicReader, topics: Topics, partition: int, key: bytes, on_progress: OnProgress
) -> list[Taken]:
    """The user's events on one partition, as `read_events`; none if they are not there."""
    intakes = [Intake(kind) for kind in KINDS]
    now_ms = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
    held: list[list[Taken]] = [[] for _ in KINDS]
    for found, _ in reader.records(topics.inputs, partition):
        for kind_no, topic in enumerate(topics.inputs):
            records = found.get(topic, [])
            outcomes = (intakes[kind_no].take(record, now_ms) for record in records if record.key == key)
            held[kind_no] += [outcome for outcome in outcomes if isinstance(outcome, Taken)]
            on_progress(len(records))
    if not any(held):
        return []
    foreign = ForeignRecords()
    order = LiveOrder.read(reader.each(topics.scores, partition), topics.inputs, foreign, topics.scores)
    foreign.tell()
    return in_scored_order(held, order)


def in_scored_order(held: list[list[Taken]], order: LiveOrder) -> list[Taken]:
    """One user's events of each kind, in the order of their offsets, merged as the workers applied them.

    Leaves out what the workers refused, repeats of one of the last `RECENT_IDS` event ids, and everything up to where
    the user was to be forgotten.
    """
    merge = PartitionMerge(order.place)
    for kind_no, items in enumerate(held):
        merge.push(kind_no, [item for item in items if not order.leaves_out(item)])
    seen: deque[str] = deque(maxlen=RECENT_IDS)
    merged: list[Taken] = []
    for item in merge.release():
        if is_forgetting(item):
            seen.clear()
            merged.clear()
        elif item.event.event_id not in seen:
            seen.append(item.event.event_id)
            merged.append(item)
    return merged
