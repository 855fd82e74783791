"""Cost of one event as a user's history grows: the same users and batches, after more and more events.

Runs in this process, because the transport does the same whatever the length of a history. The rows are kept at each
length, and the lengths are measured in turn, so that other load on the machine affects all of them.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from bench.arena import spread
from bench.cost import Subject
from bench.options import Bench
from bench.workload import Stream, user_id

LENGTHS = (10, 100, 1_000, 10_000)
USERS = 128
EVENTS_PER_USER_AND_BATCH = 8
REPEATS_PER_ROUND = 20


def measure(bench: Bench) -> dict[str, Any]:
    """Microseconds per event by number of earlier events (at most `events`), and the ratio of longest to shortest."""
    lengths = [length for length in LENGTHS if length <= bench.sizes.events] or [LENGTHS[0]]
    subject, stream = Subject(bench), Stream(bench.settings.partitions)
    users = [user_id(number) for number in range(min(USERS, bench.sizes.users))]
    rows = {}
    behind = 0
    for length in lengths:
        bench.tell(f"scoring up to {length:,} events of each of {len(users)} users")
        while behind < length:
            depth = min(EVENTS_PER_USER_AND_BATCH * 4, length - behind)
            subject.score(stream.take(users * depth))
            behind += depth
        rows[length] = subject.slab.gather(np.arange(len(users)))
    costs: dict[int, list[float]] = {length: [] for length in lengths}
    batch_users = users * EVENTS_PER_USER_AND_BATCH
    for _ in range(bench.rounds * REPEATS_PER_ROUND):
        for length in lengths:
            bench.tell(f"measuring at {length:,} events")
            subject.slab.scatter(np.arange(len(users)), rows[length])
            costs[length].append(subject.score(stream.take(batch_users)) / len(batch_users) * 1e6)
    medians = {length: statistics.median(found) for length, found in costs.items()}
    return {
        "users": len(users),
        "history_cost_ratio": medians[lengths[-1]] / medians[lengths[0]],
        "microseconds_per_event": {str(length): spread(found) for length, found in costs.items()},
    }
