"""Delay from an event to its score at fixed rates: broker, publisher and worker on this machine.

A delay runs from the time at which an event was due to be sent to the time at which the broker stored its score, in
whole milliseconds: what a reader of uncommitted records waits. The delay of a reader of committed records runs to the
time at which such a reader has the score, in runs of its own, since it takes its share of the processors. All times are
of this machine's clock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from kafka import TopicPartition

from bench.arena import Arena, BenchError
from bench.feed import feed_each, run_loop
from bench.options import Bench
from bench.score_reader import ScoreReader
from bench.workload import Workload
from stream.kafka.topic_reader import TopicReader

RATES_PER_S = (1_000, 5_000)
PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9}
WARM_UP_SHARE = 0.2
"""Share of a run's first events that is not counted: the worker fills caches and opens connections then."""

BROKER_WARM_UP_SHARE = 0.3
"""Length of a run before the first that is not counted, as a share: a broker that has just started is slow."""

DRAIN_LIMIT_S = 120.0

FETCH_MAX_WAIT_MS = 10
"""How long the broker holds a fetch of the reader open while nothing is committed."""


class _Source(msgspec.Struct, gc=False):
    source_topic: str
    source_partition: int
    source_offset: int


def measure(bench: Bench) -> dict[str, Any]:
    """Percentiles of the delay by rate; of each percentile the median over the rounds."""
    found: dict[str, list[dict[str, float]]] = {str(rate): [] for rate in RATES_PER_S}
    committed: dict[str, list[dict[str, float]]] = {str(rate): [] for rate in RATES_PER_S}
    workload = bench.workload(round(max(RATES_PER_S) * bench.seconds) + 1)
    with bench.arena("latency-warm-up") as arena:
        bench.tell("warming the broker up")
        least = round(RATES_PER_S[0] * bench.seconds * BROKER_WARM_UP_SHARE) + 1
        _delays(arena, Workload(workload.users, workload.records[:least]), RATES_PER_S[0])
    for number in range(1, bench.rounds + 1):
        for rate in RATES_PER_S:
            records = workload.records[: round(rate * bench.seconds) + 1]
            for name, rounds, delays_of in (("", found, _delays), ("-committed", committed, _committed_delays)):
                with bench.arena(f"latency{number}-{rate}{name}") as arena:
                    bench.tell(f"round {number} of {bench.rounds}: {rate:,} events per second{name}")
                    delays_ms = delays_of(arena, Workload(workload.users, records), rate)
                counted = delays_ms[int(len(delays_ms) * WARM_UP_SHARE) :]
                rounds[str(rate)].append({name: float(np.percentile(counted, at)) for name, at in PERCENTILES.items()})
    return {
        "seconds_at_each_rate": bench.seconds,
        "commit_interval_s": bench.settings.commit_interval_s,
        "latency_ms": _medians(found),
        "committed_latency_ms": _medians(committed),
        "rounds_ms": found,
        "committed_rounds_ms": committed,
    }


def _medians(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        rate: {name: float(np.median([each[name] for each in rounds])) for name in PERCENTILES}
        for rate, rounds in found.items()
    }


def _committed_delays(arena: Arena, workload: Workload, rate_per_s: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """As `_delays`, for a reader of committed records."""
    with _Reader(arena) as reader:
        return _delays(arena, workload, rate_per_s, reader)


class _Reader(ScoreReader):
    """Notes when it gets each score."""

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena, begins="earliest", fetch_max_wait_ms=FETCH_MAX_WAIT_MS)
        self.got_ms: dict[tuple[int, int], int] = {}
        """Wall time in milliseconds by partition and offset."""

    def note(self, tp: TopicPartition, records: Sequence[Any]) -> None:
        """See `ScoreReader.note`."""
        now_ms = time.time_ns() // 1_000_000
        self.got_ms.update(((tp.partition, record.offset), now_ms) for record in records)


def _delays(
    arena: Arena, workload: Workload, rate_per_s: int, reader: _Reader | None = None
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Delay of each event in milliseconds, int64 `[n]`, in the order in which the events were due: until the broker had
    its score, or until `reader` had it."""
    worker = arena.worker()
    worker.start()
    try:
        # The first event shows that the worker is up; the clock runs for the others.
        arena.publish(Workload(workload.users, workload.records[:1]))
        arena.wait_for(worker, arena.topics.scores, 1, DRAIN_LIMIT_S)
        run_loop(feed_each(arena.kafka, arena.topics, workload.records[1:], rate_per_s))
        arena.wait_for(worker, arena.topics.scores, len(workload), DRAIN_LIMIT_S)
        # Some of the offsets counted are ends of transactions: the last scores may be yet to come, and their commit.
        time.sleep(2 * arena.settings.commit_interval_s)
    finally:
        worker.stop()
    due_ms: dict[tuple[str, int, int], int] = {}
    pairs: list[tuple[int, int]] = []
    got_ms = {} if reader is None else reader.got_ms
    decode = msgspec.json.Decoder(_Source).decode
    with TopicReader(arena.kafka) as topics:
        for partition in range(arena.settings.partitions):
            for topic in arena.topics.inputs:
                for record in topics.each(topic, partition):
                    due_ms[topic, partition, record.offset] = record.timestamp
            for record in topics.each(arena.topics.scores, partition):
                source = decode(record.value)
                due = due_ms[source.source_topic, source.source_partition, source.source_offset]
                had_ms = record.timestamp if reader is None else got_ms.get((partition, record.offset))
                if had_ms is None:
                    raise BenchError(f"the score at {partition}:{record.offset} was not committed in time")
                pairs.append((due, had_ms - due))
    pairs.sort()
    return np.array([delay for _, delay in pairs[1:]], dtype=np.int64)
