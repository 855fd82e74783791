"""The status of a running deployment, from a real broker and database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from typer.testing import CliRunner

from foreshock import app
from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.doctor import examine
from stream.kafka.clients import open_admin
from stream.kafka.provisioning import specifications
from stream.kafka.recent_records import RecentRecords
from stream.settings import load_settings

Deploy = Callable[..., Any]


def arguments(deployment: Any, *given: str) -> list[str]:
    settings = deployment.settings
    where = {
        "--bootstrap-servers": str(deployment.kafka),
        "--topic-prefix": settings.topic_prefix,
        "--application-id": settings.application_id,
    }
    return ["status", *given, *(part for pair in where.items() for part in pair)]


def test_a_running_deployment_on_one_screen(deploy: Deploy, database: DatabaseConnection) -> None:
    deployment = deploy(watchdog=False)
    migration.upgrade(database)
    deployment.publish(open_dataset("simulator", users=30, months=12, seed=3).events())
    deployment.send_raw("activity", [(b"u", b"no event"), (b"u", b"{}")])
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
        found = CliRunner().invoke(
            app, arguments(deployment, "--json", "--interval", "0.5", "--database-url", database.url)
        )
    assert found.exit_code == 0, found.output
    status = json.loads(found.stdout)
    assert len(status["cluster"]["brokers"]) == 1
    assert status["workers"]["state"] == "Stable"
    (member,) = status["workers"]["members"]
    assert member["partitions"] == list(range(deployment.settings.partitions))
    assert status["sink"]["members"] == []
    assert {lag["topic"]: lag["records"] for lag in status["lag"]} == dict.fromkeys(deployment.topics.inputs, 0)
    behind = {lag["topic"]: lag["records"] for lag in status["sink_lag"]}
    assert behind[deployment.topics.scores] >= len(deployment.records(deployment.topics.scores))
    assert time.time() * 1000 - status["scoring"]["committed_ms"] < 120_000
    assert len(status["scoring"]["models"]) == 1
    assert len(status["alerts"]["policies"]) == 1
    assert len(status["alerts"]["alerts"]) == 5
    assert status["refusals"] == {"by_reason": {"not_json": 1, "missing_field": 1}, "whole": True}
    assert status["database"]["revision"] == status["database"]["needed"]

    shown = CliRunner().invoke(app, arguments(deployment, "--interval", "0"))
    assert "1 not_json, 1 missing_field" in shown.stdout
    assert "group" in shown.stdout

    examined = {finding.subject: finding for finding in examine(deployment.settings, deployment.kafka, None)}
    assert {examined[subject].level for subject in ("states", "order journal", "retention")} == {"ok"}

    scores = deployment.topics.scores
    with RecentRecords(deployment.kafka) as records:
        everything = {(each.partition, each.offset) for each in deployment.records(scores)}
        last = records.last(scores, 3)
        expected = sorted(everything)
        for partition in range(deployment.settings.partitions):
            of_partition = [place for place in expected if place[0] == partition]
            assert [(each.partition, each.offset) for each in last if each.partition == partition] == of_partition[-3:]
        (partition, offset) = expected[0]
        assert records.at(scores, partition, offset).offset == offset
        assert records.at(scores, partition, 1_000_000) is None
        assert records.at("no-such-topic", 0, 0) is None
        firsts = dict.fromkeys(records.partitions(scores), 0)
        begun_s = time.monotonic()
        for _ in range(3):
            assert {(tp.partition, each.offset) for tp, each in records.first(firsts).items()} <= everything
            assert records.first(firsts).keys() == {tp for tp in firsts if tp.partition in {p for p, _ in everything}}
        assert time.monotonic() - begun_s < 10, "the same place may be looked at again"


def things_on_the_broker(deployment: Any) -> set[tuple[str, str]]:
    """Topics and consumer groups that are the deployment's, or are named as without its prefix and application id.

    Not of the whole broker: tests beside this one make and delete theirs.
    """
    unnamed = load_settings(bootstrap_servers=deployment.kafka.bootstrap_servers)
    default_names = {unnamed.application_id, *(topic.name for topic in specifications(unnamed))}

    def is_ours(name: str) -> bool:
        return deployment.owns(name) or name in default_names

    admin = open_admin(deployment.kafka)
    try:
        names = [("topic", name) for name in admin.list_topics()]
        names += [("group", group["group_id"]) for group in admin.list_groups()]
    finally:
        admin.close()
    return {(kind, name) for kind, name in names if is_ours(name)}


def test_watching_ends_with_an_interrupt_and_makes_nothing(deploy: Deploy) -> None:
    deployment = deploy()
    before = things_on_the_broker(deployment)
    assert ("topic", deployment.topics.scores) in before
    with subprocess.Popen(
        [sys.executable, "-m", "foreshock", *arguments(deployment, "--watch", "--json", "--interval", "0.5")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "FORESHOCK_STACK_DIR": "no-such-stack"},
    ) as watching:
        try:
            assert watching.stdout is not None
            first, second = (json.loads(watching.stdout.readline()) for _ in range(2))
            assert first["workers"]["members"] == []
            assert first["lag"][0]["arriving_per_s"] is None
            assert second["lag"][0]["arriving_per_s"] == 0
            watching.send_signal(signal.SIGINT)
            _, errors = watching.communicate(timeout=30)
        finally:
            watching.kill()
    assert watching.returncode == 0
    assert errors == b""
    assert things_on_the_broker(deployment) == before
