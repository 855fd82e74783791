"""Speed and cost of two workers beside one, and whether the sink keeps up with a worker at full speed.

The events are published while the workers are up and idle, so that starts and rebalances do not count. Where the broker
runs on the same cores, the rate of two workers depends on the machine. What can be compared between machines is the
processor time per event, which must not rise with the number of workers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.arena import Arena, BenchError, Sample
from bench.options import Bench
from bench.workload import Workload
from stream.database.migration import upgrade
from stream.database.tables import ScoreHistory
from stream.embedded.postgres import EmbeddedPostgres
from stream.embedded.server import ServerProcess

COUNTS = (1, 2)
SETTLE_S = 8.0
"""Time in which a group with a new member assigns its partitions again, so that its workers wait for events."""

LIMIT_S = 240.0
SAMPLE_S = 0.2


def measure(bench: Bench) -> dict[str, Any]:
    """Rates and processor time by number of workers, and how long after the last score the sink had stored it."""
    workload = bench.workload()
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    cpu_s: dict[int, list[float]] = {count: [] for count in COUNTS}
    for number in range(1, bench.rounds + 1):
        for count in COUNTS:
            bench.tell(f"round {number} of {bench.rounds}: {count} worker{'s' if count > 1 else ''}")
            with bench.arena(f"workers{number}-{count}") as arena:
                rate, per_million = _lap(arena, workload, count)
            rates[count].append(rate)
            cpu_s[count].append(per_million)
    medians = {count: statistics.median(found) for count, found in cpu_s.items()}
    bench.tell("the sink beside a worker")
    with bench.arena("sink") as arena:
        sink = _sink(arena, workload, bench.folder / "postgres")
    return {
        "events": len(workload),
        "rate_of_two_to_one": statistics.median(rates[2]) / statistics.median(rates[1]),
        "processor_time_of_two_to_one": medians[2] / medians[1],
        "events_per_second": {str(count): statistics.median(found) for count, found in rates.items()},
        "cpu_seconds_per_million_events": {str(count): median for count, median in medians.items()},
        "sink": sink,
    }


def _lap(arena: Arena, workload: Workload, count: int) -> tuple[float, float]:
    """Scores per second, and processor seconds of all workers together per million events."""
    with ExitStack() as stack:
        workers = [_started(arena.worker(f"worker{number}"), stack) for number in range(count)]
        time.sleep(SETTLE_S)
        before_s = _cpu_s(workers)
        published = arena.publish(workload)
        arena.wait_for(workers[0], arena.topics.scores, published, LIMIT_S)
        used_s = _cpu_s(workers) - before_s
        scored = arena.watch.size(arena.topics.scores)
        return scored / arena.watch.span_s(arena.topics.scores), used_s / scored * 1e6


def _sink(arena: Arena, workload: Workload, folder: Path) -> dict[str, Any]:
    """Scores per second of a worker beside a sink, and seconds from its last score until the sink had stored all."""
    with ExitStack() as stack:
        postgres = EmbeddedPostgres(folder)
        database = postgres.start()
        stack.callback(postgres.stop)
        upgrade(database)
        worker = _started(arena.worker(), stack)
        sink = _started(arena.sink(database), stack)
        time.sleep(SETTLE_S)
        published = arena.publish(workload)
        arena.wait_for(worker, arena.topics.scores, published, LIMIT_S)
        scored_s = time.monotonic()
        engine = database.open_engine()
        stack.callback(engine.dispose)
        while (stored := _stored(engine)) < published:
            if not sink.alive or time.monotonic() - scored_s > LIMIT_S:
                raise BenchError(f"the sink stored {stored:,} of {published:,} scores; {sink.log_tail(25)}")
            time.sleep(SAMPLE_S)
        return {
            "scores": published,
            "scores_per_second_beside_it": published / arena.watch.span_s(arena.topics.scores),
            "stored_after_the_last_score_s": time.monotonic() - scored_s,
        }


def _stored(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(ScoreHistory)) or 0)


def _started(process: ServerProcess, stack: ExitStack) -> ServerProcess:
    stack.callback(process.stop)
    process.start()
    return process


def _cpu_s(workers: Sequence[ServerProcess]) -> float:
    return sum(Sample.of(worker, 0).cpu_s for worker in workers)
