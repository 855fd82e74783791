"""The Faust application of a worker: one agent over the four input topics, one table of user rows.

Wires the parts together; what happens to an event is in `stream.worker.engine`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import psutil
from faust.types import TP

from model.bundle import Bundle
from stream.kafka.connection import KafkaConnection
from stream.kafka.earlier_records import EarlierRecords
from stream.kafka.failure import Failure
from stream.kafka.faust_app import faust_app
from stream.kafka.lineage import HandedOver, changelog_offset_in, committed_by, examine
from stream.kafka.log_end import log_ends
from stream.kafka.poll import Poll, PollSchema
from stream.kafka.provisioning import ProvisioningError, largest_record_bytes
from stream.kafka.record_batches import Outgoing
from stream.kafka.topic_reader import TopicReader
from stream.kafka.transactions import in_words
from stream.kafka.transport import Consumer, consumer_of, producer_of
from stream.scoring.dead_letters import DeadLetters
from stream.scoring.order_journal import OrderRecord
from stream.scoring.scorer import Scorer
from stream.settings import Settings
from stream.state.resident import ResidentSlab
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.topics import DEAD_LETTER_MAX_BYTES, OutputTopics
from stream.worker.checkpoint import Checkpoints, Cut
from stream.worker.cut import IntervalCut
from stream.worker.drift_file import KEEP_EVERY_S, DriftFile
from stream.worker.drift_reference import reference_of
from stream.worker.engine import Engine, wall_ms
from stream.worker.figures import Figures
from stream.worker.following import Following, Pace
from stream.worker.input_drift import InputDrift
from stream.worker.restoration import Restoration
from stream.worker.roles import Role, Roles, is_in_force
from stream.worker.score_drift import ScoreDrift
from stream.worker.stages import Stages
from stream.worker.store import SlabStore, StateTable

if TYPE_CHECKING:  # RocksDB is loaded by those who ask for it
    from stream.state.archive import Archives

TABLE_NAME = "user_state"

USUAL_MAX_BYTES = 1_048_588
"""What a topic takes in one batch unless its settings or its broker's say otherwise."""

logger = logging.getLogger("foreshock.worker")


def worker_slab(bundle: Bundle, archives: Archives | None = None, resident_users: int | None = None) -> Slab:
    """A slab for the states of a bundle, with room reserved in half of the machine's memory."""
    blank = blank_row(row_dtype(bundle.state_width), bundle.fingerprint)
    reserve_bytes = psutil.virtual_memory().total // 2
    if archives is None:
        return Slab(blank, reserve_bytes=reserve_bytes)
    return ResidentSlab(blank, archives, resident_users, reserve_bytes=reserve_bytes)


def _figures(bundle: Bundle) -> Figures:
    """Empty ones, which compare scores and inputs with the bundle's reference."""
    reference = reference_of(bundle)
    return Figures(ScoreDrift.of(reference), InputDrift.of(bundle, reference))


