"""A flood of bad records beside good events: the worker's memory stays bounded, and the good ones are not held up."""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import msgspec
import psutil
import pytest

from bench.chaos.feed import HUGE_BYTES, bad_records
from events.types import KINDS, keyed
from model.datasets.sources import open_dataset
from stream.kafka.clients import aiokafka_producer, started
from stream.kafka.publisher import partition_of
from stream.outputs import Score

Deploy = Callable[..., Any]
PHASES, PHASE_S = 6, 4.0
"""With and without flood in turn."""

GOOD_PER_S, BAD_PER_S, LARGE_PER_S = 100, 400, 2
"""Records a second; of the large ones, every other has `HUGE_BYTES` and the others a tenth of it."""

LARGE_BYTES = 100_000
MOST_GROWTH_MIB = 400.0
"""Beyond what the worker needs before the flood: a poll may hold several values of `HUGE_BYTES`, and their letters."""

LONGEST_MEDIAN_MS = 2_000.0
"""Of a good event with the flood. On a machine of one's own it is a few milliseconds; here other tests run beside it,
and the figures that are printed tell more."""


@contextmanager
def watched_memory(pid: int) -> Iterator[list[float]]:
    """Resident memory in MiB, looked at ten times a second."""
    samples: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            samples.append(psutil.Process(pid).memory_info().rss / 2**20)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


async def flood(deployment: Any, flooding: threading.Event, done: threading.Event) -> None:
    """Send bad records while `flooding` is set, `BAD_PER_S` of them: where the machine held one up, more at once."""
    chance = random.Random(1)
    small = (pair for pair in bad_records(random.Random(1)) if len(pair[1]) < LARGE_BYTES)
    large = itertools.cycle([(b"u", bytes(HUGE_BYTES)), (b"u", bytes(HUGE_BYTES // 10))])
    producer = aiokafka_producer(deployment.kafka, compression_type="gzip", max_request_size=2 * HUGE_BYTES)
    async with started(producer):
        number, owed, looked_s = 0, 0.0, time.monotonic()
        while not done.is_set():
            before_s, looked_s = looked_s, time.monotonic()
            owed += (looked_s - before_s) * BAD_PER_S if flooding.is_set() else -owed
            while owed >= 1 and flooding.is_set() and not done.is_set():
                key, value = next(large if number % (BAD_PER_S // LARGE_PER_S) == 0 else small)
                topic = deployment.topics.of_kind(chance.choice(KINDS[:3]))  # profiles take none without a key
                await producer.send(topic, value, key=key, partition=chance.randrange(deployment.settings.partitions))
                number, owed = number + 1, owed - 1
            await asyncio.sleep(0.002)


async def send_good(deployment: Any, flooding: threading.Event) -> dict[str, int]:
    """Send events all the time, and set `flooding` every other phase; the phase of each event by its id."""
    events = keyed(open_dataset("simulator", users=50, months=12, seed=3).events())
    phases: dict[str, int] = {}
    producer = aiokafka_producer(deployment.kafka, linger_ms=0)
    async with started(producer):
        for phase in range(PHASES):
            (flooding.set if phase % 2 else flooding.clear)()
            begun_s, sent = time.monotonic(), 0
            while (since_s := time.monotonic() - begun_s) < PHASE_S:
                while sent < since_s * GOOD_PER_S:
                    kind, key, value, _ = next(events)
                    phases[msgspec.json.decode(value)["event_id"]] = phase
                    partition = partition_of(key, deployment.settings.partitions)
                    await producer.send(deployment.topics.of_kind(kind), value, key=key, partition=partition)
                    sent += 1
                await asyncio.sleep(0.002)
    return phases


def alternate(deployment: Any) -> dict[str, int]:
    """`send_good` beside `flood`, which has a thread of its own: packing megabytes must not hold good events up."""
    flooding, done = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        flooded = pool.submit(lambda: asyncio.run(flood(deployment, flooding, done)))
        try:
            return asyncio.run(send_good(deployment, flooding))
        finally:
            done.set()
            flooded.result()


@pytest.mark.slow
@pytest.mark.no_cover
def test_a_flood_of_bad_records_holds_nobody_up(deploy: Deploy) -> None:
    deployment = deploy(watchdog=False)
    deployment.configure(deployment.topics.scores, {"message.timestamp.type": "LogAppendTime"})
    with deployment.running("worker") as worker:
        deployment.publish(open_dataset("simulator", users=50, months=2, seed=4).events())
        deployment.wait_until_scored(worker)
        with watched_memory(worker.identity.pid) as samples:
            time.sleep(0.5)
            before_mib = max(samples)
            phases = alternate(deployment)
            deployment.wait_until_scored(worker)
    sent_ms = {
        (record.topic, record.partition, record.offset): record.timestamp
        for topic in deployment.topics.inputs
        for record in deployment.records(topic)
    }
    delays_ms: dict[bool, list[float]] = {False: [], True: []}
    for record in deployment.records(deployment.topics.scores):
        score = msgspec.json.decode(record.value, type=Score)
        if score.event_id in phases:
            at_ms = sent_ms[score.source_topic, score.source_partition, score.source_offset]
            delays_ms[phases[score.event_id] % 2 == 1].append(record.timestamp - at_ms)
    assert len(delays_ms[False]) + len(delays_ms[True]) == len(phases)
    assert len(deployment.records(deployment.topics.dead_letters)) > PHASES / 2 * PHASE_S * BAD_PER_S * 0.2
    quiet_ms, flooded_ms = (statistics.median(delays_ms[flood]) for flood in (False, True))
    figures = (
        f"median delay {quiet_ms:.0f} ms without, {flooded_ms:.0f} ms with a flood; p95 "
        f"{statistics.quantiles(delays_ms[False], n=20)[-1]:.0f} and "
        f"{statistics.quantiles(delays_ms[True], n=20)[-1]:.0f} ms; memory {before_mib:.0f} MiB before, "
        f"at most {max(samples):.0f} MiB"
    )
    print(figures)
    assert max(samples) - before_mib < MOST_GROWTH_MIB, figures
    assert flooded_ms < LONGEST_MEDIAN_MS, figures
