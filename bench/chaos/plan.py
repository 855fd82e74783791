"""What a seed stands for: how events arrive in a run, how workers are set, and how often they are disturbed. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

SESSION_S = 3.0
"""The group's session timeout in a run: a frozen worker is silent for longer."""


@dataclass(frozen=True)
class Plan:
    """One run. `backlog_share` of the events is there before the first worker starts; the rest arrives live.

    Shares are of 1. `topic_skew_s` is the longest delay of one topic behind the others, `jitter_s` the mean delay of a
    record; both make records arrive in another order than event time. `pause_s` is the range of the pause between two
    disturbances, `freeze_share` the share of them that are freezes and `stop_share` that are orderly stops; the others
    are kills.
    """

    seed: int
    users: int
    events: int
    events_per_s: float
    backlog_share: float
    late_share: float
    twice_share: float
    topic_skew_s: float
    jitter_s: float
    workers: int
    on_disk: bool
    resident_users: int
    standby_replicas: int
    commit_interval_s: float
    batch_max_records: int
    pause_s: tuple[float, float]
    freeze_share: float
    stop_share: float

    @classmethod
    def of(cls, seed: int, events: int) -> Plan:
        """The plan of a seed; `events` bounds the length of the run, and is the only thing that it does not decide."""
        chance = random.Random(seed)
        return cls(
            seed=seed,
            users=chance.choice([40, 150, 400]),
            events=events,
            events_per_s=chance.choice([150.0, 300.0, 600.0]),
            backlog_share=chance.choice([0.0, 0.0, 0.3, 0.7]),
            late_share=chance.choice([0.0, 0.05, 0.2]),
            twice_share=chance.choice([0.0, 0.02]),
            topic_skew_s=chance.choice([0.0, 0.5, 2.0]),
            jitter_s=chance.choice([0.01, 0.1]),
            workers=chance.choice([1, 2, 2, 3]),
            on_disk=chance.random() < 0.4,
            resident_users=chance.choice([10, 60]),
            standby_replicas=chance.choice([0, 0, 1]),
            commit_interval_s=chance.choice([0.2, 1.0]),
            batch_max_records=chance.choice([50, 500, 16_000]),
            pause_s=chance.choice([(0.2, 1.0), (0.5, 2.5)]),
            freeze_share=chance.choice([0.1, 0.3]),
            stop_share=0.1,
        )

    def settings(self) -> dict[str, Any]:
        """Settings of the workers that differ from the defaults. The watchdog is off: it would add events."""
        return {
            "commit_interval_s": self.commit_interval_s,
            "batch_max_records": self.batch_max_records,
            "standby_replicas": self.standby_replicas,
            "session_timeout_s": SESSION_S,
            "heartbeat_interval_s": 0.5,
            "watchdog": False,
        }
