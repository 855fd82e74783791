"""Replay: scores a range of the past again, under the same or another bundle.

Reads the input topics from their beginning, so that every state is the same as it was live, and publishes only the
range, to `scores.replay.<name>` and `alerts.replay.<name>`. Live topics, states and offsets are untouched.

Events are scored in the order of the live workers, which the live `scores` topic records. Events that the workers
refused are skipped, and of a user who was forgotten those before that; events that they have not reached yet follow in
event-time order.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from kafka.errors import KafkaError

from events.types import KINDS
from model.bundle import Bundle
from stream.kafka.clients import open_admin, open_producer
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import create_topics, replay_specifications
from stream.kafka.rights import Right, denial
from stream.kafka.topic_reader import TopicReader
from stream.replay.foreign import ForeignRecords
from stream.replay.live_order import LiveOrder
from stream.scoring.forgetting import pieces_between
from stream.scoring.intake import Intake, Taken
from stream.scoring.merge import PartitionMerge
from stream.scoring.scorer import KeyedValues, Scorer
from stream.settings import Settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.topics import Topics, replay_group

DELETE_TIMEOUT_S = 30.0


class ReplayError(RuntimeError):
    """A replay or a diff cannot be done; the message says why and what to do."""


@dataclass(frozen=True)
class ReplayRange:
    """Event time from `from_at` up to but not including `to_at`; only some `users`, or all if None."""

    name: str
    from_at: dt.datetime
    to_at: dt.datetime
    users: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.from_at >= self.to_at:
            raise ReplayError(f"--from {self.from_at.isoformat()} is not before --to {self.to_at.isoformat()}")

    def covers(self, occurred_at: dt.datetime) -> bool:
        return self.from_at <= occurred_at < self.to_at

    def wants(self, key: bytes) -> bool:
        return self.users is None or key.decode(errors="replace") in self.users


class _Dated(msgspec.Struct, gc=False):
    occurred_at: dt.datetime


def prepare_topics(kafka: KafkaConnection, settings: Settings, name: str, *, overwrite: bool) -> None:
    """Create the empty topics of a replay, with as many partitions as the inputs have.

    Raises `ReplayError` when they exist and `overwrite` is not set, `TopicUnreadable` when there are no input topics.
    """
    with TopicReader(kafka) as reader:
        partitions = reader.partitions(settings.topics.inputs[0])
    wanted = replay_specifications(settings.model_copy(update={"partitions": partitions}), name)
    admin = open_admin(kafka)
    try:
        present = [topic.name for topic in wanted if topic.name in set(admin.list_topics())]
        if present and not overwrite:
            raise ReplayError(
                f"{' and '.join(present)} exist from an earlier run; choose another name or give --overwrite"
            )
        if present:
            _delete(kafka, admin, present)
            deadline_s = time.monotonic() + DELETE_TIMEOUT_S
            while set(present) & set(admin.list_topics()):
                if time.monotonic() > deadline_s:
                    raise ReplayError(f"{kafka} has not deleted {present} after {DELETE_TIMEOUT_S:.0f} s")
                time.sleep(0.2)
    finally:
        admin.close()
    create_topics(kafka, settings, wanted)


def _delete(kafka: KafkaConnection, admin: Any, topics: Sequence[str]) -> None:
    try:
        admin.delete_topics(topics)
    except KafkaError as error:
        refused = denial(error, kafka, *(Right("topic", topic, "Delete") for topic in topics))
        raise (error if refused is None else refused) from error


class Replay:
    """One replay of one range."""

    def __init__(self, settings: Settings, kafka: KafkaConnection, bundle: Bundle, replayed: ReplayRange) -> None:
        self._settings = settings
        self._kafka = kafka
        self._bundle = bundle
        self._range = replayed
        self._topics: Topics = settings.topics
        self._intakes = [Intake(kind) for kind in KINDS]
        self._decode_date = msgspec.json.Decoder(_Dated).decode
        self.counts: Counter[str] = Counter()

    def run(self, on_progress: Callable[[int, int], None] = lambda _done, _total: None) -> Counter[str]:
        """Read, score and publish; the replay's topics must exist. Returns counts.

        Raises `TopicUnreadable` when a topic is missing or the broker stays silent.
        """
        group = replay_group(self._settings.application_id, self._range.name)
        producer = open_producer(self._kafka, acks="all", linger_ms=20)
        scores, foreign = self._topics.scores, ForeignRecords()
        try:
            with TopicReader(self._kafka, group) as reader, TopicReader(self._kafka) as journal:
                total = reader.size(self._topics.inputs)
                for partition in range(reader.partitions(self._topics.inputs[0])):
                    order = LiveOrder.read(journal.each(scores, partition), self._topics.inputs, foreign, scores)
                    for done in self._partition(reader, partition, order, producer):
                        self.counts["read"] += done
                        on_progress(self.counts["read"], total)
            producer.flush()
        finally:
            producer.close()
        foreign.tell()
        if foreign.counts:
            self.counts["foreign_scores"] = foreign.counts.total()
        return self.counts

    def _partition(self, reader: TopicReader, partition: int, order: LiveOrder, producer: Any) -> Iterator[int]:
        """Replay one partition on a slab of its own; yields how many records were read at a time."""
        slab = Slab(blank_row(row_dtype(self._bundle.state_width), self._bundle.fingerprint))
        policy = self._settings.alert_policy(self._bundle.thresholds)
        scorer = Scorer(self._bundle, policy, slab, self._topics, rules=self._settings.portfolio_rules())
        merge = PartitionMerge(order.place)
        for found, behind in reader.records(self._topics.inputs, partition):
            for kind_no, topic in enumerate(self._topics.inputs):
                merge.push(kind_no, self._take(kind_no, found.get(topic, []), order))
            ready = merge.release([no for no, topic in enumerate(self._topics.inputs) if topic in behind])
            size = self._settings.batch_max_records
            for start in range(0, len(ready), size):
                for piece in pieces_between(ready[start : start + size]):
                    scored = scorer.score(piece)
                    self.counts.update(scored.counts)
                    self._publish(producer, "scores", self._topics.replay_scores(self._range.name), scored.scores)
                    self._publish(producer, "alerts", self._topics.replay_alerts(self._range.name), scored.alerts)
            yield sum(len(records) for records in found.values())

    def _take(self, kind_no: int, records: Sequence[Any], order: LiveOrder) -> Iterator[Taken]:
        now_ms = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
        for record in records:
            if record.key is not None and not self._range.wants(record.key):
                continue
            outcome = self._intakes[kind_no].take(record, now_ms)
            if not isinstance(outcome, Taken) or order.was_refused(outcome):
                self.counts["refused"] += 1
            elif order.leaves_out(outcome):
                self.counts["of_forgotten_users"] += 1
            else:
                yield outcome

    def _publish(self, producer: Any, what: str, topic: str, by_partition: Mapping[int, KeyedValues]) -> None:
        for partition, records in by_partition.items():
            for key, value in records:
                if self._range.covers(self._decode_date(value).occurred_at):
                    producer.send(topic, value=value, key=key, partition=partition)
                    self.counts[f"published_{what}"] += 1
