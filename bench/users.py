"""Cost of one event, and memory, as the number of users grows: slabs of different sizes measured in turn.

Runs in this process. Users are drawn evenly, which is the worst case for the processor's caches.
"""

from __future__ import annotations

import gc
import statistics
from typing import Any

import numpy as np
import psutil

from bench import resident
from bench.arena import spread
from bench.cost import Subject
from bench.options import Bench
from bench.workload import Stream, user_id
from stream.kafka.publisher import partition_of

ON_DISK_USERS = 200_000
COUNTS = (10_000, 100_000, 1_000_000)
BATCH_EVENTS = 4_000
REPEATS_PER_ROUND = 8
LOCATED_AT_ONCE = 50_000
MEMORY_SHARE = 0.8
GROWTH_FACTOR = 1.6
"""Bytes needed per byte kept, at most: while a slab doubles, its rows are in memory twice."""


def measure(bench: Bench) -> dict[str, Any]:
    """Microseconds per event by number of users (at most `users`), the ratio of most to fewest, and bytes per user.

    `on_disk`: the same where most users are on a local disk, see `bench.resident`.
    """
    wanted = [count for count in COUNTS if count <= bench.sizes.users] or [bench.sizes.users]
    counts = [count for count in wanted if _fits(bench, sum(wanted[: wanted.index(count) + 1]))] or wanted[:1]
    stream = Stream(bench.settings.partitions)
    subjects: dict[int, Subject] = {}
    bytes_per_user = 0.0
    for count in counts:
        bench.tell(f"making {count:,} users")
        subjects[count] = Subject(bench)
        bytes_per_user = _populate(subjects[count], count, bench.settings.partitions)
    costs: dict[int, list[float]] = {count: [] for count in counts}
    random = np.random.default_rng(1)
    for _ in range(bench.rounds * REPEATS_PER_ROUND):
        for count in counts:
            bench.tell(f"measuring with {count:,} users")
            drawn = [user_id(number) for number in random.integers(0, count, BATCH_EVENTS).tolist()]
            costs[count].append(subjects[count].score(stream.take(drawn)) / BATCH_EVENTS * 1e6)
    medians = {count: statistics.median(found) for count, found in costs.items()}
    figures = {
        "users_cost_ratio": medians[counts[-1]] / medians[counts[0]],
        "bytes_per_user": bytes_per_user,
        "row_bytes": subjects[counts[-1]].slab.dtype.itemsize,
        "microseconds_per_event": {str(count): spread(found) for count, found in costs.items()},
    }
    subjects.clear()
    figures["on_disk"] = resident.measure(bench, min(bench.sizes.users, ON_DISK_USERS))
    if counts != wanted:
        figures["not_measured"] = f"more than {counts[-1]:,} users: not enough free memory"
    return figures


def _fits(bench: Bench, users: int) -> bool:
    row_bytes = Subject(bench).slab.dtype.itemsize
    return users * row_bytes * GROWTH_FACTOR < psutil.virtual_memory().available * MEMORY_SHARE


def _populate(subject: Subject, users: int, partitions: int) -> float:
    """Create rows for `users` users; returns the resident bytes per user, with names and index."""
    gc.collect()
    before = psutil.Process().memory_info().rss
    for start in range(0, users, LOCATED_AT_ONCE):
        by_partition: dict[int, list[bytes]] = {}
        for number in range(start, min(start + LOCATED_AT_ONCE, users)):
            key = user_id(number).encode()
            by_partition.setdefault(partition_of(key, partitions), []).append(key)
        for partition, keys in by_partition.items():
            subject.slab.locate(partition, keys)
    gc.collect()
    return (psutil.Process().memory_info().rss - before) / users
