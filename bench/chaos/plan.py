"""What a seed stands for: how events arrive in a run, how workers are set, and what goes wrong how often. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

SESSION_S = 2.0
"""The group's session timeout in a run: a frozen worker is silent for longer."""

SHORT_TRANSACTION_S, LONG_SESSION_S = 3.0, 8.0
"""Where a transaction's timeout is to pass before the session of its worker."""

HAND_OVER_SHARE = 1 / 6
"""Share of the runs in which models hand over, where nobody is forgotten: what is left of their states then, the oracle
of hand-overs cannot tell."""

MOST_SHADOWS = 2

MOMENT_EVENTS = 10_000
"""Events that come at one moment, where they do."""

Needs = Literal["worker", "disk", "broker", "database", "arrival", "shadow"]


class Fault(NamedTuple):
    """What goes wrong, in the words of reliability.md, and what of a run it is about.

    `broker` needs one that the run owns, `disk` workers with `state_dir`, `database` a sink. Of `arrival` are those
    that are in how events come, for the whole run. `shadow` are workers of another model beside the live ones.
    """

    what: str
    needs: Needs


FAULTS: dict[str, Fault] = {
    "kill": Fault("a worker is killed, anywhere", "worker"),
    "freeze": Fault("a worker is frozen past its session, and wakes up", "worker"),
    "stop": Fault("a worker leaves, and another joins", "worker"),
    "rolling_restart": Fault("all workers are stopped and started again, one after the other", "worker"),
    "commit_step": Fault("a worker is killed at a step of recovery or commit", "worker"),
    "send_fails": Fault("a record batch cannot be sent, or its acknowledgement is lost", "worker"),
    "transaction_timeout": Fault("a worker is frozen until the broker has ended its transactions", "worker"),
    "clock_jump": Fault("a worker's clock jumps, by minutes or years", "worker"),
    "state_damaged": Fault("bytes of a killed worker's state on disk are changed", "disk"),
    "state_full": Fault("the disk of a worker's state is full", "disk"),
    "state_unwritable": Fault("a killed worker's state folder cannot be written", "disk"),
    "hand_over": Fault(
        "another model takes the live outputs over, or gives them back, while workers and the command are killed",
        "shadow",
    ),
    "broker_killed": Fault("the broker is killed, and started again on its unclean log", "broker"),
    "broker_torn_log": Fault("as above, and its logs end in the middle of a write", "broker"),
    "broker_frozen": Fault("the broker is frozen, for up to 30 s", "broker"),
    "broker_restarted": Fault("the broker is stopped and started", "broker"),
    "sink_killed": Fault("a sink is killed", "database"),
    "sink_frozen": Fault("a sink is frozen past its session, and wakes up", "database"),
    "database_killed": Fault("PostgreSQL is killed, and started again", "database"),
    "database_slow": Fault("a table of PostgreSQL is locked for seconds", "database"),
    "database_full": Fault("PostgreSQL says that its disk is full", "database"),
    "database_connections": Fault("PostgreSQL's connections are used up", "database"),
    "hot_user": Fault("half of all events are one borrower's", "arrival"),
    "hot_partition": Fault("nearly all events are on one partition", "arrival"),
    "one_moment": Fault(f"{MOMENT_EVENTS:,} events come at one moment, with one event time", "arrival"),
    "forgetting": Fault("borrowers are forgotten while their events go on coming", "arrival"),
    "poison": Fault("as many bad records as events come, some of megabytes", "arrival"),
}

ALWAYS = ("kill", "freeze", "stop")
"""What every seed has; which others it has, it draws."""

COSTLY = frozenset(kind for kind, fault in FAULTS.items() if fault.needs in ("broker", "shadow")) | {
    "transaction_timeout",
    "rolling_restart",
}
"""Faults that take long: few of them in a run."""


