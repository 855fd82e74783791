"""How much topics hold, since when, how fast they grow, and how far the groups that read them are behind.

Asks the brokers and reads at most one record of each partition. What this client may not see is None; changes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorError,
    TopicAuthorizationFailedError,
)

from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import DAY_MS, answering_admin
from stream.kafka.recent_records import RecentRecords

GROWTH_DAYS = 7
"""Growth is measured over so many days before now, or since the oldest record where that is younger."""

LEAST_GROWTH_DAYS = 1 / 24
"""Over a shorter time no growth is told."""


@dataclass(frozen=True)
class TopicSize:
    """What a topic holds. Offsets stand for records: the ends of transactions and what compaction took count too.

    `removed` are offsets before the first record, `size_bytes` those of one copy, `replicated_bytes` of all. Times are
    the records' own. `per_day` is offsets a day, None where too little is known.
    """

    name: str
    records: int
    removed: int
    size_bytes: int | None
    replicated_bytes: int | None
    oldest_ms: int | None
    newest_ms: int | None
    per_day: float | None

    @property
    def bytes_per_day(self) -> float | None:
        """Of one copy."""
        return self._a_day(self.size_bytes)

    @property
    def replicated_bytes_per_day(self) -> float | None:
        """Of all copies."""
        return self._a_day(self.replicated_bytes)

    def _a_day(self, held: int | None) -> float | None:
        if self.per_day is None or held is None or not self.records:
            return None
        return self.per_day * held / self.records


@dataclass(frozen=True)
class Holdings:
    """What topics hold, by name, and the bytes free on the disks of all brokers, None where they do not say."""

    topics: Mapping[str, TopicSize]
    free_bytes: int | None


@dataclass(frozen=True)
class GroupLag:
    """How many records of a topic a group has still to read, and the time of the first of them; None for none, or where
    this client may not read the topic: then ends of transactions are among the records."""

    group: str
    topic: str
    records: int
    oldest_ms: int | None


def holdings(connection: KafkaConnection, topics: Collection[str], now_ms: int) -> Holdings:
    """Of those topics that are there. Raises `ProvisioningError`, `NotAllowed`."""
    with answering_admin(connection) as admin:
        partitions = partitions_of(admin, topics)
        every = [tp for tps in partitions.values() for tp in tps]
        firsts = _offsets(admin, every, OffsetSpec.EARLIEST)
        ends = _offsets(admin, every, OffsetSpec.LATEST)
        oldest = admin.list_partition_offsets(dict.fromkeys(every, 0)) if every else {}
        newest = admin.list_partition_offsets(dict.fromkeys(every, OffsetSpec.MAX_TIMESTAMP)) if every else {}
        since_ms = now_ms - GROWTH_DAYS * DAY_MS
        then = admin.list_partition_offsets(dict.fromkeys(every, since_ms)) if every else {}
        sizes, free_bytes = _bytes(admin, topics)
    found = {}
    for name, tps in partitions.items():
        times = [oldest[tp].timestamp for tp in tps if oldest[tp].timestamp >= 0]
        oldest_ms = min(times, default=None)
        # No record of that time or later: all of them are older.
        begins = {tp: then[tp].offset if then[tp].offset >= 0 else ends[tp] for tp in tps}
        one_copy, all_copies = sizes.get(name, (None, None))
        found[name] = TopicSize(
            name=name,
            records=sum(ends[tp] - firsts[tp] for tp in tps),
            removed=sum(firsts[tp] for tp in tps),
            size_bytes=one_copy,
            replicated_bytes=all_copies,
            oldest_ms=oldest_ms,
            newest_ms=max((newest[tp].timestamp for tp in tps if newest[tp].timestamp >= 0), default=None),
            per_day=growth_per_day(sum(ends[tp] - begins[tp] for tp in tps), oldest_ms, now_ms),
        )
    return Holdings(found, free_bytes)


def growth_per_day(new: int, oldest_ms: int | None, now_ms: int) -> float | None:
    """Offsets a day: `new` in the last `GROWTH_DAYS`, or since the oldest record. None where that is too short."""
    if oldest_ms is None:
        return None
    days = min((now_ms - oldest_ms) / DAY_MS, GROWTH_DAYS)
    return new / days if days >= LEAST_GROWTH_DAYS else None


def records_before(connection: KafkaConnection, times_ms: Mapping[str, int]) -> dict[str, int]:
    """By topic, how many offsets stand before the first record of this time. Raises `ProvisioningError`."""
    with answering_admin(connection) as admin:
        partitions = partitions_of(admin, times_ms)
        every = {tp: times_ms[name] for name, tps in partitions.items() for tp in tps}
        if not every:
            return {}
        firsts, ends = (
            _offsets(admin, list(every), OffsetSpec.EARLIEST),
            _offsets(admin, list(every), OffsetSpec.LATEST),
        )
        at = admin.list_partition_offsets(every)
    return {
        name: sum((at[tp].offset if at[tp].offset >= 0 else ends[tp]) - firsts[tp] for tp in tps)
        for name, tps in partitions.items()
    }


def group_lags(
    connection: KafkaConnection, groups: Mapping[str, Sequence[str]], optional: Collection[str] = ()
) -> list[GroupLag]:
    """How far groups are behind in the topics that each reads; one for each topic that is there.

    A group that has committed nothing of a topic has all of it to read; one of `optional` that has committed nothing at
    all is not there, and left out. Raises `ProvisioningError`, `NotAllowed`.
    """
    with answering_admin(connection) as admin:
        partitions = partitions_of(admin, {topic for topics in groups.values() for topic in topics})
        every = [tp for tps in partitions.values() for tp in tps]
        firsts, ends = _offsets(admin, every, OffsetSpec.EARLIEST), _offsets(admin, every, OffsetSpec.LATEST)
        committed = {group: committed_offsets(admin, group) for group in groups}
    lags = []
    with RecentRecords(connection) as records:
        for group, topics in groups.items():
            if group in optional and not committed[group]:
                continue
            for topic in topics:
                if topic not in partitions:
                    continue
                unread = {
                    tp: max(committed[group].get(tp, 0), firsts[tp])
                    for tp in partitions[topic]
                    if max(committed[group].get(tp, 0), firsts[tp]) < ends[tp]
                }
                lags.append(_lag(records, group, topic, unread, ends))
    return lags


def _lag(
    records: RecentRecords,
    group: str,
    topic: str,
    unread: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> GroupLag:
    """Of a group's next offsets in those partitions of a topic that go on behind them."""
    try:
        found = records.first(unread) if unread else {}
    except TopicAuthorizationFailedError:
        return GroupLag(group, topic, sum(ends[tp] - offset for tp, offset in unread.items()), None)
    # Where there is no record behind an offset, only the end of a transaction is.
    behind = sum(ends[tp] - record.offset for tp, record in found.items())
    return GroupLag(group, topic, behind, min((record.timestamp for record in found.values()), default=None))


