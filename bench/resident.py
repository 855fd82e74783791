"""The cost of keeping most users on a local disk: per event, at a start, and in memory, beside a slab that has all.

Runs in this process, with a checkpoint after every batch that writes the changed rows to the archives.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from bench.cost import Subject
from bench.options import Bench
from bench.workload import Stream, user_id
from stream.kafka.publisher import partition_of
from stream.state.archive import Archives, Origin
from stream.state.row import blank_row
from stream.state.slab import Slab
from stream.worker.app import worker_slab

USERS_AT_ONCE = 5_000
BATCH_EVENTS = 4_000
WARM_UP_BATCHES, BATCHES = 10, 16
RESIDENT_SHARE = 0.1
SKEW = 0.9
"""Where access is skewed, the share of the events that the most active tenth of the users has."""


def measure(bench: Bench, users: int) -> dict[str, Any]:
    """`measure_one` for a slab in memory, one with a disk, and one with a disk and a tenth of `users` in memory."""
    residents = max(1, int(users * RESIDENT_SHARE))
    return {
        "users": users,
        "resident_users": residents,
        "memory": measure_one(bench, users, on_disk=False),
        "all_resident": measure_one(bench, users, on_disk=True),
        "tenth_resident": measure_one(bench, users, on_disk=True, resident_users=residents),
    }


def measure_one(bench: Bench, users: int, *, on_disk: bool, resident_users: int | None = None) -> dict[str, Any]:
    """Users restored per second, microseconds per event by kind of access, users in memory, and bytes in all."""
    bench.tell(f"{users:,} users, {'all' if resident_users is None else f'{resident_users:,}'} in memory")
    gc.collect()
    before = psutil.Process().memory_info().rss
    with _slab(bench, on_disk, resident_users) as slab:
        restored_s = _populate(slab, bench, users)
        if resident_users is None:
            _bring_into_memory(slab, bench, users)
        subject, stream = Subject(bench, slab), Stream(bench.settings.partitions)
        return {
            "restored_users_per_second": users / restored_s,
            "microseconds_per_event": {
                access: _cost(subject, stream, access, users) for access in ("skewed", "uniform")
            },
            "users_in_memory": len(slab),
            "resident_bytes": psutil.Process().memory_info().rss - before,
        }


@contextmanager
def _slab(bench: Bench, on_disk: bool, resident_users: int | None) -> Iterator[Slab]:
    if not on_disk:
        yield worker_slab(bench.bundle)
        return
    with tempfile.TemporaryDirectory(prefix="foreshock-bench-") as folder:
        row_bytes = worker_slab(bench.bundle).dtype.itemsize
        origin = Origin("bench", bench.bundle.fingerprint, row_bytes)
        archives = Archives(Path(folder), origin, bench.settings.state_memory_mib << 20)
        try:
            slab = worker_slab(bench.bundle, archives, resident_users)
            for partition in range(bench.settings.partitions):
                slab.open_partition(partition)
            yield slab
        finally:
            archives.close_all()


def _populate(slab: Slab, bench: Bench, users: int) -> float:
    """Give users rows of random network state as recovery does; returns the seconds spent on it."""
    random, spent_s = np.random.default_rng(1), 0.0
    blank = blank_row(slab.dtype, bench.bundle.fingerprint)
    for start in range(0, users, USERS_AT_ONCE):
        rows = np.repeat(blank, min(USERS_AT_ONCE, users - start))
        rows["network"] = random.standard_normal(rows["network"].shape, dtype=np.float32)
        by_partition: dict[int, list[tuple[bytes, bytes]]] = {}
        for number, row in enumerate(rows, start=start):
            key = user_id(number).encode()
            by_partition.setdefault(partition_of(key, bench.settings.partitions), []).append((key, row.tobytes()))
        started_s = time.perf_counter()
        for partition, pairs in by_partition.items():
            slab.put(partition, pairs, start)
        spent_s += time.perf_counter() - started_s
    return spent_s


def _bring_into_memory(slab: Slab, bench: Bench, users: int) -> None:
    for start in range(0, users, USERS_AT_ONCE):
        by_partition: dict[int, list[bytes]] = {}
        for number in range(start, min(start + USERS_AT_ONCE, users)):
            key = user_id(number).encode()
            by_partition.setdefault(partition_of(key, bench.settings.partitions), []).append(key)
        for partition, keys in by_partition.items():
            located = slab.locate(partition, keys)
            slab.freeze(located)
            slab.archive(partition, slab.frozen(located)[partition], start)


def _cost(subject: Subject, stream: Stream, access: str, users: int) -> float:
    random, size = np.random.default_rng(2), min(BATCH_EVENTS, users)
    found = []
    for number in range(WARM_UP_BATCHES + BATCHES):
        drawn = [user_id(user) for user in _drawn(random, access, users, size).tolist()]
        seconds = subject.score(stream.take(drawn))
        if number >= WARM_UP_BATCHES:
            found.append(seconds / size * 1e6)
    return statistics.median(found)


def _drawn(random: np.random.Generator, access: str, users: int, size: int) -> NDArray[np.int64]:
    anyone = random.integers(0, users, size)
    if access == "uniform":
        return anyone
    active = random.integers(0, max(1, users // 10), size)
    return np.where(random.random(size) < SKEW, active, anyone)
