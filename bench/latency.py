"""Delay from an event to its score at fixed rates: broker, publisher and worker on this machine.

A delay runs from the time at which an event was due to be sent to the time at which the broker stored its score, in
whole milliseconds. Both times are of this machine's clock.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from bench.arena import Arena
from bench.feed import feed_each, run_loop
from bench.options import Bench
from bench.workload import Workload
from stream.kafka.topic_reader import TopicReader

RATES_PER_S = (1_000, 5_000)
PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9}
WARM_UP_SHARE = 0.2
"""Share of a run's first events that is not counted: the worker fills caches and opens connections then."""

BROKER_WARM_UP_SHARE = 0.3
"""Length of a run before the first that is not counted, as a share: a broker that has just started is slow."""

DRAIN_LIMIT_S = 120.0


class _Source(msgspec.Struct, gc=False):
    source_topic: str
    source_partition: int
    source_offset: int


def measure(bench: Bench) -> dict[str, Any]:
    """Percentiles of the delay by rate; of each percentile the median over the rounds."""
    found: dict[str, list[dict[str, float]]] = {str(rate): [] for rate in RATES_PER_S}
    workload = bench.workload(round(max(RATES_PER_S) * bench.seconds) + 1)
    with bench.arena("latency-warm-up") as arena:
        bench.tell("warming the broker up")
        least = round(RATES_PER_S[0] * bench.seconds * BROKER_WARM_UP_SHARE) + 1
        _delays(arena, Workload(workload.users, workload.records[:least]), RATES_PER_S[0])
    for number in range(1, bench.rounds + 1):
        for rate in RATES_PER_S:
            records = workload.records[: round(rate * bench.seconds) + 1]
            with bench.arena(f"latency{number}-{rate}") as arena:
                bench.tell(f"round {number} of {bench.rounds}: {rate:,} events per second")
                delays_ms = _delays(arena, Workload(workload.users, records), rate)
            counted = delays_ms[int(len(delays_ms) * WARM_UP_SHARE) :]
            found[str(rate)].append({name: float(np.percentile(counted, at)) for name, at in PERCENTILES.items()})
    return {
        "seconds_at_each_rate": bench.seconds,
        "latency_ms": {
            rate: {name: float(np.median([each[name] for each in rounds])) for name in PERCENTILES}
            for rate, rounds in found.items()
        },
        "rounds_ms": found,
    }


def _delays(arena: Arena, workload: Workload, rate_per_s: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Delay of each event in milliseconds, int64 `[n]`, in the order in which the events were due."""
    worker = arena.worker()
    worker.start()
    try:
        # The first event shows that the worker is up; the clock runs for the others.
        arena.publish(Workload(workload.users, workload.records[:1]))
        arena.wait_for(worker, arena.topics.scores, 1, DRAIN_LIMIT_S)
        run_loop(feed_each(arena.kafka, arena.topics, workload.records[1:], rate_per_s))
        arena.wait_for(worker, arena.topics.scores, len(workload), DRAIN_LIMIT_S)
    finally:
        worker.stop()
    due_ms: dict[tuple[str, int, int], int] = {}
    pairs: list[tuple[int, int]] = []
    decode = msgspec.json.Decoder(_Source).decode
    with TopicReader(arena.kafka) as reader:
        for partition in range(arena.settings.partitions):
            for topic in arena.topics.inputs:
                for record in reader.each(topic, partition):
                    due_ms[topic, partition, record.offset] = record.timestamp
            for record in reader.each(arena.topics.scores, partition):
                source = decode(record.value)
                due = due_ms[source.source_topic, source.source_partition, source.source_offset]
                pairs.append((due, record.timestamp - due))
    pairs.sort()
    return np.array([delay for _, delay in pairs[1:]], dtype=np.int64)
