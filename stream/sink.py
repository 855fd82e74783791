"""The sink: writes scores, alerts, contracts and dead letters from their topics into PostgreSQL.

It is a consumer group of its own, so a database outage delays the tables and nothing else: offsets of records that are
not written are not committed, and the topics keep the records until the sink catches up. A tombstone that tells of a
forgotten user deletes that user's rows, in order with what else its topic holds. Records that others wrote into the
topics, and that no table takes, are named in the log, counted and skipped. Of the input `profiles` it keeps the product
of each contract, and with `event_history` every event that workers may take, by the decoder that workers use. Loads no
model.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec
from faust.types import TP

from events.types import KINDS, Forgetting
from model.bundle import BundleError, read_manifest
from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseUnavailable
from stream.database.kept_events import kept_event
from stream.database.products import ContractProduct, stated_product
from stream.database.refusals import Placed, reason_of, write_what_fits
from stream.database.writer import DatabaseWriter, UserPlace
from stream.kafka.connection import KafkaConnection
from stream.kafka.failure import Failure
from stream.kafka.faust_app import faust_app
from stream.kafka.poll import Poll, PollSchema
from stream.kafka.record import Record
from stream.kafka.transport import Consumer, consumer_of
from stream.outputs import (
    Alert,
    BorrowerContracts,
    DeadLetter,
    ForeignRecord,
    Output,
    OutputDecoder,
    Score,
    coordinate,
    forgotten_by,
    moment_of,
    shortened,
)
from stream.scoring.intake import Intake
from stream.settings import Settings
from stream.sink_figures import SinkFigures
from stream.topics import sink_group

LONGEST_RETRY_S = 30.0

logger = logging.getLogger("foreshock.sink")


class Forgotten(NamedTuple):
    """Users, with their partition, of whom the topic of scores, of alerts, of contracts or of profiles says that they
    are forgotten; and until when, by the tombstones in profiles, their events are."""

    of_scores: set[UserPlace]
    of_alerts: set[UserPlace]
    of_contracts: set[UserPlace]
    of_products: set[UserPlace]
    events_until: dict[str, dt.datetime]


def _stated_product(record: Record) -> ContractProduct | None:
    now_ms = time.time_ns() // 1_000_000
    return stated_product(record.key, record.value, record.partition, record.offset, now_ms)


class SinkApp:
    """A sink: the Faust app, and the writer that its agent calls."""

    def __init__(self, settings: Settings, kafka: KafkaConnection, database: DatabaseConnection) -> None:
        self.settings = settings
        self._writer = DatabaseWriter(database, score_history=settings.score_history)
        self._registered = False
        score, alert, contracts = OutputDecoder(Score), OutputDecoder(Alert), OutputDecoder(BorrowerContracts)
        self._profiles = settings.topics.of_kind("profiles")
        self._intakes = (
            {settings.topics.of_kind(kind): Intake(kind) for kind in KINDS} if settings.event_history else {}
        )
        self._decoders: dict[str, Callable[[Record], Output | ContractProduct | None]] = {
            settings.topics.scores: lambda record: score(record.value),
            settings.topics.alerts: lambda record: alert(record.value),
            settings.topics.contracts: lambda record: contracts(record.value),
            settings.topics.dead_letters: DeadLetter.from_record,
            self._profiles: _stated_product,
        }
        self.app = faust_app(
            settings,
            kafka,
            sink_group(settings.readers),
            store="memory://",
            table_standby_replicas=0,
        )
        schema = PollSchema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        topics = settings.topics.read_by_sink(settings.event_history)
        self.app.agent(self.app.topic(*topics, schema=schema, maxsize=1), name="write", concurrency=1)(self._write)
        self._given_up = asyncio.Event()
        self._turn = asyncio.Lock()
        self._epoch = 0
        self.failure = Failure(self.app, "sink")
        self.figures = SinkFigures()
        self.assigned: frozenset[TP] | None = None
        """What this sink reads; None before the group has told for the first time."""
        self._consumer: Consumer | None = None
        self.app.on_partitions_assigned.connect(cast(Any, self._on_assigned))

    async def _on_assigned(self, _: Any, assigned: set[TP], **__: Any) -> None:
        self.assigned = frozenset(assigned)

    def lag(self) -> Mapping[TP, int]:
        """Records that the broker held after the last one polled, by assigned topic and partition; from any thread."""
        return {} if self._consumer is None else self._consumer.lag()

    @property
    def unreachable_s(self) -> float:
        """Seconds since a broker last answered, 0 while one does; from any thread."""
        return 0.0 if self._consumer is None else self._consumer.unreachable_s

    async def _write(self, polls: Any) -> None:
        consumer = self._consumer = consumer_of(self.app)
        consumer.drain = self.drain
        consumer.longest_unreachable_s, consumer.on_failure = self.settings.broker_timeout_s, self.failure
        async for poll in polls:
            self.figures.polls += 1
            if not isinstance(poll, Poll) or not poll.reached() or self.failure:
                continue
            try:
                async with self._turn:
                    if poll.epoch < self._epoch:
                        continue  # it may follow a poll that was not written
                    if await self._write_until_done(*self._decode(poll)):
                        consumer.advance(poll.reached())
            except Exception as error:
                self.failure(error)
                return

    async def drain(self, epoch: int) -> None:
        """Stop retrying, because partitions are about to be revoked; what is not written will be read again.

        Polls of an epoch before `epoch` are not written from here on.
        """
        self._epoch = epoch
        self._given_up.set()
        async with self._turn:
            self._given_up.clear()

    async def _write_until_done(self, batch: list[Placed], forgotten: Forgotten) -> bool:
        """Write a batch, again and again while the database is unavailable; False when told to give up."""
        pause_s = self.settings.sink_retry_s
        while not self._given_up.is_set():
            try:
                with self.figures.writing():
                    await asyncio.to_thread(self._write_once, batch, forgotten)
                self.figures.note_written(placed.output for placed in batch)
                return True
            except DatabaseUnavailable as error:
                self.figures.note_failure()
                logger.warning("%s; trying again in %.0f s", error, pause_s, extra={"pause_s": pause_s})
            try:
                await asyncio.wait_for(self._given_up.wait(), pause_s)
            except TimeoutError:
                pause_s = min(2 * pause_s, LONGEST_RETRY_S)
        self.figures.waits_for_database = False
        return False

    def _write_once(self, batch: list[Placed], forgotten: Forgotten) -> None:
        if not self._registered:
            self._register_model()
            self._registered = True
        # What stands before a user's tombstone is not in the batch, so all that it holds of them comes after.
        self._writer.forget(*forgotten)
        refused: set[str] = set()

        def skip(placed: Placed, error: Exception) -> None:
            refused.add(placed.place)
            self._skip(placed.place, reason_of(error))

        try:
            write_what_fits(self._writer, batch, skip)
        finally:
            # Not to be found, and told of, once more when the database goes away now and the batch is written again.
            if refused:
                batch[:] = [placed for placed in batch if placed.place not in refused]

    def _register_model(self) -> None:
        """Store the manifest of the configured bundle. Scores of models without a stored manifest are written, too."""
        try:
            manifest, fingerprint = read_manifest(self.settings.bundle, self.settings.bundle_public_key)
        except BundleError as error:
            logger.warning("no manifest is kept of the model: %s", error)
            return
        self._writer.register_model(f"{fingerprint:016x}", msgspec.to_builtins(manifest))

    def _decode(self, poll: Poll) -> tuple[list[Placed], Forgotten]:
        """What a poll holds for the tables, and the users to forget before that is written.

        Of a user who is forgotten, what stands before that on the same partition is left out.
        """
        batch: list[Placed] = []
        topics = self.settings.topics
        forgotten = Forgotten(set(), set(), set(), set(), {})
        tellers = (topics.scores, topics.alerts, topics.contracts, self._profiles)
        told_by = dict(zip(tellers, forgotten[:4], strict=True))
        for tp, records in poll.records.items():
            batch += self._events_in(tp, records)
            decode = self._decoders.get(tp.topic)
            if decode is None:
                continue
            asked = tp.topic == self._profiles
            until = self._forgotten_until(records, asked=asked) if tp.topic in told_by else {}
            if until:
                told_by[tp.topic].update((key.decode(errors="replace"), tp.partition) for key in until)
            if until and asked:
                self._note_times(records, forgotten.events_until)
            for record in records:
                if record.offset <= until.get(record.key or b"", -1):
                    continue
                place = coordinate(tp.topic, tp.partition, record.offset)
                try:
                    output = decode(record)
                except ForeignRecord as error:
                    self._skip(place, str(error))
                    continue
                if output is not None:
                    batch.append(Placed(place, output))
        return batch, forgotten

    def _events_in(self, tp: TP, records: Sequence[Record]) -> list[Placed]:
        """The events of an input topic's records that workers may take, if events are kept."""
        intake = self._intakes.get(tp.topic)
        if intake is None:
            return []
        taken, _ = intake.take_all(records, time.time_ns() // 1_000_000)
        return [
            Placed(
                coordinate(tp.topic, tp.partition, one.offset),
                kept_event(one.event, tp.topic, tp.partition, one.offset),
            )
            for one in taken
            if not isinstance(one.event, Forgetting)
        ]

    @staticmethod
    def _note_times(records: Sequence[Record], until: dict[str, dt.datetime]) -> None:
        """Note the latest time of each user's tombstones in `profiles`, which workers go by, too."""
        now_ms = time.time_ns() // 1_000_000
        for record in records:
            if record.value is None and record.key is not None:
                user_id = record.key.decode(errors="replace")
                at = moment_of(min(max(record.timestamp, 0), now_ms))
                until[user_id] = max(at, until.get(user_id, at))

    @staticmethod
    def _forgotten_until(records: Sequence[Record], *, asked: bool) -> dict[bytes, int]:
        """Offset of the last tombstone of each user that is forgotten in these records, by key.

        Where it is `asked` for, any tombstone is one; where it is told of, its header says so.
        """
        return {
            record.key or b"": record.offset
            for record in records
            if record.value is None and (asked or forgotten_by(record.value, record.headers) is not None)
        }

    def _skip(self, place: str, reason: str) -> None:
        self.figures.skipped += 1
        topic, partition, offset = place.rsplit(":", 2)
        fields = {"topic": topic, "partition": int(partition), "offset": int(offset)}
        logger.error("%s is none of ours and is skipped: %s", place, shortened(reason, 200), extra=fields)
