"""Events that arrive as they do in life, while workers are killed and frozen, against an oracle.

The short form of `make chaos`, and beside it kills at steps of a commit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.chaos.fault_points import ANNOUNCEMENT
from bench.chaos.feed import feeding
from bench.chaos.oracle import Published, judge
from bench.chaos.plan import ALWAYS, SESSION_S, Plan
from bench.chaos.run import run
from bench.chaos.servers import Servers
from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.kafka.connection import KafkaConnection
from stream.settings import load_settings
from tests import forked
from tests.forked import ForkedProcess

Deploy = Callable[..., Any]
LIVE = replace(
    Plan.of(1, 3_000), workers=2, users=150, backlog_share=0.0, events_per_s=250.0, late_share=0.05, twice_share=0.02,
    topic_skew_s=1.5, jitter_s=0.1, pause_s=(0.3, 2.5), freeze_share=0.25, on_disk=False, standby_replicas=0,
    faults=ALWAYS, sinks=0,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize(
    "plan",
    [
        replace(LIVE, seed=11),
        replace(LIVE, seed=12, on_disk=True, resident_users=20),
        replace(LIVE, seed=13, standby_replicas=1, backlog_share=0.5),
    ],
    ids=["memory", "disk", "standby"],
)
def test_live_arrival_under_kills_and_freezes(kafka: KafkaConnection, tmp_path: Path, plan: Plan) -> None:
    with Servers(tmp_path, kafka) as servers:
        outcome = run(servers, load_settings(), plan, tmp_path, f"chaos{plan.seed}", ForkedProcess)
    assert outcome.is_right, outcome.as_report()
    assert sum(outcome.disturbances.get(name, 0) for name in ("kills", "freezes", "stops")) >= 2
    assert outcome.verdict.scores > 0.75 * plan.events


@pytest.mark.parametrize("step", ["rows", "offsets", "commit", "committed"])
def test_killed_at_a_step_of_the_commit(deploy: Deploy, step: str) -> None:
    deployment = deploy(watchdog=False, session_timeout_s=SESSION_S, heartbeat_interval_s=0.5)
    plan = replace(LIVE, seed=21, users=60, events=700, events_per_s=120.0)
    fault = f"from bench.chaos.fault_points import arm\narm({step!r}, {2 if step == 'rows' else 6})"
    with feeding(deployment.kafka, deployment.settings, plan) as done:
        with deployment.running("worker", "dies", fault=fault) as worker:
            deployment.wait(lambda: not worker.alive, "the fault")
            assert f"{ANNOUNCEMENT} ends at {step!r}" in worker.log_text()
        with deployment.running("worker", "successor") as worker:
            deployment.wait(done.is_set, "the events", worker)
            deployment.wait_until_scored(worker)
    verdict = judge(Published.read(deployment.kafka, deployment.settings), deployment.settings)
    assert verdict.is_right, verdict


HANGS = """
import time
from stream.worker.engine import Engine
taken = []
async def hangs(self, poll, original=Engine.take):
    taken.extend(poll.records)
    if len(taken) > 8:
        time.sleep(600)
    return await original(self, poll)
Engine.take = hangs
"""


def test_a_worker_that_hangs_gives_its_partitions_up(deploy: Deploy) -> None:
    """Its consumer's thread goes on telling the group that it is alive."""
    deployment = deploy(watchdog=False, session_timeout_s=SESSION_S, heartbeat_interval_s=0.5, stall_timeout_s=5)
    plan = replace(LIVE, seed=31, users=60, events=600)
    with (
        feeding(deployment.kafka, deployment.settings, plan),
        deployment.running("worker", "hangs", fault=HANGS) as worker,
    ):
        deployment.wait(lambda: not worker.alive, "the end of the worker that hangs", seconds=60)
        assert "its event loop has hung for 5 s" in worker.log_text()
        assert "in hangs" in worker.log_text(), "where it hung"
    with deployment.running("worker", "successor") as worker:
        deployment.wait_until_scored(worker)
    verdict = judge(Published.read(deployment.kafka, deployment.settings), deployment.settings)
    assert verdict.is_right, verdict


def test_waits_that_the_clock_ended_are_replayed_as_they_were(
    deploy: Deploy, database: DatabaseConnection, tmp_path: Path
) -> None:
    """Topics lag behind each other and nobody waits, so that events are taken in another order than that of their time:
    a replay takes them in the same one."""
    migration.upgrade(database)
    deployment = deploy(watchdog=False, merge_idle_ms=0, batch_max_records=50)
    events = list(open_dataset("simulator", users=40, months=8, seed=14).events())
    deployment.publish(events)
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    assert deployment.differences() != "", "a wait for a topic that lags was ended by the clock"
    verdict = judge(Published.read(deployment.kafka, deployment.settings), deployment.settings)
    assert verdict.is_right, verdict

    report = tmp_path / "replay.json"
    of_deployment = [
        "--bootstrap-servers", str(deployment.kafka), "--topic-prefix", deployment.topics.prefix,
        "--application-id", deployment.settings.application_id, "--database-url", database.url,
    ]  # fmt: skip
    asked = ["replay", "run", "lagged", "--from", "2000-01-01", "--to", "2100-01-01"]
    for command in (asked, ["replay", "diff", "lagged", "--report", str(report)]):
        done = forked.run([*command, *of_deployment])
        assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(report.read_text())
    assert figures["differs"] is False
    assert figures["compared_scores"] == figures["identical_scores"] == len(events)