def partitions_of(admin: Any, topics: Collection[str]) -> dict[str, list[TopicPartition]]:
    """The partitions of those topics that are there, by topic. Raises `KafkaError`."""
    return {
        found["name"]: [TopicPartition(found["name"], number) for number in range(len(found["partitions"]))]
        for found in admin.describe_topics()
        if found["name"] in topics
    }


def committed_offsets(admin: Any, group: str) -> dict[TopicPartition, int]:
    """A group's next offsets to read; none for a group that has committed nothing. Raises `KafkaError`."""
    try:
        offsets = admin.list_group_offsets({group: None}).get(group, {})
    except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
        return {}  # a new broker has no groups yet
    return {tp: int(found.offset) for tp, found in offsets.items() if found.offset >= 0}


def offsets_retention_ms(connection: KafkaConnection) -> int | None:
    """How long the brokers keep the offsets of a group that has no members; None where this client may not see it.

    Raises `ProvisioningError`.
    """
    with answering_admin(connection) as admin:
        try:
            (broker, *_) = admin.describe_cluster()["brokers"]
            resource = ConfigResource(
                ConfigResourceType.BROKER, str(broker["broker_id"]), configs={"offsets.retention.minutes": None}
            )
            (answer,) = admin.describe_configs([resource], config_filter="all")["broker"].values()
        except KafkaError:
            return None
    found = answer.get("offsets.retention.minutes", {}).get("value")
    return None if found is None else int(found) * 60_000


def _offsets(admin: Any, partitions: Sequence[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
    if not partitions:
        return {}
    return {
        tp: int(found.offset) for tp, found in admin.list_partition_offsets(dict.fromkeys(partitions, spec)).items()
    }


def _bytes(admin: Any, topics: Collection[str]) -> tuple[dict[str, tuple[int, int]], int | None]:
    """By topic, the bytes of one copy (the largest of each partition) and of all, and what is free on the disks;
    nothing where this client may not see them."""
    copies: dict[TopicPartition, list[int]] = {}
    free: list[int] = []
    with contextlib.suppress(KafkaError):
        for broker in admin.describe_log_dirs(list(topics)):
            for folder in broker["log_dirs"]:
                free.append(int(folder.get("usable_bytes", -1)))  # brokers before 3.3 do not say
                for topic in folder["topics"]:
                    for partition in topic["partitions"]:
                        tp = TopicPartition(topic["name"], partition["partition_index"])
                        copies.setdefault(tp, []).append(int(partition["partition_size"]))
    found: dict[str, tuple[int, int]] = {}
    for tp, sizes in copies.items():
        one, every = found.get(tp.topic, (0, 0))
        found[tp.topic] = one + max(sizes), every + sum(sizes)
    return found, sum(free) if free and min(free) >= 0 else None
