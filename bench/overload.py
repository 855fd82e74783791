"""For a while, twice as many events as the worker can score: its speed, memory, lag, and the time to catch up.

Publisher and broker run on the same cores as the worker. So its speed is measured three times: alone, under overload,
and on a backlog while the same events are published at the same rate to topics that it does not read. The difference
between the last two is the effect of overload; the rest is the effect of sharing the machine.
"""

from __future__ import annotations

import statistics
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
    """One sample: seconds since the watch began, records in the input topics and in `scores`, memory."""

    at_s: float
    published: int
    scored: int
    rss_mib: float


@dataclass(frozen=True)
class Flood:
    """Number of events published, and start and end of publishing in seconds since the watch began."""

    events: int
    start_s: float
    end_s: float

    @property
    def events_per_second(self) -> float:
        return self.events / (self.end_s - self.start_s)

    def covers(self, moment: Moment) -> bool:
        return self.start_s <= moment.at_s <= self.end_s


class Sampler(threading.Thread):
    """Records a `Moment` every `SAMPLE_S`, and at the end. Has a `TopicWatch` of its own, as it runs in a thread."""

    def __init__(self, arena: Arena, worker: ServerProcess) -> None:
        super().__init__(name="sampler", daemon=True)
        self._arena = arena
        self._worker = worker
        self._finished = threading.Event()
        self.moments: list[Moment] = []
        self.failure: Exception | None = None
        self.started_s = time.monotonic()

    def run(self) -> None:
        watch = TopicWatch(self._arena.kafka)
        topics = self._arena.topics
        try:
            is_last = False
            while not is_last:
                is_last = self._finished.is_set()
                published, scored = watch.size(*topics.inputs), watch.size(topics.scores)
                rss_mib = Sample.of(self._worker, scored).rss_mib
                self.moments.append(Moment(time.monotonic() - self.started_s, published, scored, rss_mib))
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
    """Speed alone, beside a publisher, and under overload; greatest lag, memory, seconds until caught up.

    Medians of the rounds; `samples` are of the last. The rate offered follows from the first round's speed alone.
    """
    workload = bench.workload()
    offered, flood = 0.0, workload
    rounds: list[dict[str, Any]] = []
    for number in range(1, bench.rounds + 1):
        with bench.arena(f"alone{number}") as arena:
            published = arena.publish(workload)
            bench.tell(f"round {number} of {bench.rounds}: what the worker sustains")
            alone = arena.race(arena.worker(), arena.topics.scores, published, LIMIT_S).events_per_second
        if not offered:
            offered = alone * FACTOR
            flood = bench.workload(max(2, round(offered * bench.seconds)))
        with bench.arena(f"beside{number}") as arena, bench.arena(f"elsewhere{number}") as elsewhere:
            arena.publish(flood)
            bench.tell(f"round {number} of {bench.rounds}: publishing {offered:,.0f} events per second elsewhere")
            moments, taken, _ = _flood(arena, elsewhere, flood, offered)
            beside = rate([moment for moment in moments if taken.covers(moment)])
        with bench.arena(f"overload{number}") as arena:
            arena.publish(Workload(flood.users, flood.records[:1]))
            bench.tell(f"round {number} of {bench.rounds}: offering {offered:,.0f} events per second")
            moments, taken, scored = _flood(arena, arena, Workload(flood.users, flood.records[1:]), offered)
        rounds.append({**figures_of(moments, taken, alone, beside), "scored": scored})
    return {"wanted_events_per_second": offered, **medians_of(rounds), "rounds": rounds}


def medians_of(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Each figure's median over the rounds that have it; a value that is no number is the last round's."""
    found = dict(rounds[-1])
    for name in found:
        values = [each[name] for each in rounds if isinstance(each[name], (int, float))]
        if values:
            found[name] = statistics.median(values)
    return found


def _flood(arena: Arena, into: Arena, flood: Workload, rate_per_s: float) -> tuple[list[Moment], Flood, int]:
    """Publish `flood` to the topics of `into` while the worker of `arena` works on events that it already has.

    Returns the moments, the start and end of publishing, and the number of scores. Where the worker reads `into`, the
    moments go on until it has caught up, and all events are scored; elsewhere they end with publishing, and the scores
    are not counted.
    """
    scores, scored = arena.topics.scores, 0
    worker = arena.worker()
    worker.start()
    try:
        arena.wait_for(worker, scores, 1, LIMIT_S)
        sampler = Sampler(arena, worker)
        sampler.start()
        try:
            began_s, ended_s = run_loop(feed_bulk(arena.kafka, into.topics, flood.records, rate_per_s))
            if into is arena:
                arena.wait_for(worker, scores, len(flood) + 1, LIMIT_S)
        finally:
            moments = sampler.finish()
        if into is arena:
            # Not part of the time: what was waited for are offsets, some of them ends of transactions.
            scored = arena.wait_until_scored(worker, LIMIT_S)
    finally:
        worker.stop()
    return moments, Flood(len(flood), began_s - sampler.started_s, ended_s - sampler.started_s), scored


def figures_of(moments: list[Moment], flood: Flood, alone: float, beside: float) -> dict[str, Any]:
    """Figures of the time in which too much was offered, and of the time after it.

    `alone` and `beside` are the events per second that the worker scores without a publisher, and beside one.
    """
    during = [moment for moment in moments if flood.covers(moment)] or moments[:1]
    after = [moment for moment in moments if moment.at_s > flood.end_s]
    under = rate(during)
    return {
        "events": flood.events,
        "alone_events_per_second": alone,
        "beside_publisher_events_per_second": beside,
        "offered_events_per_second": flood.events_per_second,
        "overloaded_events_per_second": under,
        "throughput_kept": under / alone,
        "throughput_kept_beside_publisher": under / beside if beside else None,
        "catching_up_events_per_second": rate(after),
        "greatest_lag_events": max(moment.published - moment.scored for moment in moments),
        "caught_up_after_s": max(moments[-1].at_s - flood.end_s, 0.0),
        "rss_mib_before": moments[0].rss_mib,
        "rss_mib_greatest": max(moment.rss_mib for moment in moments),
        "samples": [[round(m.at_s - flood.start_s, 2), m.published, m.scored, round(m.rss_mib, 1)] for m in moments],
    }


def rate(moments: list[Moment]) -> float:
    """Events scored per second from the first moment to the last; 0 where there is no time between them."""
    if len(moments) < 2:
        return 0.0
    return (moments[-1].scored - moments[0].scored) / (moments[-1].at_s - moments[0].at_s)
