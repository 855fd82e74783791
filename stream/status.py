"""How a deployment stands, from what any cluster tells: groups, lag, last commit, model, alerts, dead letters, servers.

For `foreshock status`. Needs rights to read and describe only (`stream.least_rights.status_rights`), no worker's help,
and changes nothing. A part that cannot be looked at is `Trouble`, and the others are shown all the same.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from faust.types import TP
from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError

from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseError
from stream.kafka.clients import NoBrokerReachable
from stream.kafka.connection import KafkaConnection
from stream.kafka.lineage import Committed, Standing, committed_by
from stream.kafka.provisioning import DAY_MS, ProvisioningError, answering_admin
from stream.kafka.recent_records import RecentRecords
from stream.kafka.rights import NotAllowed, denial
from stream.kafka.topic_sizes import committed_offsets, group_lags, partitions_of
from stream.logs import told
from stream.outputs import Alert, DeadLetter, ForeignRecord, OutputDecoder, Score
from stream.settings import Settings
from stream.topics import sink_group, webhook_group

NOT_THERE = "not there"
"""State of a group that nobody has joined yet, or that was deleted."""

ALERTS_SHOWN = 5
MOST_LETTERS = 20_000
"""So many of the last day's dead letters are looked at, the newest."""


@dataclass(frozen=True)
class Trouble:
    """Why a part cannot be looked at."""

    trouble: str


Found = TypeVar("Found")


@dataclass(frozen=True)
class Cluster:
    """Ids of the brokers that the cluster has, and of its controller."""

    brokers: tuple[int, ...]
    controller: int


@dataclass(frozen=True)
class Member:
    """A process in a group: its name and host, and the numbers of the partitions that it has."""

    name: str
    host: str
    partitions: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """A consumer group, its state in Kafka's words (`Stable`, `Empty`, `PreparingRebalance`, …) and its members.

    Of workers: the partitions that they have handed over, by the application that has them now, and those in which they
    follow another application.
    """

    name: str
    state: str
    members: tuple[Member, ...]
    handed_to: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    follows: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Lag:
    """Records of a topic that a group has still to read, the time of the first of them (ms since 1970-01-01, None where
    there is none or it may not be read), and records a second that come and that the group reads; None until there are
    two samples."""

    topic: str
    records: int
    oldest_ms: int | None = None
    arriving_per_s: float | None = None
    read_per_s: float | None = None


@dataclass(frozen=True)
class Scoring:
    """The newest committed scores: their time (ms since 1970-01-01), None for no score, and the models behind the last
    of each partition."""

    committed_ms: int | None
    models: tuple[str, ...]


@dataclass(frozen=True)
class LastAlerts:
    """The latest transitions of alerts, newest first, with the times of their records, and the policies behind the last
    of each partition."""

    alerts: tuple[tuple[int, Alert], ...]
    policies: tuple[str, ...]


@dataclass(frozen=True)
class Refusals:
    """Dead letters of the last day by reason; `whole` is whether all of them were counted."""

    by_reason: Mapping[str, int]
    whole: bool


@dataclass(frozen=True)
class Database:
    """The revision of the schema, None for none yet, and that which this release needs."""

    revision: str | None
    needed: str


@dataclass(frozen=True)
class Sample:
    """Where topics end and how far groups have read, at one moment of a clock that never goes back."""

    at_s: float
    ends: Mapping[TopicPartition, int]
    committed: Mapping[str, Mapping[TopicPartition, int]]


@dataclass(frozen=True)
class Status:
    """A deployment at one moment (ms since 1970-01-01)."""

    at_ms: int
    cluster: Cluster | Trouble
    workers: Group | Trouble
    sink: Group | Trouble
    webhooks: Group | Trouble | None
    """Those who deliver webhooks; None where nobody ever has."""
    lag: Sequence[Lag] | Trouble
    sink_lag: Sequence[Lag] | Trouble
    webhook_lag: Sequence[Lag] | Trouble | None
    scoring: Scoring | Trouble
    alerts: LastAlerts | Trouble
    refusals: Refusals | Trouble
    database: Database | Trouble | None
    """None where there is none to look at."""

    @property
    def troubled(self) -> bool:
        """Whether a part could not be looked at."""
        return any(isinstance(part, Trouble) for part in vars(self).values())


