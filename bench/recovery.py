"""How fast a worker is ready again: with an empty table, with a full changelog, and after it was killed.

Users restored per second follow from the time to the first score with a full changelog, less the time with an empty
one. So the start of Python, Faust and the consumer group does not count, and everything else does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from typing import Any

import numpy as np

from bench.arena import Arena, BenchError
from bench.options import Bench
from bench.workload import Workload, user_id
from stream.kafka.clients import aiokafka_producer, started
from stream.kafka.publisher import partition_of
from stream.kafka.record_batches import BATCH_BYTES, send_records
from stream.state.row import blank_row, row_dtype

LIMIT_S = 180.0
KILL_USERS = 10_000
USERS_AT_ONCE = 5_000
SHORTEST_DIFFERENCE_S = 0.1
"""Two starts differ by this much in any case. With so few users, the figure is only a lower bound."""

SETTLE_S = 0.5
"""Time after a kill for outputs that were on their way to arrive."""


MARKERS = 2
"""Offsets that the ends of transactions take in a partition when its former owner's are aborted: not yet a score."""


def measure(bench: Bench) -> dict[str, Any]:
    """Seconds to the first score, users restored per second, seconds from a kill to the next score."""
    users = bench.sizes.users
    probe = Workload.simulated(1, 1)
    empty_s: list[float] = []
    full_s: list[float] = []
    restored: list[float] = []
    restarted_s: list[float] = []
    for number in range(1, bench.rounds + 1):
        for count, found in ((0, empty_s), (users, full_s)):
            with bench.arena(f"recovery{number}-{count}") as arena:
                bench.tell(f"round {number} of {bench.rounds}: a changelog of {count:,} users")
                if count:
                    asyncio.run(_fill_changelog(bench, arena, count))
                arena.publish(probe)
                found.append(_first_score_s(arena))
        restored.append(users / max(full_s[-1] - empty_s[-1], SHORTEST_DIFFERENCE_S))
        restarted_s.append(_restarted_on_disk_s(bench, number))
    return {
        "users": users,
        "recovered_users_per_second": statistics.median(restored),
        "start_to_first_score_s": statistics.median(empty_s),
        "start_to_first_score_with_users_s": statistics.median(full_s),
        "restart_to_score_with_users_on_disk_s": statistics.median(restarted_s),
        "kill_to_next_score_s": statistics.median(_killed(bench, number) for number in range(1, bench.rounds + 1)),
        "rounds": {"empty_s": empty_s, "full_s": full_s, "on_disk_s": restarted_s},
    }


def _first_score_s(arena: Arena) -> float:
    """Seconds from starting a worker to its first score, by the broker's clock."""
    worker = arena.worker()
    started_ms = time.time() * 1000
    worker.start()
    try:
        arena.wait_for(worker, arena.topics.scores, 1, LIMIT_S)
    finally:
        worker.stop()
    return (arena.watch.first_ms(arena.topics.scores) - started_ms) / 1000


def _restarted_on_disk_s(bench: Bench, number: int) -> float:
    """Seconds from starting a worker to its first score, with all users on its disk from an earlier start."""
    with bench.arena(f"disk{number}") as arena:
        bench.tell(f"round {number} of {bench.rounds}: a disk of {bench.sizes.users:,} users")
        asyncio.run(_fill_changelog(bench, arena, bench.sizes.users))
        probes = Workload.simulated(2, 1)
        for number_of_probe, name in enumerate(("first", "restarted")):
            arena.publish(Workload(1, probes.records[number_of_probe : number_of_probe + 1]))
            before = arena.watch.size(arena.topics.scores)  # the end of a transaction takes an offset, too
            worker = arena.worker(name, state_dir=str(arena.folder / "state"))
            started_s = time.monotonic()
            worker.start()
            try:
                arena.wait_for(worker, arena.topics.scores, before + 1, LIMIT_S)
                elapsed_s = time.monotonic() - started_s
            finally:
                worker.stop()
        return elapsed_s


async def _fill_changelog(bench: Bench, arena: Arena, users: int) -> None:
    """Publish one row per user with random network state, in the form in which a worker publishes it."""
    blank = blank_row(row_dtype(bench.bundle.state_width), bench.bundle.fingerprint)
    random = np.random.default_rng(1)
    topic = arena.topics.changelog(arena.settings.application_id)
    producer = aiokafka_producer(arena.kafka, max_batch_size=BATCH_BYTES)
    async with started(producer):
        for start in range(0, users, USERS_AT_ONCE):
            rows = np.repeat(blank, min(USERS_AT_ONCE, users - start))
            rows["network"] = random.standard_normal(rows["network"].shape, dtype=np.float32)
            by_partition: dict[int, list[tuple[bytes | None, bytes]]] = {}
            for number, row in enumerate(rows, start=start):
                key = user_id(number).encode()
                by_partition.setdefault(partition_of(key, arena.settings.partitions), []).append((key, row.tobytes()))
            acks = [
                ack
                for partition, pairs in by_partition.items()
                for ack in await send_records(producer, topic, partition, pairs)
            ]
            await asyncio.gather(*acks)


def _killed(bench: Bench, number: int) -> float:
    """Seconds from a SIGKILL during work to the next score, by a worker that is started at once."""
    workload = Workload.simulated(bench.sizes.events, min(bench.sizes.users, KILL_USERS))
    with bench.arena(f"kill{number}") as arena:
        published = arena.publish(workload)
        bench.tell(f"round {number} of {bench.rounds}: killing a worker")
        scores = arena.topics.scores
        first = arena.worker("killed")
        first.start()
        try:
            arena.wait_for(first, scores, max(1, published // 10), LIMIT_S)
            os.kill(first.identity.pid, signal.SIGKILL)
            killed_s = time.monotonic()
        finally:
            first.stop()
        second = arena.worker("restarted")
        second.start()
        try:
            time.sleep(max(0.0, killed_s + SETTLE_S - time.monotonic()))
            already = arena.watch.size(scores)
            if already >= published:
                raise BenchError(
                    f"the worker had scored all {published:,} events before it was killed; give --events more"
                )
            arena.wait_for(second, scores, already + MARKERS * arena.settings.partitions + 1, LIMIT_S)
            return time.monotonic() - killed_s
        finally:
            second.stop()
