"""Takes what webhooks are told from the topics into the table of deliveries, as a consumer group.

Offsets are committed after the rows: whatever goes away meanwhile, the table gets every record, and a record that comes
again changes nothing. While the database is away the topics hold what is missing. Reads committed records only and
sends nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from stream.database.connection import Connection
from stream.database.errors import DatabaseUnavailable
from stream.kafka.clients import aiokafka_consumer, started
from stream.kafka.connection import KafkaConnection
from stream.kafka.rights import denial
from stream.logs import told
from stream.outputs import ForeignRecord, coordinate, forgotten_by
from stream.settings import Settings
from stream.topics import webhook_group
from stream.webhooks.deliveries import DeliveryTable, Told, chosen
from stream.webhooks.figures import WebhookFigures
from stream.webhooks.messages import Message, action_message, alert_message
from stream.webhooks.receivers import Webhook

POLL_MS = 500
LOOK_EVERY_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0

logger = logging.getLogger("foreshock.webhooks")

Decode = Callable[[bytes | None], Message]


def sources(settings: Settings) -> dict[str, Decode]:
    """Topics that webhooks are told of, and what makes a message of a record of each."""
    return dict(zip(settings.topics.told_to_webhooks, (alert_message, action_message), strict=True))


def messages_of(
    records: Mapping[Any, Iterable[Any]], decoders: Mapping[str, Decode], skip: Callable[[Any, ForeignRecord], None]
) -> tuple[list[tuple[Message, Mapping[str, Any]]], set[str]]:
    """Messages with their places, in the order of each partition, and the users who are forgotten.

    Of a user who is forgotten, what stands before that on the same partition is left out.
    """
    messages: list[tuple[Message, Mapping[str, Any]]] = []
    forgotten: set[str] = set()
    for tp, batch in records.items():
        kept: list[tuple[Message, Mapping[str, Any]]] = []
        for record in batch:
            if forgotten_by(record.value, record.headers) is not None:
                user = (record.key or b"").decode(errors="replace")
                forgotten.add(user)
                kept = [(message, place) for message, place in kept if message.user_id != user]
                continue
            try:
                message = decoders[tp.topic](record.value)
            except ForeignRecord as error:
                skip(record, error)
                continue
            kept.append((message, {"topic": tp.topic, "partition": tp.partition, "offset": record.offset}))
        messages += kept
    return messages, forgotten


class Intake(ConsumerRebalanceListener):  # type: ignore[misc]
    """The consumer of one process."""

    def __init__(
        self,
        settings: Settings,
        kafka: KafkaConnection,
        table: DeliveryTable,
        figures: WebhookFigures,
        topic_ids: Mapping[str, str],
        wake: Callable[[], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`topic_ids` are those of the topics that exist, which are read. `wake` is called when there may be something
        to send."""
        self._settings, self._kafka = settings, kafka
        self._table, self._figures, self._wake = table, figures, wake
        self._decoders = {topic: decode for topic, decode in sources(settings).items() if topic in topic_ids}
        self._topic_ids = topic_ids
        self._clock_s = clock_s
        self._consumer: Any = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Until told to stop. Raises `KafkaError`, `BrokerRefuses`, `DatabaseError`."""
        settings = self._settings
        self._consumer = aiokafka_consumer(
            self._kafka,
            group_id=webhook_group(settings.readers),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=round(settings.session_timeout_s * 1000),
            heartbeat_interval_ms=round(settings.heartbeat_interval_s * 1000),
        )
        self._consumer.subscribe(list(self._decoders), listener=self)
        async with started(self._consumer, self._kafka):
            looking = asyncio.create_task(self._look_on())
            try:
                await self._take_until(stopping)
            finally:
                looking.cancel()

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """What is being written meanwhile is written all the same; its offsets are another's to commit."""

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """For the figures."""
        self._figures.assigned = frozenset(assigned)
        self._figures.lag = {}

    async def _take_until(self, stopping: asyncio.Event) -> None:
        pause_s = FIRST_PAUSE_S
        while not stopping.is_set():
            records = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=self._settings.batch_max_records)
            self._figures.polls += 1
            if not records:
                continue
            self._figures.is_writing = True
            try:
                await asyncio.to_thread(self._write, records)
            except DatabaseUnavailable as error:
                self._figures.note_outage()
                logger.warning("%s; trying again in %.0f s", error, pause_s, extra={"pause_s": pause_s})
                self._go_back(records)
                await _wait(stopping, pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            finally:
                self._figures.is_writing = False
            pause_s = FIRST_PAUSE_S
            self._figures.note_taken(sum(map(len, records.values())))
            self._wake()
            await self._commit(records)

    def _write(self, records: Mapping[Any, Sequence[Any]]) -> None:
        messages, forgotten = messages_of(records, self._decoders, self._skip)
        if messages or forgotten:
            self._table.add(lambda webhooks, connection: self._choose(messages, webhooks, connection), forgotten)

    def _choose(
        self, messages: Sequence[tuple[Message, Mapping[str, Any]]], webhooks: Sequence[Webhook], connection: Connection
    ) -> list[Told]:
        return chosen(messages, webhooks, connection, self._begins)

    def _begins(self, webhook: Webhook, place: Mapping[str, Any]) -> bool:
        topic_id = self._topic_ids.get(place["topic"], "")
        return bool(place["offset"] >= webhook.begins(topic_id, place["partition"]))

    def _skip(self, record: Any, error: ForeignRecord) -> None:
        self._figures.skipped += 1
        place = coordinate(record.topic, record.partition, record.offset)
        fields = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        logger.error("%s is none of ours and is skipped: %s", place, error, extra=fields)

    def _go_back(self, records: Mapping[Any, Sequence[Any]]) -> None:
        """Read what was not written again, where these partitions are still ours."""
        for tp, batch in records.items():
            if tp in self._consumer.assignment():
                self._consumer.seek(tp, batch[0].offset)

    async def _commit(self, records: Mapping[Any, Sequence[Any]]) -> None:
        reached = {tp: batch[-1].offset + 1 for tp, batch in records.items() if tp in self._consumer.assignment()}
        try:
            if reached:
                await self._consumer.commit(reached)
        except (CommitFailedError, IllegalStateError) as error:
            # They are another's now, who reads them again, and finds the rows there.
            logger.info("offsets were not committed: %s", told(error))
        except KafkaError as error:
            if (denied := denial(error, self._kafka)) is not None:
                raise denied from error
            if not error.retriable:
                raise
            logger.warning("offsets were not committed, with the next ones they will be: %s", told(error))

    async def _look_on(self) -> None:
        """How far the topics are ahead, and whether a broker answers."""
        answered_s = self._clock_s()
        while True:
            partitions = list(self._consumer.assignment())
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    ends = await self._consumer.end_offsets(partitions) if partitions else {}
                    lag = {tp: max(end - await self._position(tp), 0) for tp, end in ends.items()}
                self._figures.lag = lag
                if partitions:
                    answered_s = self._clock_s()
                self._figures.unreachable_s = 0.0
            except (TimeoutError, KafkaError):
                self._figures.unreachable_s = self._clock_s() - answered_s
            await asyncio.sleep(LOOK_EVERY_S)

    async def _position(self, tp: TopicPartition) -> int:
        return int(await self._consumer.position(tp))


async def _wait(stopping: asyncio.Event, pause_s: float) -> None:
    try:
        async with asyncio.timeout(pause_s):
            await stopping.wait()
    except TimeoutError:
        pass
