"""Tells a webhook again what the topics hold of some time, whether the table of deliveries still has it or not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from kafka import TopicPartition

from stream.database.connection import Connection
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import TopicReader
from stream.outputs import ForeignRecord, coordinate, forgotten_by
from stream.settings import Settings
from stream.webhooks.deliveries import DeliveryTable, Told, chosen
from stream.webhooks.intake import messages_of, sources
from stream.webhooks.messages import Message
from stream.webhooks.receivers import Webhook, WebhookError

BATCH_RECORDS = 2_000

Messages: TypeAlias = Sequence[tuple[Message, Mapping[str, Any]]]
"""Messages with their places."""

logger = logging.getLogger("foreshock.webhooks")


def ends(kafka: KafkaConnection, settings: Settings, topic_ids: Mapping[str, str]) -> dict[str, list[int]]:
    """By topic id, the offset after the last committed record of each partition: where a new webhook begins. Raises
    `TopicUnreadable`, `KafkaError`, `OSError`."""
    with TopicReader(kafka) as reader:
        return {
            topic_ids[topic]: [reader.span(topic, partition)[1] for partition in range(reader.partitions(topic))]
            for topic in sources(settings)
            if topic in topic_ids
        }


def replay_published(
    kafka: KafkaConnection,
    settings: Settings,
    table: DeliveryTable,
    topic_ids: Mapping[str, str],
    webhook: str,
    since_ms: int,
    until_ms: int | None = None,
) -> int:
    """Have a webhook told again what was published from `since_ms` on and before `until_ms`; returns how many messages.

    What passes its filters of today is told, whatever it was told before, in the order of the topics. Raises
    `WebhookError`, `DatabaseUnavailable`, `TopicUnreadable`, `KafkaError`, `OSError`.
    """
    if webhook not in {found.name for found in table.webhooks()}:
        raise WebhookError(f"there is no webhook {webhook!r}; `foreshock webhooks list` shows them")

    def is_wanted(record: Any) -> bool:
        return record.timestamp >= since_ms and (until_ms is None or record.timestamp < until_ms)

    told = 0
    with TopicReader(kafka) as reader:
        # Times of records need not rise: all up to the end are looked at.
        begins = {
            (topic, partition): since
            for topic, partition in _partitions(reader, topic_ids)
            if (since := reader.offset_at(topic, partition, since_ms)) is not None
        }
        for batch in _batches(reader, begins, is_wanted):
            told += table.add(_choosing(_messages(settings, batch), webhook), again=True)
    return told


def tell_everything(
    kafka: KafkaConnection, settings: Settings, table: DeliveryTable, topic_ids: Mapping[str, str], webhook: str
) -> int:
    """Have a webhook that is new, and disabled still, told all that the topics hold; returns how many messages.

    Those who deliver may have read past it, and go on meanwhile: they add what is published from now on, and each
    record up to here is given a place before that. Raises as `replay_published`.
    """
    told = 0
    with TopicReader(kafka) as reader:
        spans = {place: reader.span(*place) for place in _partitions(reader, topic_ids)}

        def is_wanted(record: Any) -> bool:
            return bool(record.offset < spans[record.topic, record.partition][1])

        for batch in _batches(reader, {place: begin for place, (begin, _) in spans.items()}, is_wanted):
            found = _messages(settings, batch)
            numbers: dict[str, int] = {}
            for message, place in found:  # an action may stand there twice: its place is the first
                end = spans[place["topic"], place["partition"]][1]
                numbers.setdefault(message.message_id, int(place["offset"]) - end)
            told += table.add_before(_choosing(found, webhook), numbers)
    return told


def _partitions(reader: TopicReader, topics: Iterable[str]) -> Iterator[tuple[str, int]]:
    return ((topic, partition) for topic in topics for partition in range(reader.partitions(topic)))


def _batches(
    reader: TopicReader, begins: Mapping[tuple[str, int], int], is_wanted: Callable[[Any], bool]
) -> Iterator[list[Any]]:
    """Records of each partition in order, but what stands before the news that its user is forgotten."""
    forgotten: dict[bytes | None, Any] = {}
    for (topic, partition), begin in begins.items():
        for record in reader.each(topic, partition, begin):
            if forgotten_by(record.value, record.headers) is not None:
                forgotten[record.key] = record
    for (topic, partition), begin in begins.items():
        batch: list[Any] = []
        for record in reader.each(topic, partition, begin):
            if not is_wanted(record) or _is_forgotten(record, forgotten.get(record.key)):
                continue
            batch.append(record)
            if len(batch) == BATCH_RECORDS:
                yield batch
                batch = []
        if batch:
            yield batch


def _is_forgotten(record: Any, news: Any) -> bool:
    """Whether the news that its user is forgotten came after a record. They stand in one of the topics alone: in the
    other one, times tell."""
    if news is None:
        return False
    if (record.topic, record.partition) == (news.topic, news.partition):
        return bool(record.offset <= news.offset)
    return bool(record.timestamp <= news.timestamp)


def _messages(settings: Settings, batch: Sequence[Any]) -> Messages:
    of = TopicPartition(batch[0].topic, batch[0].partition)
    messages, _ = messages_of({of: batch}, sources(settings), _skip)
    return messages


def _choosing(messages: Messages, webhook: str) -> Callable[[Sequence[Webhook], Connection], list[Told]]:
    """Chooses what of messages one webhook wants."""

    def choose(webhooks: Sequence[Webhook], connection: Connection) -> list[Told]:
        own = [found for found in webhooks if found.name == webhook]
        return chosen(messages, own, connection, lambda _webhook, _place: True)

    return choose


def _skip(record: Any, error: ForeignRecord) -> None:
    place = coordinate(record.topic, record.partition, record.offset)
    logger.error("%s is none of ours and is skipped: %s", place, error)
