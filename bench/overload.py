"""Twice as many events as the worker can take, for a while: what it keeps of its speed, memory, lag, and the way back.

The publisher runs on the same cores, so what the worker keeps is its speed beside a publisher that never waits.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from bench.arena import Arena, BenchError, Sample, TopicWatch
from bench.feed import feed_bulk, run_loop
from bench.options import Bench
from bench.workload import Workload
from stream.embedded.server import ServerProcess

FACTOR = 2.0
SAMPLE_S = 0.25
LIMIT_S = 240.0


@dataclass(frozen=True)
class Moment:
    """One sample: seconds since the start of publishing, records in the input topics and in `scores`, memory."""

    at_s: float
    published: int
    scored: int
    rss_mib: float


class Sampler(threading.Thread):
    """Notes a `Moment` every `SAMPLE_S` until told to stop. The watch that it uses is its own."""

    def __init__(self, arena: Arena, worker: ServerProcess) -> None:
        super().__init__(name="sampler", daemon=True)
        self._arena = arena
        self._worker = worker
        self._finished = threading.Event()
        self.moments: list[Moment] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        watch = TopicWatch(self._arena.servers)
        topics = self._arena.topics
        started_s = time.monotonic()
        try:
            while not self._finished.is_set():
                published, scored = watch.size(*topics.inputs), watch.size(topics.scores)
                rss_mib = Sample.of(self._worker, scored).rss_mib
                self.moments.append(Moment(time.monotonic() - started_s, published, scored, rss_mib))
                self._finished.wait(SAMPLE_S)
        except Exception as error:
            self.failure = error
        finally:
            watch.close()

    def finish(self) -> list[Moment]:
        self._finished.set()
        self.join()
        if self.failure is not None:
            raise BenchError(f"the worker could not be watched: {self.failure}") from self.failure
        return self.moments


def measure(bench: Bench) -> dict[str, Any]:
    """Speed alone and under overload, greatest lag, memory, seconds until caught up."""
    workload = bench.workload()
    with bench.arena("alone") as arena:
        published = arena.publish(workload)
        bench.tell("measuring what the worker sustains")
        alone = arena.race(arena.worker(), arena.topics.scores, published, LIMIT_S).events_per_second
    offered = alone * FACTOR
    flood = bench.workload(max(2, round(offered * bench.seconds)))
    with bench.arena("overload") as arena:
        bench.tell(f"offering {offered:,.0f} events per second for {bench.seconds:.0f} s")
        moments, fed_s = _flood(arena, flood, offered)
    return _figures(alone, offered, len(flood), fed_s, moments)


def _flood(arena: Arena, flood: Workload, rate_per_s: float) -> tuple[list[Moment], float]:
    scores = arena.topics.scores
    worker = arena.worker()
    worker.start()
    try:
        arena.publish(Workload(flood.users, flood.records[:1]))
        arena.wait_for(worker, scores, 1, LIMIT_S)
        sampler = Sampler(arena, worker)
        sampler.start()
        try:
            fed_s = run_loop(feed_bulk(arena.servers, arena.topics, flood.records[1:], rate_per_s))
            arena.wait_for(worker, scores, len(flood), LIMIT_S)
        finally:
            moments = sampler.finish()
    finally:
        worker.stop()
    return moments, fed_s


def _figures(alone: float, offered: float, events: int, fed_s: float, moments: list[Moment]) -> dict[str, Any]:
    during = [moment for moment in moments if moment.at_s <= fed_s] or moments[:1]
    after = [moment for moment in moments if moment.at_s > fed_s]
    under = rate(during)
    return {
        "events": events,
        "alone_events_per_second": alone,
        "wanted_events_per_second": offered,
        "offered_events_per_second": events / fed_s,
        "overloaded_events_per_second": under,
        "throughput_kept": under / alone,
        "catching_up_events_per_second": rate(after),
        "greatest_lag_events": max(moment.published - moment.scored for moment in moments),
        "caught_up_after_s": max(moments[-1].at_s - fed_s, 0.0),
        "rss_mib_before": moments[0].rss_mib,
        "rss_mib_greatest": max(moment.rss_mib for moment in moments),
        "samples": [[round(m.at_s, 2), m.published, m.scored, round(m.rss_mib, 1)] for m in moments],
    }


def rate(moments: list[Moment]) -> float:
    """Events scored per second from the first moment to the last; 0 where there is no time between them."""
    if len(moments) < 2:
        return 0.0
    return (moments[-1].scored - moments[0].scored) / (moments[-1].at_s - moments[0].at_s)
