"""Reads single records and the newest ones of topics, without a consumer group and without reading a topic whole.

For who looks at a deployment. Sees committed records only; changes nothing and knows nothing of what records mean.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from kafka import TopicPartition

from stream.kafka.clients import open_consumer
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import BROKER_TIMEOUT_MS, reachable

READ_TIMEOUT_S = 10.0
_POLL_MS = 200
_FIRST_SPAN, _WIDER = 16, 8
"""Offsets before the end to look at first, beside twice the records wanted (the ends of transactions take offsets, and
so do records that compaction took), and how many times more each time that these were too few."""


class RecentRecords:
    """A consumer that is put to where it is to read, again and again."""

    def __init__(self, connection: KafkaConnection, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Raises `ProvisioningError` where no broker answers, `KafkaError`, `OSError`."""
        self._monotonic = monotonic
        self._consumer = open_consumer(
            reachable(connection),
            bootstrap_timeout_ms=BROKER_TIMEOUT_MS,
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def partitions(self, topic: str) -> list[TopicPartition]:
        """Of a topic, in order; none where there is no such topic, or this client may not see it."""
        return [TopicPartition(topic, number) for number in sorted(self._consumer.partitions_for_topic(topic) or ())]

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """By partition, the offset after the last committed record."""
        return dict(self._consumer.end_offsets(list(partitions))) if partitions else {}

    def at(self, topic: str, partition: int, offset: int) -> Any | None:
        """The record at this offset; None where there is none, or none any more. Raises `KafkaError`."""
        tp = TopicPartition(topic, partition)
        if tp not in self.partitions(topic):
            return None
        first, end = self._consumer.beginning_offsets([tp])[tp], self.ends([tp])[tp]
        if not first <= offset < end:
            return None
        return next((record for record in self._from({tp: offset}, {tp: offset + 1}) if record.offset == offset), None)

    def first(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Any]:
        """The first record at or after each offset, by partition; none where there is none. Raises `KafkaError`."""
        found: dict[TopicPartition, Any] = {}
        missing = dict(offsets)
        ends = self.ends(list(offsets))
        self._go_to(missing)
        deadline_s = self._monotonic() + READ_TIMEOUT_S
        while missing and self._monotonic() < deadline_s:
            polled = self._consumer.poll(timeout_ms=_POLL_MS, max_records=len(offsets))
            found |= {tp: records[0] for tp, records in polled.items() if records and tp in missing}
            left = {tp: at for tp, at in missing.items() if tp not in found and self._consumer.position(tp) < ends[tp]}
            if left.keys() != missing.keys():
                # Not paused: kafka-python gives what it has fetched of a paused partition out again, later.
                missing = left
                self._go_to(missing)
        return found

    def last(self, topic: str, count: int) -> list[Any]:
        """Up to `count` of the newest records of each partition, partition by partition. Raises `KafkaError`."""
        partitions = self.partitions(topic)
        if not partitions:
            return []
        firsts, ends = self._consumer.beginning_offsets(partitions), self.ends(partitions)
        found: dict[TopicPartition, list[Any]] = {}
        missing, span = [tp for tp in partitions if firsts[tp] < ends[tp]], 2 * count + _FIRST_SPAN
        while missing:
            starts = {tp: max(firsts[tp], ends[tp] - span) for tp in missing}
            read: dict[TopicPartition, list[Any]] = {tp: [] for tp in missing}
            for record in self._from(starts, ends):
                read[TopicPartition(record.topic, record.partition)].append(record)
            found |= {tp: records[-count:] for tp, records in read.items()}
            missing = [tp for tp in missing if len(read[tp]) < count and starts[tp] > firsts[tp]]
            span *= _WIDER
        return [record for tp in partitions for record in found.get(tp, [])]

    def since(self, topic: str, from_ms: int, most: int) -> tuple[list[Any], bool]:
        """Records from the first one of at least this time on, of each partition, at most about `most` in all, and
        whether these are all. Raises `KafkaError`."""
        partitions = self.partitions(topic)
        if not partitions:
            return [], True
        ends = self.ends(partitions)
        asked = self._consumer.offsets_for_times(dict.fromkeys(partitions, from_ms))
        starts = {tp: found.offset for tp, found in asked.items() if found is not None and found.offset < ends[tp]}
        quota = max(1, most // max(1, len(starts)))
        whole = all(ends[tp] - start <= quota for tp, start in starts.items())
        # Of what is too much, the newest.
        return list(self._from({tp: max(start, ends[tp] - quota) for tp, start in starts.items()}, ends)), whole

    def _go_to(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._consumer.assign(list(offsets))
        for tp, offset in offsets.items():
            self._consumer.seek(tp, offset)

    def _from(self, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> Iterable[Any]:
        """Records from `starts` to `ends`; ends early, with what there is, when nothing comes for too long."""
        self._go_to(starts)
        deadline_s = self._monotonic() + READ_TIMEOUT_S
        while self._monotonic() < deadline_s and any(self._consumer.position(tp) < ends[tp] for tp in starts):
            for tp, records in self._consumer.poll(timeout_ms=_POLL_MS).items():
                yield from (record for record in records if record.offset < ends[tp])