@dataclass(frozen=True)
class Plan:
    """One run. `backlog_share` of the events is there before the first worker starts; the rest arrives live.

    Shares are of 1. `topic_skew_s` is the longest delay of one topic behind the others, `jitter_s` the mean delay of a
    record; both make records arrive in another order than event time. `faults` are kinds of `FAULTS`, each of which
    comes at least once; `pause_s` is the range of the pause between two of them. Of the others than those that the seed
    drew, a `freeze_share` are freezes, a `stop_share` orderly stops, and the rest kills.
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
    faults: tuple[str, ...]
    sinks: int
    freezes_broker_s: float
    """How long the broker is frozen, where it is."""

    @classmethod
    def of(cls, seed: int, events: int, faults: Sequence[str] = (), *, owns_servers: bool = True) -> Plan:
        """The plan of a seed. `events` bounds the length of the run, and `faults` are these and no others, where any
        are named; that, and whether broker and database are the run's own to disturb, is all that the seed does not
        decide."""
        chance = random.Random(seed)
        arrival: dict[str, Any] = {
            "users": chance.choice([40, 150, 400]),
            "events_per_s": chance.choice([150.0, 300.0, 600.0]),
            "backlog_share": chance.choice([0.0, 0.0, 0.3, 0.7]),
            "late_share": chance.choice([0.0, 0.05, 0.2]),
            "twice_share": chance.choice([0.0, 0.02]),
            "topic_skew_s": chance.choice([0.0, 0.5, 2.0]),
            "jitter_s": chance.choice([0.01, 0.1]),
        }
        deployment: dict[str, Any] = {
            "workers": chance.choice([1, 2, 2, 3]),
            "on_disk": chance.random() < 0.4,
            "resident_users": chance.choice([10, 60]),
            "standby_replicas": chance.choice([0, 0, 1]),
            "commit_interval_s": chance.choice([0.2, 1.0]),
            "batch_max_records": chance.choice([50, 500, 16_000]),
            "sinks": chance.choice([0, 0, 0, 1, 2]),
        }
        pace: dict[str, Any] = {
            "pause_s": chance.choice([(0.2, 1.0), (0.5, 2.5)]),
            "freeze_share": chance.choice([0.1, 0.3]),
            "stop_share": 0.1,
            "freezes_broker_s": chance.choice([1.0, 3.0, 8.0, 30.0]),
        }
        drawn = tuple(faults) or _drawn(chance)
        if not owns_servers:
            drawn = tuple(kind for kind in drawn if FAULTS[kind].needs not in ("broker", "database"))
        needs = {FAULTS[kind].needs for kind in drawn}
        deployment["on_disk"] |= "disk" in needs
        deployment["sinks"] = max(deployment["sinks"], int("database" in needs)) if owns_servers else 0
        if "transaction_timeout" in drawn:
            deployment["commit_interval_s"] = 1.5  # so that one is open whenever a worker is frozen
        if "one_moment" in drawn:
            arrival["users"] = max(arrival["users"], 150)
        return cls(seed=seed, events=events, faults=drawn, **arrival, **deployment, **pace)

    @property
    def disturbances(self) -> tuple[str, ...]:
        """Faults that come and go, other than those of the arrival of events."""
        return tuple(kind for kind in self.faults if FAULTS[kind].needs != "arrival")

    @property
    def shadows(self) -> int:
        """Workers of another model."""
        return min(self.workers, MOST_SHADOWS) if "hand_over" in self.faults else 0

    @property
    def session_timeout_s(self) -> float:
        return LONG_SESSION_S if "transaction_timeout" in self.faults else SESSION_S

    def settings(self) -> dict[str, Any]:
        """Settings of workers and sinks that differ from the defaults. The watchdog is off: it would add events."""
        return {
            "commit_interval_s": self.commit_interval_s,
            "batch_max_records": self.batch_max_records,
            "standby_replicas": self.standby_replicas,
            "session_timeout_s": self.session_timeout_s,
            "heartbeat_interval_s": 0.5,
            "watchdog": False,
            "state_memory_mib": 8,
            "sink_retry_s": 0.3,
        }


def _drawn(chance: random.Random) -> tuple[str, ...]:
    """One to three kinds of fault beside `ALWAYS`, and in one of three runs one of the arrival of events."""
    others = [kind for kind, fault in FAULTS.items() if fault.needs not in ("arrival", "shadow") and kind not in ALWAYS]
    arrivals = [kind for kind, fault in FAULTS.items() if fault.needs == "arrival"]
    chosen = chance.sample(others, chance.choice([1, 2, 2, 3]))
    if "transaction_timeout" in chosen:
        # Its session is long, and what else needs a short one would take as long.
        chosen = [kind for kind in chosen if kind not in COSTLY or kind == "transaction_timeout"]
    arrival = chance.sample(arrivals, 1) if chance.random() < 1 / 3 else []
    hands_over = chance.random() < HAND_OVER_SHARE and "forgetting" not in arrival
    return (*ALWAYS, *chosen, *arrival, *(["hand_over"] if hands_over else []))
