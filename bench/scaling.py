"""Computes what a deployment needs from one worker's measured figures and named assumptions. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass

DAY_S = 86_400
GIB = 2**30


@dataclass(frozen=True)
class Measured:
    """One worker, as measured."""

    events_per_second: float
    recovered_users_per_second: float
    bytes_per_user: float
    row_bytes: float


@dataclass(frozen=True)
class Assumptions:
    """Assumptions about a deployment; replace them by your own figures."""

    events_per_user_day: float = 1.0
    peak_factor: float = 5.0
    """Rate of the busiest minutes over the average rate."""

    busy_share: float = 0.5
    """Share of a worker's measured rate that a peak may take; the rest is for catching up after a failure."""

    worker_memory_gib: float = 16.0
    state_memory_share: float = 0.6
    """Share of a worker's memory for rows; the array doubles as it grows."""

    event_bytes: float = 210.0
    score_bytes: float = 480.0
    replication: int = 3
    events_kept_days: int = 730
    scores_kept_days: int = 90
    changelog_overhead: float = 1.5
    """Size of a compacted topic over one row per user: the cleaner has not yet removed everything."""


@dataclass(frozen=True)
class Deployment:
    """What a number of users needs."""

    users: float
    average_events_per_second: float
    peak_events_per_second: float
    workers_for_rate: int
    workers_for_memory: int
    partitions: int
    changelog_mb_per_second: float
    """At the average rate, before replication; with so few events per user, nearly every event writes a row."""

    changelog_tb: float
    """On all brokers together, as `events_tb` is."""

    events_tb: float
    recovery_s: float
    """Of one worker that has lost everything, for its share of the users. With a standby there is no such wait."""

    @property
    def workers(self) -> int:
        return max(self.workers_for_rate, self.workers_for_memory)


def deployment(users: float, measured: Measured, assumed: Assumptions) -> Deployment:
    """The deployment for `users` users."""
    average = users * assumed.events_per_user_day / DAY_S
    peak = average * assumed.peak_factor
    for_rate = math.ceil(peak / (measured.events_per_second * assumed.busy_share))
    rows_per_worker = assumed.worker_memory_gib * GIB * assumed.state_memory_share / measured.bytes_per_user
    for_memory = math.ceil(users / rows_per_worker)
    workers = max(for_rate, for_memory)
    daily_events = users * assumed.events_per_user_day
    kept = daily_events * (
        assumed.event_bytes * assumed.events_kept_days + assumed.score_bytes * assumed.scores_kept_days
    )
    return Deployment(
        users=users,
        average_events_per_second=average,
        peak_events_per_second=peak,
        workers_for_rate=for_rate,
        workers_for_memory=for_memory,
        partitions=partitions_for(workers),
        changelog_mb_per_second=average * measured.row_bytes / 1e6,
        changelog_tb=users * measured.row_bytes * assumed.changelog_overhead * assumed.replication / 1e12,
        events_tb=kept * assumed.replication / 1e12,
        recovery_s=users / workers / measured.recovered_users_per_second,
    )


def partitions_for(workers: int) -> int:
    """Twice the workers, rounded up to a power of two and at least 4: their number cannot be changed later."""
    return max(4, 1 << (2 * workers - 1).bit_length())


@dataclass(frozen=True)
class Step:
    """A number of partitions, each with a worker on a core of its own."""

    partitions: int
    events_per_second: float
    users_in_memory: float
    read_mb_per_second: float
    written_mb_per_second: float
    """Scores and changelog at full rate, before replication, if every event writes a row."""


def step(partitions: int, measured: Measured, assumed: Assumptions) -> Step:
    """What `partitions` workers do together, as long as the brokers keep up."""
    rate = partitions * measured.events_per_second
    rows_per_worker = assumed.worker_memory_gib * GIB * assumed.state_memory_share / measured.bytes_per_user
    return Step(
        partitions=partitions,
        events_per_second=rate,
        users_in_memory=partitions * rows_per_worker,
        read_mb_per_second=rate * assumed.event_bytes / 1e6,
        written_mb_per_second=rate * (assumed.score_bytes + measured.row_bytes) / 1e6,
    )
