"""The pause of a hand-over while events come at a fixed rate, and what a shadow costs beside the live workers.

A pause is measured as whoever reads committed scores has it, by partition: from when the last score of the one model
was there to when the first of the other was. Live workers, shadow, broker, publisher and reader share this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from kafka import TopicPartition

from bench.arena import Arena, BenchError, Sample
from bench.challenger import challenger_of
from bench.feed import feed_each, run_loop
from bench.options import Bench
from bench.score_reader import ScoreReader
from bench.workload import Workload
from stream.embedded.server import ServerProcess
from stream.kafka.topic_sizes import group_lags
from stream.topics import shadow_application

RATES_PER_S = (800, 5_000)
WORKERS = 2
SHADOW = "bench"
BACKLOG_S = 2.0
"""So many seconds' events are there before the first worker starts."""

SHARE, AFTER_S = 12, 2.0
"""Events come for a twelfth of the longest time before the costs are taken and as long meanwhile, and for so many
seconds after the hand-over."""

LIMIT_S = 240.0
COMMAND_LIMIT_S = 120.0
LOOK_EVERY_S = 0.5


class _Model(msgspec.Struct, gc=False):
    model: str


_decode = msgspec.json.Decoder(_Model).decode


def measure(bench: Bench) -> dict[str, Any]:
    """Seconds of the pauses by rate, and processor seconds per million events of both sides before it."""
    challenger = challenger_of(bench.settings.bundle, bench.folder / "challenger")
    longest: dict[str, list[float]] = {str(rate): [] for rate in RATES_PER_S}
    figures: dict[str, list[dict[str, Any]]] = {str(rate): [] for rate in RATES_PER_S}
    for number in range(1, bench.rounds + 1):
        for rate in RATES_PER_S:
            bench.tell(f"round {number} of {bench.rounds}: {rate:,} events per second")
            with bench.arena(f"hand-over{number}-{rate}") as arena:
                found = _round(bench, arena, challenger, rate)
            longest[str(rate)].append(max(found["pauses_s"].values()))
            figures[str(rate)].append(found)
    return {
        "workers_on_each_side": WORKERS,
        "commit_interval_s": bench.settings.commit_interval_s,
        "longest_pause_s": {rate: max(found) for rate, found in longest.items()},
        "median_pause_s": {
            rate: statistics.median(pause for each in found for pause in each["pauses_s"].values())
            for rate, found in figures.items()
        },
        "command_s": {rate: statistics.median(each["command_s"] for each in found) for rate, found in figures.items()},
        **{
            f"{side}_cpu_seconds_per_million_events": {
                rate: statistics.median(each[f"{side}_cpu_s_per_million"] for each in found)
                for rate, found in figures.items()
            }
            for side in ("live", "shadow")
        },
        "rounds": figures,
    }


def _round(bench: Bench, arena: Arena, challenger: Path, rate: int) -> dict[str, Any]:
    backlog, live_events = round(rate * BACKLOG_S), round(rate * bench.seconds)
    workload = bench.workload(backlog + live_events)
    arena.publish(Workload(workload.users, workload.records[:backlog]))
    giver, taker = arena.settings.application_id, shadow_application(arena.settings.application_id, SHADOW)
    with ExitStack() as stack:
        live = [_started(arena.worker(f"worker{number}"), stack) for number in range(WORKERS)]
        _await(lambda: _has_all(arena, giver), "the live workers to catch up", live)
        shadow = [_started(_shadow(arena, number, challenger), stack) for number in range(WORKERS)]
        _await(lambda: _has_all(arena, taker), "the shadow to catch up", [*live, *shadow])
        reader = stack.enter_context(_Reader(arena))
        feed = stack.enter_context(_Feed(arena, workload, backlog, rate))
        _await(lambda: reader.partitions == arena.settings.partitions, "scores to come", [*live, *shadow])
        time.sleep(bench.seconds / SHARE)
        costs = _costs(live, shadow, rate, bench.seconds / SHARE)
        command_s = _promote(arena)
        if not feed.is_on:
            raise BenchError("the events had ended before the hand-over was done; give --seconds more")
        time.sleep(AFTER_S)
        feed.stop()
        _await(lambda: _has_all(arena, taker), "the new workers to catch up", shadow)
        time.sleep(2 * arena.settings.commit_interval_s)
    return {"pauses_s": reader.pauses_s(), "command_s": command_s, **costs}


def _costs(
    live: Sequence[ServerProcess], shadow: Sequence[ServerProcess], rate: int, seconds: float
) -> dict[str, float]:
    """Processor seconds per million events of each side, over so many seconds at this rate."""
    sides = {"live": live, "shadow": shadow}
    before = {name: _cpu_s(workers) for name, workers in sides.items()}
    begun_s = time.monotonic()
    time.sleep(seconds)
    events = rate * (time.monotonic() - begun_s)
    return {
        f"{name}_cpu_s_per_million": (_cpu_s(workers) - before[name]) / events * 1e6 for name, workers in sides.items()
    }


