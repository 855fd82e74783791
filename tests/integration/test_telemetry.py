"""A worker and a sink tell of their health and figures while they work, wait and hang."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql

from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.embedded.server import ServerProcess
from stream.telemetry.catalogue import METRICS
from stream.topics import sink_group

Deploy = Callable[..., Any]


class Answer(NamedTuple):
    """To one request; `told` is the JSON of a probe."""

    status: int
    body: str

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


def ask(process: ServerProcess, path: str) -> Answer:
    """What the process answers; status 0 where nobody listens (yet)."""
    address = re.search(r"metrics: http://([\d.]+):(\d+)/metrics", process.log_text())
    if address is None:
        return Answer(0, "")
    connection = http.client.HTTPConnection(address[1], int(address[2]), timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode())
    except OSError:
        return Answer(0, "")
    finally:
        connection.close()


def reason(process: ServerProcess) -> str | None:
    """Why it is ready or not; None where it does not answer yet."""
    answer = ask(process, "/readyz")
    return str(answer.told["reason"]) if answer.status else None


def figures(process: ServerProcess) -> dict[str, float]:
    """Values by name, or by name and the values of labels."""
    text = ask(process, "/metrics").body
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {s.name for s in samples if s.name.startswith("foreshock_")} <= {
        name for metric in METRICS.values() for name in metric.sample_names
    }
    return {" ".join((sample.name, *sample.labels.values())): sample.value for sample in samples}


@contextmanager
def taking_no_connections(server: DatabaseConnection, database: DatabaseConnection) -> Iterator[None]:
    """A database that is away."""
    change = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    name = sql.Identifier(urlsplit(database.url).path[1:])
    with server.connect() as operator:
        operator.execute(change.format(name, sql.SQL("false")))
        try:
            yield
        finally:
            operator.execute(change.format(name, sql.SQL("true")))


def worker_tells(worker: ServerProcess, deployment: Any, events: int) -> None:
    partitions = deployment.settings.partitions
    deployment.wait(lambda: ask(worker, "/readyz").status == 200, "readiness", worker)
    assert ask(worker, "/readyz").told["reason"] == f"works on {partitions} partitions"
    assert ask(worker, "/livez").told["status"] == "live"
    found = figures(worker)
    assert found["foreshock_events_total scored"] == found["foreshock_score_count"] == events
    assert found["foreshock_dead_letters_total not_json"] == found["foreshock_events_total refused"] == 1
    assert found["foreshock_event_to_score_seconds_count"] == events
    assert found["foreshock_poll_to_score_seconds_bucket +Inf"] == events
    assert found["foreshock_partitions_restored"] == found["foreshock_partitions_owned"] == partitions
    assert found["foreshock_commit_seconds_count"] > 0
    lag = [value for name, value in found.items() if name.startswith("foreshock_lag_records ")]
    assert lag == [0] * len(deployment.topics.inputs) * partitions


def sink_tells(sink: ServerProcess, deployment: Any, events: float) -> None:
    outputs = deployment.topics.read_by_sink()
    found = figures(sink)
    assert found["foreshock_sink_records_total scores"] == events
    assert found["foreshock_sink_records_total dead_letters"] == 51
    assert found["foreshock_sink_batch_seconds_count"] > 0
    assert found["foreshock_database_schema_current"] == 1
    assert found["foreshock_database_unreachable_seconds"] == 0
    lag = [value for name, value in found.items() if name.startswith("foreshock_sink_lag_records ")]
    assert lag == [0] * len(outputs) * deployment.settings.partitions


def series_do_not_grow_with_users(worker: ServerProcess, deployment: Any) -> None:
    """What more users, contracts and foul records add is the fixed values of labels that were not seen before."""
    before = set(figures(worker))
    users = open_dataset("simulator", users=120, months=3, seed=12)
    deployment.publish(users.events())
    deployment.send_raw("activity", [(f"foul-{n}".encode(), f"foul {n}".encode()) for n in range(50)])
    deployment.wait_until_scored(worker)
    deployment.wait(lambda: figures(worker)["foreshock_dead_letters_total not_json"] == 51, "foul records", worker)
    grown = {name.split()[0] for name in set(figures(worker)) - before}
    assert grown <= {"foreshock_alerts_total", "foreshock_dead_letters_total"}
    assert not re.search(r"foul|user", " ".join(name.partition(" ")[2] for name in figures(worker)))


def test_worker_and_sink_tell_of_their_work(
    deploy: Deploy, database: DatabaseConnection, server_database: DatabaseConnection
) -> None:
    migration.upgrade(database)
    deployment = deploy(database_url=database.url, watchdog=False, metrics_port=0, sink_retry_s=0.2)
    events = deployment.publish(open_dataset("simulator", users=40, months=6, seed=11).events())
    deployment.send_raw("activity", [(b"u", b"not an event")])
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
        worker_tells(worker, deployment, events)
        series_do_not_grow_with_users(worker, deployment)
        scored = figures(worker)["foreshock_events_total scored"]
    with taking_no_connections(server_database, database), deployment.running("sink") as sink:
        deployment.wait(lambda: "is not available" in ask(sink, "/readyz").body, "the outage to be told", sink)
        assert ask(sink, "/readyz").status == 503
        assert ask(sink, "/livez").status == 200, "to start it again would not help"
    with deployment.running("sink", "sink-2") as sink:
        deployment.wait(lambda: ask(sink, "/readyz").status == 200, "readiness", sink)
        group, outputs = sink_group(deployment.settings.application_id), deployment.topics.read_by_sink()
        deployment.wait(lambda: deployment.committed(group, outputs) == deployment.size(*outputs), "storing", sink)
        sink_tells(sink, deployment, scored)


HANGS = """
import asyncio, pathlib, time
from stream.kafka.transactions import Transaction
from stream.worker.engine import Engine
take, commit = Engine.take, Transaction.commit
async def hanging_take(self, poll):
    while pathlib.Path({loop!r}).exists():
        time.sleep(0.1)
    return await take(self, poll)
