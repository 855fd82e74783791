"""One seeded run from its plan to the verdict: topics, workers, events, disturbances, and at last quiet."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

from bench.arena import Arena
from bench.chaos.conductor import Conductor
from bench.chaos.feed import feeding
from bench.chaos.oracle import Published, Verdict, judge
from bench.chaos.plan import Plan
from stream.kafka.clients import open_admin
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings

SETTLE_LIMIT_S = 180.0


@dataclass(frozen=True)
class Outcome:
    """A run's plan, what was done to its workers, and what came of it. `settled` is False when lag stayed."""

    plan: Plan
    disturbances: dict[str, int]
    settled: bool
    verdict: Verdict
    seconds: float
    logs: str = ""

    @property
    def is_right(self) -> bool:
        return self.settled and self.verdict.is_right

    def as_report(self) -> dict[str, Any]:
        """JSON-ready figures; the logs only of a run that went wrong."""
        found = asdict(self) | {"right": self.is_right}
        if self.is_right:
            del found["logs"]
        return found


def run(kafka: KafkaConnection, settings: Settings, plan: Plan, folder: Path, name: str) -> Outcome:
    """Do one run on topics of its own under the prefix `name`, which are deleted again."""
    begun_s = time.monotonic()
    with Arena(kafka, settings.model_copy(update=plan.settings()), name, folder) as arena:
        with feeding(kafka, arena.settings, plan) as done, Conductor(arena, plan) as conductor:
            conductor.disturb(done)
            settled = _settle(kafka, arena, conductor)
            logs = conductor.log_tails()
        verdict = judge(Published.read(kafka, arena.settings), arena.settings)
    return Outcome(plan, dict(conductor.counts), settled, verdict, round(time.monotonic() - begun_s, 1), logs)


def _settle(kafka: KafkaConnection, arena: Arena, conductor: Conductor) -> bool:
    """Leave the workers alone until all that the inputs hold is committed; False when that does not happen in time."""
    deadline_s = time.monotonic() + SETTLE_LIMIT_S
    while time.monotonic() < deadline_s:
        conductor.revive()
        if _committed(kafka, arena) == arena.watch.size(*arena.topics.inputs):
            return True
        time.sleep(0.5)
    return False


def _committed(kafka: KafkaConnection, arena: Arena) -> int:
    """Sum of the group's committed offsets in the input topics."""
    group, inputs = arena.settings.application_id, set(arena.topics.inputs)
    admin = open_admin(kafka)
    try:
        offsets = admin.list_group_offsets({group: None}).get(group, {})
        return sum(max(found.offset, 0) for tp, found in offsets.items() if tp.topic in inputs)
    except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
        return 0  # a new broker has no groups yet
    finally:
        admin.close()
