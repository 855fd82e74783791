"""Workers killed and stopped at random: what they publish and keep is what one of them, undisturbed, would have."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from model.datasets.sources import open_dataset

Deploy = Callable[..., Any]
ROUNDS = 3
KILLED_SHARE = 0.5


# Long, and what it runs is covered by `test_worker`.
@pytest.mark.no_cover
@pytest.mark.slow
@pytest.mark.parametrize(("seed", "on_disk", "standby_replicas"), [(1, False, 0), (2, True, 0), (3, True, 1)])
def test_whatever_happens_to_workers(
    deploy: Deploy, tmp_path: Path, seed: int, on_disk: bool, standby_replicas: int
) -> None:
    """One or two workers at a time, a few seconds each, in the middle of a backlog."""
    chance = random.Random(seed)
    deployment = deploy(
        watchdog=False,
        batch_max_records=chance.choice([100, 300, 1_000]),
        standby_replicas=standby_replicas,
        session_timeout_s=2.0,
        heartbeat_interval_s=0.5,
    )
    published = deployment.publish(open_dataset("simulator", users=120, months=8, seed=seed).events())
    disks = [
        {"state_dir": tmp_path / name, "resident_users": 60, "state_memory_mib": 8} if on_disk else {}
        for name in ("one", "two")
    ]
    for number in range(ROUNDS):
        with ExitStack() as running:
            workers = []
            for name, disk in chance.sample(list(enumerate(disks)), chance.choice([1, 2])):
                workers.append(running.enter_context(deployment.running("worker", f"{number}-{name}", **disk)))
                time.sleep(chance.uniform(0, 1.5))
            time.sleep(chance.uniform(1, 3))
            for worker in workers:
                if chance.random() < KILLED_SHARE:
                    deployment.kill(worker)
                else:
                    worker.stop()
    with deployment.running("worker", "last", **disks[0]) as worker:
        deployment.wait_until_scored(worker)

    outcome = deployment.outcome()
    assert len(outcome.scores) == published
    assert outcome.differences(deployment.undisturbed()) == ""