def _cpu_s(workers: Sequence[ServerProcess]) -> float:
    return sum(Sample.of(worker, 0).cpu_s for worker in workers)


def _options(arena: Arena) -> list[str]:
    given = {
        "--bootstrap-servers": arena.kafka.bootstrap_servers,
        "--topic-prefix": arena.settings.topic_prefix,
        "--application-id": arena.settings.application_id,
    }
    return [word for option in given.items() for word in option]


def _shadow(arena: Arena, number: int, bundle: Path) -> ServerProcess:
    command = [sys.executable, "-m", "foreshock", "shadow", "run", SHADOW, "--bundle", str(bundle), *_options(arena)]
    return ServerProcess(f"shadow{number}", command, arena.folder / f"shadow{number}.log")


def _promote(arena: Arena) -> float:
    """Hand over, and how long that took. Raises `BenchError`."""
    begun_s = time.monotonic()
    command = [sys.executable, "-m", "foreshock", "replay", "promote", SHADOW, "--json", *_options(arena)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)
    if done.returncode:
        raise BenchError(f"the hand-over failed: {done.stderr[-500:]}")
    handed = len(json.loads(done.stdout)["handed_over_now"])
    if handed != arena.settings.partitions:
        raise BenchError(f"{handed} of {arena.settings.partitions} partitions were handed over")
    return time.monotonic() - begun_s


def _has_all(arena: Arena, group: str) -> bool:
    """Whether a group has taken everything."""
    return not any(lag.records for lag in group_lags(arena.kafka, {group: arena.topics.inputs}))


def _await(done: Callable[[], bool], what: str, processes: Sequence[ServerProcess]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not done():
        for process in processes:
            if not process.alive:
                raise BenchError(f"{process.name} ended; its log ends with:\n{process.log_tail(25)}")
        if time.monotonic() > deadline_s:
            raise BenchError(f"{what}: not within {LIMIT_S:.0f} s; the rate is more than this machine can take")
        time.sleep(LOOK_EVERY_S)


def _started(process: ServerProcess, stack: ExitStack) -> ServerProcess:
    stack.callback(process.stop)
    process.start()
    return process


class _Feed:
    """Publishes the events from number `first` on at the rate, from a thread, until they end or it is stopped."""

    def __init__(self, arena: Arena, workload: Workload, first: int, rate: int) -> None:
        self._arena = arena
        self._records = workload.records[first:]
        self._rate = rate
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed")
        self._failed: Exception | None = None

    def __enter__(self) -> _Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_on(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Raises what ended it."""
        self._stopped.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            run_loop(self._feed())
        except Exception as error:
            self._failed = error

    async def _feed(self) -> None:
        feeding = asyncio.create_task(feed_each(self._arena.kafka, self._arena.topics, self._records, self._rate))
        while not feeding.done() and not self._stopped.is_set():
            await asyncio.sleep(0.1)
        if not feeding.done():
            feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding


class _Reader(ScoreReader):
    """Notes when each model's first and last scores are there, by partition."""

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena, begins="latest", fetch_max_wait_ms=20)
        self._spans: dict[int, dict[str, tuple[float, float]]] = {}

    def note(self, tp: TopicPartition, records: Sequence[Any]) -> None:
        """See `ScoreReader.note`."""
        now_s = time.monotonic()
        by_model = self._spans.setdefault(tp.partition, {})
        # Only the first and the last of a batch need looking at, unless they differ.
        ends = [_decode(records[0].value).model, _decode(records[-1].value).model]
        models = ends if ends[0] == ends[1] else [_decode(record.value).model for record in records]
        for model in dict.fromkeys(models):
            begun_s, _ = by_model.get(model, (now_s, now_s))
            by_model[model] = begun_s, now_s

    @property
    def partitions(self) -> int:
        """Of how many partitions scores have come."""
        return len(self._spans)

    def pauses_s(self) -> dict[str, float]:
        """By partition. Raises `BenchError` where not two models were there, one after the other."""
        found = {}
        for partition, by_model in sorted(self._spans.items()):
            spans = sorted(by_model.values())
            if len(spans) != 2:
                raise BenchError(f"partition {partition} has scores of {len(spans)} models while it was read, not of 2")
            found[str(partition)] = max(spans[1][0] - spans[0][1], 0.0)
        if len(found) != self.arena.settings.partitions:
            raise BenchError(f"scores of {len(found)} of {self.arena.settings.partitions} partitions came")
        return found
