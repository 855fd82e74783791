"""Tells a webhook again what the topics hold of some time, whether the table of deliveries still has it or not."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import TopicPartition

from stream.database.connection import Connection
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import TopicReader
from stream.outputs import ForeignRecord, coordinate
from stream.settings import Settings
from stream.webhooks.deliveries import DeliveryTable, Told, chosen
from stream.webhooks.intake import messages_of, sources
from stream.webhooks.receivers import Webhook, WebhookError

BATCH_RECORDS = 2_000

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
    told = 0
    with TopicReader(kafka) as reader:
        for topic in topic_ids:
            for partition in range(reader.partitions(topic)):
                since = reader.offset_at(topic, partition, since_ms)
                if since is None:
                    continue
                batch: list[Any] = []
                for record in reader.each(topic, partition, since):
                    # Times of records need not rise: all up to the end are looked at.
                    if record.timestamp < since_ms or (until_ms is not None and record.timestamp >= until_ms):
                        continue
                    batch.append(record)
                    if len(batch) == BATCH_RECORDS:
                        told += _add(settings, table, webhook, batch)
                        batch = []
                told += _add(settings, table, webhook, batch)
    return told


def _add(settings: Settings, table: DeliveryTable, webhook: str, batch: Sequence[Any]) -> int:
    if not batch:
        return 0
    of = TopicPartition(batch[0].topic, batch[0].partition)
    messages, _ = messages_of({of: batch}, sources(settings), _skip)

    def choose(webhooks: Sequence[Webhook], connection: Connection) -> list[Told]:
        own = [found for found in webhooks if found.name == webhook]
        return chosen(messages, own, connection, lambda _webhook, _place: True)

    return table.add(choose, again=True)


def _skip(record: Any, error: ForeignRecord) -> None:
    place = coordinate(record.topic, record.partition, record.offset)
    logger.error("%s is none of ours and is skipped: %s", place, error)
