"""Workers and sinks on a broker that is new, and without one: quiet while they start and while they wait, at work when
it is back, ended when it is not."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.embedded.kafka import EmbeddedKafka
from stream.embedded.server import free_ports
from stream.topics import sink_group

Deploy = Callable[..., Any]
WATCHED_S = 8.0
MOST_LINES = 40
"""Lines logged by the libraries in `WATCHED_S`: a spinning worker wrote thousands."""

MOST_CORES = 0.25


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A broker that a test may stop."""
    kafka = EmbeddedKafka(tmp_path / "kafka")
    kafka.start()
    yield kafka
    kafka.stop()


def events(seed: int) -> list[Any]:
    return list(open_dataset("simulator", users=30, months=3, seed=seed).events())


def test_a_broker_that_stays_away_ends_worker_and_sink_quietly(
    broker: EmbeddedKafka, deploy_on: Deploy, database: DatabaseConnection
) -> None:
    migration.upgrade(database)
    deployment = deploy_on(broker.connection, broker_timeout_s=20, database_url=database.url)
    with deployment.running("worker") as worker, deployment.running("sink", log_format="json") as sink:
        deployment.publish(events(1))
        deployment.wait_until_scored(worker)
        outputs = (deployment.topics.scores, deployment.topics.alerts, deployment.topics.dead_letters)
        group = sink_group(deployment.settings.application_id)
        deployment.wait(lambda: deployment.committed(group, outputs) == deployment.size(*outputs), "storing", sink)
        # A broker that has just been made has no coordinators yet, and topics that nobody has asked for.
        lines = worker.log_text().splitlines()
        assert all(re.match(r"\S+ \S+ INFO ", line) for line in lines), worker.log_text()
        written = [json.loads(line) for line in sink.log_text().splitlines()]
        assert {line["level"] for line in written} == {"INFO"}, sink.log_text()
        named = {event.user_id for event in events(1)}
        assert not any(user_id in worker.log_text() + sink.log_text() for user_id in named)
        broker.stop()
        time.sleep(2)
        for process in (worker, sink):
            lines, used_s = len(process.log_text().splitlines()), cpu_s(process)
            time.sleep(WATCHED_S)
            assert process.alive
            assert len(process.log_text().splitlines()) - lines < MOST_LINES, process.log_tail(60)
            assert cpu_s(process) - used_s < MOST_CORES * WATCHED_S
        for process in (worker, sink):
            deployment.wait(lambda process=process: not process.alive, f"the end of the {process.name}", seconds=60)
            assert "no broker could be reached for 20 s (broker_timeout_s)" in process.log_text()
            assert "stops: BrokersUnreachable" in process.log_text()


def test_a_broker_that_comes_back_finds_the_worker_there(broker: EmbeddedKafka, deploy_on: Deploy) -> None:
    deployment = deploy_on(broker.connection, broker_timeout_s=240)
    deployment.publish(events(1))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
        broker.stop()
        time.sleep(5)
        broker.start()
        deployment.publish(events(2))
        deployment.wait_until_scored(worker)


@pytest.mark.parametrize("command", ["worker", "sink"])
def test_a_start_without_a_broker_ends_in_words(deploy: Deploy, database: DatabaseConnection, command: str) -> None:
    (port,) = free_ports(1)
    deployment = deploy(database_url=database.url)
    with deployment.running(command, bootstrap_servers=f"127.0.0.1:{port}") as process:
        deployment.wait(lambda: not process.alive, "the end of the process", seconds=60)
        assert f"{command} stops: no Kafka broker answers at its start" in process.log_text()
        assert "start it again when the brokers are up" in process.log_text()


def cpu_s(process: Any) -> float:
    times = psutil.Process(process.identity.pid).cpu_times()
    return float(times.user + times.system)
