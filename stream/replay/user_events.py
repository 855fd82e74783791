"""One user's events, read from the input topics, in the order in which the workers scored them.

Publishes nothing and commits no offset.
"""

from __future__ import annotations

import datetime as dt
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from events.types import KINDS, Event
from stream.kafka.connection import KafkaConnection
from stream.kafka.publisher import partition_of
from stream.kafka.topic_reader import TopicReader
from stream.scoring.forgetting import is_forgetting
from stream.scoring.intake import Intake, Taken
from stream.scoring.ordered_merge import OrderedMerge
from stream.state.row import RECENT_IDS
from stream.topics import Topics

logger = logging.getLogger("foreshock.replay")

OnProgress = Callable[[int], None]


class UnknownUser(LookupError):
    """No event of the user is in the topics."""


def read_events(
    kafka: KafkaConnection,
    topics: Topics,
    application_id: str,
    user_id: str,
    on_progress: OnProgress = lambda _records: None,
) -> list[Event]:
    """Every event of the user in the order in which the application's workers took them, then those that they have yet
    to take in event-time order.

    Reads the partition of the Java client's partitioner first. If the user is not there, it reads the others, because
    lenders may use another partitioner. Raises `UnknownUser` when the user is nowhere, `TopicUnreadable` when a topic
    is missing.
    """
    key = user_id.encode()
    with TopicReader(kafka) as reader:
        partitions = reader.partitions(topics.inputs[0])
        likely = partition_of(key, partitions)
        for partition in (likely, *(number for number in range(partitions) if number != likely)):
            taken = read_partition(reader, topics, application_id, partition, key, on_progress)
            if taken:
                return [item.event for item in taken]
    raise UnknownUser(
        f"user {user_id!r} has no event in {', '.join(topics.inputs)} on {kafka} "
        f"({partitions} partitions looked through); check the spelling, --topic-prefix and --bootstrap-servers"
    )


def read_partition(
    reader: TopicReader, topics: Topics, application_id: str, partition: int, key: bytes, on_progress: OnProgress
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
    order_topic = topics.order(application_id)
    if not reader.exists(order_topic):
        logger.warning(
            "%s does not exist: events are taken in the order of event time, which workers may not", order_topic
        )
        return in_taken_order(held, ())
    return in_taken_order(held, reader.each(order_topic, partition))


def in_taken_order(held: list[list[Taken]], journal: Iterable[Any]) -> list[Taken]:
    """One user's events of each kind, in the order of their offsets, merged as the workers took them.

    `journal` are the records of the partition's order journal. Leaves out what the workers refused, repeats of one of
    the last `RECENT_IDS` event ids, and everything up to where the user was to be forgotten.
    """
    merge = OrderedMerge()
    for kind_no, items in enumerate(held):
        merge.push(kind_no, items)
        merge.read_to(kind_no, sys.maxsize)
    taken: list[Taken] = []
    for record in journal:
        merge.tell(record.offset, record.value)
        taken += merge.release()
    taken += merge.rest()
    seen: deque[str] = deque(maxlen=RECENT_IDS)
    kept: list[Taken] = []
    for item in taken:
        if is_forgetting(item):
            seen.clear()
            kept.clear()
        elif item.event.event_id not in seen:
            seen.append(item.event.event_id)
            kept.append(item)
    return kept