NO_ADDRESS = Trouble("no address was given and no embedded stack runs")


class Observer:
    """Looks at a deployment, once or again and again: rates are those since the look before."""

    def __init__(
        self,
        settings: Settings,
        kafka: KafkaConnection | None,
        database: DatabaseConnection | None,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._database = database
        self._now_ms = now_ms
        self._monotonic = monotonic
        application_id = settings.application_id
        self._workers, self._sink, self._webhooks = (
            application_id, sink_group(settings.readers), webhook_group(settings.readers)
        )  # fmt: skip
        self._reads: dict[str, tuple[str, ...]] = {
            self._workers: settings.topics.inputs,
            self._sink: settings.topics.read_by_sink(settings.event_history),
            self._webhooks: settings.topics.told_to_webhooks,
        }
        self._before: Sample | None = None

    def sample(self) -> None:
        """Look at offsets only, for the rates of the next look. Says nothing of what cannot be looked at."""
        found = self._part(self._sample)
        self._before = None if isinstance(found, Trouble) else found

    def look(self) -> Status:
        """How everything stands now."""
        groups = self._part(self._groups)
        before = self._before
        self.sample()
        lag, sink_lag, webhook_lag = (
            self._part(partial(self._lags, group, before, self._before)) for group in self._reads
        )
        webhooks = groups if isinstance(groups, Trouble) else groups[self._webhooks]
        nobody_delivers = isinstance(webhooks, Group) and not (webhooks.members or webhook_lag)
        return Status(
            at_ms=self._now_ms(),
            cluster=self._part(_cluster),
            workers=groups if isinstance(groups, Trouble) else groups[self._workers],
            sink=groups if isinstance(groups, Trouble) else groups[self._sink],
            webhooks=None if nobody_delivers else webhooks,
            lag=lag,
            sink_lag=sink_lag,
            webhook_lag=None if nobody_delivers else webhook_lag,
            scoring=self._part(self._scoring),
            alerts=self._part(self._alerts),
            refusals=self._part(self._refusals),
            database=self._look_at_database(),
        )

    def _part(self, look: Callable[[KafkaConnection], Found]) -> Found | Trouble:
        if self._kafka is None:
            return NO_ADDRESS
        try:
            return look(self._kafka)
        except (ProvisioningError, NotAllowed, NoBrokerReachable) as error:
            return Trouble(str(error))
        except (KafkaError, OSError) as error:
            return Trouble(str(denial(error, self._kafka) or told(error)))

    def _sample(self, kafka: KafkaConnection) -> Sample:
        with answering_admin(kafka) as admin:
            partitions = partitions_of(admin, {topic for topics in self._reads.values() for topic in topics})
            every = {tp: OffsetSpec.LATEST for tps in partitions.values() for tp in tps}
            ends = {tp: int(found.offset) for tp, found in admin.list_partition_offsets(every).items()} if every else {}
            committed: dict[str, Mapping[TopicPartition, int]] = {}
            for group in self._reads:
                with contextlib.suppress(KafkaError):  # said with its lag
                    committed[group] = committed_offsets(admin, group)
        return Sample(self._monotonic(), ends, committed)

    def _groups(self, kafka: KafkaConnection) -> dict[str, Group]:
        with answering_admin(kafka) as admin:
            found = admin.describe_groups(list(self._reads))
        groups = {name: group_of(name, found[name]) for name in self._reads}
        standing = standings(committed_by(kafka, self._workers))
        told = replace(groups[self._workers], handed_to=standing["handed_to"], follows=standing["follows"])
        return groups | {self._workers: told}

    def _lags(self, group: str, before: Sample | None, now: Sample | None, kafka: KafkaConnection) -> list[Lag]:
        found = []
        for lag in group_lags(kafka, {group: self._reads[group]}, optional={self._webhooks}):
            arriving, read = (None, None) if before is None or now is None else rates(before, now, group, lag.topic)
            found.append(Lag(lag.topic, lag.records, lag.oldest_ms, arriving, read))
        return found

    def _scoring(self, kafka: KafkaConnection) -> Scoring:
        decode, models, newest = OutputDecoder(Score), set[str](), list[int]()
        with RecentRecords(kafka) as records:
            for record in records.last(self._settings.topics.scores, 1):
                try:
                    models.add(decode(record.value).model)
                except ForeignRecord:
                    continue  # a tombstone, or a record of somebody else
                newest.append(record.timestamp)
        return Scoring(max(newest, default=None), tuple(sorted(models)))

    def _alerts(self, kafka: KafkaConnection) -> LastAlerts:
        decode, policies, found = OutputDecoder(Alert), dict[int, str](), list[tuple[int, int, Alert]]()
        with RecentRecords(kafka) as records:
            for record in records.last(self._settings.topics.alerts, ALERTS_SHOWN):
                try:
                    alert = decode(record.value)
                except ForeignRecord:
                    continue
                policies[record.partition] = alert.policy
                found.append((record.timestamp, record.offset, alert))
        # Those of one batch have one time.
        found.sort(key=lambda each: each[:2], reverse=True)
        newest = tuple((recorded_ms, alert) for recorded_ms, _, alert in found[:ALERTS_SHOWN])
        return LastAlerts(newest, tuple(sorted(set(policies.values()))))

    def _refusals(self, kafka: KafkaConnection) -> Refusals:
        counts: Counter[str] = Counter()
        with RecentRecords(kafka) as records:
            found, whole = records.since(self._settings.topics.dead_letters, self._now_ms() - DAY_MS, MOST_LETTERS)
        for record in found:
            try:
                counts[DeadLetter.from_record(record).reason] += 1
            except ForeignRecord:
                counts["(none of ours)"] += 1
        return Refusals(dict(counts.most_common()), whole)

    def _look_at_database(self) -> Database | Trouble | None:
        if self._database is None:
            return None
        try:
            return Database(migration.current(self._database), migration.head())
        except DatabaseError as error:
            return Trouble(str(error))


def rates(before: Sample, now: Sample, group: str, topic: str) -> tuple[float | None, float | None]:
    """Records a second that came into a topic, and that a group has read of it, between two samples. None where that
    cannot be told: no time has passed, or the group had committed nothing yet. Does no I/O."""
    seconds = now.at_s - before.at_s
    if seconds <= 0:
        return None, None
    came = sum(end - before.ends.get(tp, end) for tp, end in now.ends.items() if tp.topic == topic)
    earlier, later = before.committed.get(group, {}), now.committed.get(group, {})
    both = [tp for tp in later if tp.topic == topic and tp in earlier]
    read = sum(later[tp] - earlier[tp] for tp in both) / seconds if both else None
    return came / seconds, read


def group_of(name: str, described: Mapping[str, Any]) -> Group:
    """A group from kafka-python's description of it. Does no I/O."""
    members = []
    for member in described.get("members") or ():
        assignment = member.get("member_assignment") or {}
        assigned = assignment.get("assigned_partitions", ()) if isinstance(assignment, Mapping) else ()
        numbers = {number for topic in assigned for number in topic["partitions"]}
        members.append(
            Member(member["client_id"] or member["member_id"], member["client_host"], tuple(sorted(numbers)))
        )
    state = described.get("error") or described.get("group_state") or "not known"
    if "GroupIdNotFound" in state:  # from Kafka 4 on an error where it was the state Dead
        state = NOT_THERE
    return Group(name, state, tuple(sorted(members, key=lambda member: (member.partitions, member.name))))


def standings(committed: Mapping[TP, Committed]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Partitions that a group has handed over (`handed_to`) or in which it `follows`, by application. Does no I/O."""
    found: dict[str, dict[str, set[int]]] = {"handed_to": {}, "follows": {}}
    for tp, kept in committed.items():
        for how, other in asdict(Standing.of(kept.lineage)).items():
            if how in found and other is not None:
                found[how].setdefault(other, set()).add(tp.partition)
    return {how: {other: tuple(sorted(own)) for other, own in each.items()} for how, each in found.items()}


def _cluster(kafka: KafkaConnection) -> Cluster:
    with answering_admin(kafka) as admin:
        found = admin.describe_cluster()
    return Cluster(tuple(sorted(broker["broker_id"] for broker in found["brokers"])), int(found["controller_id"]))
