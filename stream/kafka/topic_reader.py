"""Reads topics up to their last committed record, without a consumer group. Knows nothing of what records mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError

from stream.kafka.clients import open_consumer
from stream.kafka.connection import KafkaConnection
from stream.kafka.rights import Right, require_rights

POLL_MS = 1_000
POLL_RECORDS = 10_000
LAST_RECORDS = 100
"""So many offsets before the end the last record is first looked for."""

STALLED_POLLS = 30
"""After so many empty polls in a row, before the end of a topic, the broker counts as unreachable."""


class TopicUnreadable(RuntimeError):
    """A topic does not exist or its broker does not answer; the message says which, and what to do."""


class TopicReader:
    """Reads topics from their first to their last committed record, as it was when the reading of a partition began.

    Records that retention deletes before they are read are passed over; with `skips_deleted` false, they are an error.
    """

    def __init__(self, connection: KafkaConnection, group_id: str | None = None, *, skips_deleted: bool = True) -> None:
        self._connection = connection
        self._consumer = open_consumer(
            connection,
            group_id=group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest" if skips_deleted else "none",
            isolation_level="read_committed",
            max_poll_records=POLL_RECORDS,
            fetch_max_bytes=64 * 1024 * 1024,
            max_partition_fetch_bytes=8 * 1024 * 1024,
        )

    def __enter__(self) -> TopicReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def partitions(self, topic: str) -> int:
        """Number of partitions; raises `TopicUnreadable` when there is no such topic, `NotAllowed` when it may not be
        read."""
        found = self._consumer.partitions_for_topic(topic)
        if not found:
            require_rights(self._connection, [Right("topic", topic, "Read")])
            raise TopicUnreadable(
                f"topic {topic!r} does not exist on {self._connection}; `foreshock topics check` tells more"
            )
        return len(found)

    def exists(self, topic: str) -> bool:
        """Whether there is such a topic, which this client may see."""
        return bool(self._consumer.partitions_for_topic(topic))

    def span(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is there, and the one after the last committed record."""
        tp = TopicPartition(topic, partition)
        return int(self._consumer.beginning_offsets([tp])[tp]), int(self._consumer.end_offsets([tp])[tp])

    def last(self, topic: str, partition: int, before: int | None = None) -> Any:
        """The last committed record of a partition, `before` an offset where one is given, None where it has none.
        Raises as `records`."""
        begin, end = self.span(topic, partition)
        end = max(end if before is None else min(end, before), begin)
        reach = LAST_RECORDS
        while True:
            since = max(begin, end - reach)
            found = None
            for record in self.each(topic, partition, since) if end > begin else ():
                if record.offset >= end:
                    break
                found = record
            if found is not None or since == begin:
                return found
            reach *= 100  # behind ends of transactions and what was aborted

    def records(
        self, topics: Sequence[str], partition: int, since: Mapping[str, int] | None = None
    ) -> Iterator[tuple[Mapping[str, list[Any]], set[str]]]:
        """Yields records of one partition number by topic as they arrive, with the topics that are not at their end.

        From the offsets in `since` on; of topics that it does not name, from their beginning.

        Raises `TopicUnreadable` when the broker stops answering.
        """
        tps = {topic: TopicPartition(topic, partition) for topic in topics}
        self._consumer.assign(list(tps.values()))
        self._consumer.seek_to_beginning(*tps.values())
        for topic, offset in (since or {}).items():
            self._consumer.seek(tps[topic], offset)
        ends = self._consumer.end_offsets(list(tps.values()))
        silent = 0
        while True:
            unfinished = {topic for topic, tp in tps.items() if self._consumer.position(tp) < ends[tp]}
            if not unfinished:
                return
            try:
                batches = self._consumer.poll(timeout_ms=POLL_MS)
            except OffsetOutOfRangeError as error:
                raise TopicUnreadable(
                    f"{sorted(topics)}, partition {partition}: records were deleted before they could be read "
                    f"({error}); run the command again, it says which"
                ) from error
            silent = 0 if batches else silent + 1
            if silent >= STALLED_POLLS:
                raise TopicUnreadable(
                    f"no record of {sorted(unfinished)} for {silent} s, though more exist; is the broker up?"
                )
            found = {
                tp.topic: [record for record in records if record.offset < ends[tp]] for tp, records in batches.items()
            }
            behind = {topic for topic, tp in tps.items() if self._consumer.position(tp) < ends[tp]}
            yield found, behind

    def each(self, topic: str, partition: int, since: int | None = None) -> Iterator[Any]:
        """Records of one partition, in order, from offset `since` on. Raises as `records`."""
        for found, _ in self.records([topic], partition, None if since is None else {topic: since}):
            yield from found.get(topic, [])

    def values(self, topic: str, partition: int) -> Iterator[bytes | None]:
        """Values of one partition, in order; None is a tombstone. Raises as `records`."""
        return (record.value for record in self.each(topic, partition))

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        """The first offset whose record has this timestamp or a later one; None where there is none."""
        tp = TopicPartition(topic, partition)
        found = self._consumer.offsets_for_times({tp: timestamp_ms})[tp]
        return None if found is None else int(found.offset)

    def size(self, topics: Sequence[str]) -> int:
        """Offsets that the topics hold: records, and beside them ends of transactions and what was aborted."""
        tps = [TopicPartition(topic, p) for topic in topics for p in range(self.partitions(topic))]
        ends, begins = self._consumer.end_offsets(tps), self._consumer.beginning_offsets(tps)
        return int(sum(ends[tp] - begins[tp] for tp in tps))
