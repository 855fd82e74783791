"""The timetable of the open loop: every event once, in order, when it is due, and never before."""

from __future__ import annotations

from aiokafka.record.memory_records import MemoryRecords

from bench.feed import PACE_S, timetable
from bench.workload import Workload
from events.types import KINDS
from stream.kafka.publisher import partition_of
from stream.topics import Topics

PARTITIONS = 3
START_S = 1_700_000_000.25
TOPICS = Topics()


def test_every_event_goes_once_in_order_right_after_it_is_due() -> None:
    rate_per_s = 3_300
    records = Workload.simulated(400, 40).records
    requests = timetable(TOPICS, records, PARTITIONS, lambda _, partition: partition % 2, START_S, rate_per_s)
    sent: dict[tuple[str, int], list[tuple[bytes, bytes]]] = {}
    moments = [moment_s for moment_s, _, _ in requests]
    assert moments == sorted(moments)
    assert len({(moment_s, node) for moment_s, node, _ in requests}) == len(requests)
    for moment_s, node, request in requests:
        for topic, partitions in request._topics:
            for partition, batch in partitions:
                assert partition % 2 == node
                for record in MemoryRecords(batch).next_batch():
                    assert 0 <= moment_s - record.timestamp / 1000 <= PACE_S + 0.0011
                    sent.setdefault((topic, partition), []).append((record.key, record.value))
    expected: dict[tuple[str, int], list[tuple[bytes, bytes]]] = {}
    for kind, key, value, _ in records:
        target = (TOPICS.inputs[KINDS.index(kind)], partition_of(key, PARTITIONS))
        expected.setdefault(target, []).append((key, value))
    assert sent == expected


def test_a_low_rate_sends_each_event_by_itself() -> None:
    records = Workload.simulated(50, 5).records
    requests = timetable(TOPICS, records, PARTITIONS, lambda *_: 0, START_S, 100.0)
    assert [round((moment_s - START_S - PACE_S) * 100) for moment_s, _, _ in requests] == list(range(50))