class WorkerApp:
    """A worker: the Faust app, and the engine that its agent calls."""

    def __init__(
        self,
        settings: Settings,
        kafka: KafkaConnection,
        bundle: Bundle,
        archives: Archives | None = None,
        *,
        following: Following | None = None,
        outputs: OutputTopics | None = None,
        earlier_records: EarlierRecords | None = None,
    ) -> None:
        """`outputs` are those of partitions where this worker is `following`; else they are those of live workers.
        `earlier_records` are read in the place of the topics."""
        self.settings = settings
        self.roles = Roles(settings.topics.live_outputs(settings.application_id), following, outputs)
        self._order_topic = None if following is None else following.order_topic
        self._read = (*settings.topics.inputs, *(() if self._order_topic is None else (self._order_topic,)))
        limit = None if following is None else following.events_per_s
        self._pace = None if limit is None else Pace(limit)
        self.bundle = bundle
        self.slab = worker_slab(bundle, archives, settings.resident_users)
        self.app = faust_app(settings, kafka, settings.application_id)
        self.app.earlier_records = earlier_records
        self.failure = Failure(self.app, "worker")
        if warning := bundle.other_days(settings.portfolio_rules().calendar):
            logger.warning("%s", warning)
        self._letters_fitted = False
        self._seeking: set[asyncio.Task[None]] = set()
        self.restoration = Restoration()
        self._consumer: Consumer | None = None
        self.table = self._new_table()
        self.app.tables.add(self.table)
        self.policy = settings.alert_policy(bundle.thresholds)
        stages = Stages()
        self.checkpoints = self._new_checkpoints(stages)
        self.engine = self._new_engine(stages)
        schema = PollSchema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        self.app.agent(self.app.topic(*self._read, schema=schema, maxsize=1), name="score", concurrency=1)(self._score)
        self._drift_file = self._open_drift_file()
        if self._drift_file is not None:
            self.app.timer(KEEP_EVERY_S)(self._keep_drift)

    def _new_table(self) -> StateTable:
        return StateTable(
            self.app,
            name=TABLE_NAME,
            key_type=bytes,
            value_type=bytes,
            partitions=self.settings.partitions,
            recovery_buffer_size=2,
            options={
                "slab": self.slab,
                "own": self._own,
                "committed_rows": self._committed_rows,
                "log_ends": self._log_ends,
                "read_again": self._read_again,
                "on_failure": self.failure,
                "restoration": self.restoration,
            },
        )

    def _new_checkpoints(self, stages: Stages) -> Checkpoints:
        return Checkpoints(
            self,
            self.slab,
            self.roles.outputs,
            self.settings.topics.inputs,
            interval_s=self.settings.commit_interval_s,
            monotonic=time.monotonic,
            on_failure=self._fail,
            stages=stages,
            rules=self.settings.portfolio_rules(),
        )

    def _new_engine(self, stages: Stages) -> Engine:
        settings = self.settings
        letters, rules = DeadLetters(settings.application_id), settings.portfolio_rules()
        return Engine(
            settings,
            Scorer(self.bundle, self.policy, self.slab, settings.topics, letters, rules),
            self.slab,
            self.checkpoints,
            self._publish_missed,
            now_ms=wall_ms,
            stages=stages,
            has_failed=lambda: bool(self.failure),
            restored=lambda: self._store.restored,
            roles=self.roles,
            is_in_force=self._is_in_force,
            figures=_figures(self.bundle),
        )

    def _open_drift_file(self) -> DriftFile | None:
        drift, folder = self.engine.figures.input_drift, self.settings.state_dir
        if drift is None or folder is None:
            return None
        name = self.settings.topics.changelog(self.settings.application_id)
        found = DriftFile(folder / f"{name}.input-drift.json", self.bundle.fingerprint_hex, drift)
        found.read(wall_ms())
        return found

    async def _keep_drift(self) -> None:
        await asyncio.to_thread(self.keep_drift)

    def keep_drift(self) -> None:
        """Keep on disk what was counted of the inputs, where there is a disk for it."""
        if self._drift_file is not None:
            self._drift_file.write()

    async def _score(self, polls: Any) -> None:
        """The agent: passes every poll to the engine."""
        consumer = self._consumer = consumer_of(self.app)
        consumer.drain = self.engine.drain
        consumer.longest_unreachable_s, consumer.on_failure = self.settings.broker_timeout_s, self.failure
        async for poll in polls:
            if isinstance(poll, Poll):
                before = self.engine.counts["scored"]
                try:
                    consumer.held = await self.engine.take(poll)
                    if self._pace is not None:
                        scored = self.engine.counts["scored"] - before
                        await asyncio.sleep(self._pace.pause_s(scored, time.monotonic()))
                except Exception as error:
                    self._fail(error)
                finally:
                    consumer.taken()

    def _fail(self, error: BaseException) -> None:
        self.failure(in_words(error))

    def lag(self) -> Mapping[TP, int]:
        """Records that the broker held after the last one polled, by assigned topic and partition; from any thread."""
        return {} if self._consumer is None else self._consumer.lag()

    def due(self) -> int:
        """Records that it is to read by now: where it follows others, those of the journal. What the others have not
        taken yet is not its to take."""
        return sum(records for tp, records in self.lag().items() if self._is_due(tp))

    def _is_due(self, tp: TP) -> bool:
        owned = self.restoration.owned
        if tp.topic == self._order_topic and owned is not None and tp.partition not in owned:
            return False  # of a journal that no other worker of the group follows any more
        role = self.roles[tp.partition]
        if role is Role.FOLLOWS and self._order_topic is not None:
            return tp.topic == self._order_topic
        return role is not Role.GAVE_UP and tp.topic != self._order_topic

    @property
    def unreachable_s(self) -> float:
        """Seconds since a broker last answered, 0 while one does; from any thread."""
        return 0.0 if self._consumer is None else self._consumer.unreachable_s

    async def _own(self, partitions: frozenset[int]) -> None:
        if partitions and not self._letters_fitted:
            self.engine.limit_dead_letters(await asyncio.to_thread(self._letter_max_bytes))
            self._letters_fitted = True
        transactions = producer_of(self.app).transactions
        transactions.mark = self.roles.mark
        if partitions - transactions.partitions:
            # Before anything is fenced: who has the wrong topics must not disturb those who have the right ones.
            transactions.lineage = await asyncio.to_thread(
                examine,
                self.app.connection,
                self.settings.application_id,
                self.settings.topics.inputs,
                self.table.changelog_topic_name,
                self.roles.topics,
                self.roles.leader,
            )
        await transactions.own(partitions)

    async def _committed_rows(self, partitions: frozenset[int]) -> Mapping[int, int]:
        """By partition, the last row that the changelog had when the group's offsets of it were committed.

        Also finds out what this worker's role in them is: only now, when they are owned, nobody else can change it.
        """
        inputs = [TP(topic, partition) for topic in self._read for partition in sorted(partitions)]
        found: dict[int, int] = {}
        committed = await consumer_of(self.app).committed_offsets(inputs)
        for tp, kept in committed.items():
            found[tp.partition] = max(found.get(tp.partition, -1), changelog_offset_in(kept.lineage))
        self.roles.begin(partitions, committed, self.settings.topics.inputs)
        forgotten = sorted(partitions - {tp.partition for tp in committed})
        if forgotten and self.roles.following is None:
            await asyncio.to_thread(self._require_lead, forgotten)
        return found

    async def _log_ends(self, changelogs: Sequence[TP]) -> Mapping[TP, int]:
        return await asyncio.to_thread(log_ends, self.app.connection, changelogs)

    async def _is_in_force(self, partition: int, record: OrderRecord) -> bool:
        """Whether who hands over has ended where this record says, and has not led since: of a shadow whose name was
        used before, or whose offsets the broker has forgotten, the journal tells of hand-overs that are over."""
        told = record.hand_over
        if told is None:
            return False
        kept = await asyncio.to_thread(committed_by, self.app.connection, told.giver)
        found = [kept.get(TP(topic, partition)) for topic in self.settings.topics.inputs]
        if is_in_force(found, record):
            return True
        # Its workers may have been started again before this one came here, and follow it by now.
        if self._order_topic is None or not is_in_force(found, record, has_returned=True):
            return False
        return await asyncio.to_thread(self._ends_with, partition, record)

    def _ends_with(self, partition: int, record: OrderRecord) -> bool:
        """Whether nothing was taken of a partition after this record of the journal that is followed."""
        with TopicReader(self.app.connection) as reader:
            last = reader.last(str(self._order_topic), partition)
        return last is not None and OrderRecord.decode(last.value).ends == record.ends

    def _require_lead(self, partitions: Collection[int]) -> None:
        """See that partitions of which the broker has no offsets were not handed over: it forgets those of a group in
        which nobody is after some days, and with them that this group was relieved. Raises `HandedOver`."""
        order_topic = self.settings.topics.order(self.settings.application_id)
        takers: dict[int, str] = {}
        with TopicReader(self.app.connection) as reader:
            for partition in partitions if reader.size([order_topic]) else ():
                last = reader.last(order_topic, partition)
                told = None if last is None else OrderRecord.decode(last.value).hand_over
                if told is not None and told.giver == self.settings.application_id:
                    takers[partition] = told.taker
        if takers:
            named = ", ".join(sorted(set(takers.values())))
            raise HandedOver(
                f"this application was handed over to {named}, whose workers score now (partitions {sorted(takers)}), "
                "and the broker has forgotten its offsets since, so that it cannot go on: stop these workers"
            )

    def _read_again(self, tp: TP, offset: int) -> None:
        seeking = asyncio.get_running_loop().create_task(consumer_of(self.app).read_again(tp, offset))
        self._seeking.add(seeking)
        seeking.add_done_callback(self._seeking.discard)

    def _letter_max_bytes(self) -> int:
        """The largest record that the topic of dead letters surely takes: a larger one would end this worker, and each
        that reads the same input after it."""
        topic = self.settings.topics.dead_letters
        if topic not in self.roles.topics:
            return DEAD_LETTER_MAX_BYTES
        try:
            found = largest_record_bytes(self.app.connection, topic)
        except ProvisioningError as error:
            logger.info("the settings of %s could not be read: %s", topic, error)
            found = None
        return min(USUAL_MAX_BYTES if found is None else found, DEAD_LETTER_MAX_BYTES)

    @property
    def _store(self) -> SlabStore:
        return cast(SlabStore, self.table.data)

    def send(self, outgoing: Sequence[Outgoing]) -> Awaitable[Any]:
        return producer_of(self.app).transactions.send(outgoing)

    async def cut(self, partitions: Collection[int]) -> Cut:
        return IntervalCut(
            await producer_of(self.app).transactions.cut(partitions),
            self.settings.application_id,
            self.table.changelog_topic_name,
            self._store.archive,
            self._store.persisted_offset,
            keeps_rows=isinstance(self.slab, ResidentSlab),
        )

    async def _publish_missed(self, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        # Not in a transaction: what lenders send to the topic meanwhile could not be read before it is committed.
        topic = self.settings.topics.of_kind("repayments")
        await asyncio.gather(*await producer_of(self.app).send_records(topic, partition, records))