async def hanging_commit(self, *told):
    while pathlib.Path({commit!r}).exists():
        await asyncio.sleep(0.1)
    return await commit(self, *told)
Engine.take, Transaction.commit = hanging_take, hanging_commit
"""


def test_who_is_too_many_stands_by_and_what_hangs_is_not_live(deploy: Deploy, tmp_path: Path) -> None:
    deployment = deploy(watchdog=False, metrics_port=0, stall_timeout_s=8, liveness_timeout_s=5, partitions=1)
    loop, commit = tmp_path / "loop", tmp_path / "commit"
    fault = HANGS.format(loop=str(loop), commit=str(commit))
    with deployment.running("worker", fault=fault) as worker:
        deployment.wait(lambda: ask(worker, "/readyz").status == 200, "readiness", worker)
        with deployment.running("worker", "spare") as spare:
            expected = {"stands by: all partitions are others'", "works on 1 partition"}
            deployment.wait(lambda: {reason(worker), reason(spare)} == expected, "one to stand by", spare)
        deployment.wait(lambda: reason(worker) == "works on 1 partition", "the worker to have it back", worker)

        loop.touch()
        deployment.wait(lambda: ask(worker, "/livez").status == 503, "the loop's hang to be noticed", worker)
        assert ask(worker, "/livez").told["reason"].startswith("its event loop has not turned for")
        loop.unlink()
        deployment.wait(lambda: ask(worker, "/livez").status == 200, "the loop to turn", worker)

        commit.touch()
        deployment.send_raw("activity", [(b"u", b"not an event")])
        deployment.wait(lambda: ask(worker, "/livez").status == 503, "the commit's hang to be noticed", worker)
        assert ask(worker, "/livez").told["reason"].startswith("there is work, and nothing was committed for")
        assert ask(worker, "/readyz").status == 200
        commit.unlink()
        deployment.wait(lambda: ask(worker, "/livez").status == 200, "the commit", worker)
