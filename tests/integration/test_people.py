"""A borrower is handed out and forgotten on the real broker and database, and everybody else stays as they were."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.chaos.oracle import Published, judge
from events.types import Activity, Event
from foreshock import app
from foreshock.replay_run import follow_in_processes
from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.outputs import forgotten_by
from stream.replay.diff import diff_with_live
from stream.replay.plan import plan_replay
from stream.replay.range import ReplayRange
from stream.replay.run import prepare_topics
from stream.replay.user_events import read_events
from stream.sink import sink_group

Deploy = Callable[..., Any]
USER, OTHER = "u0000003", "u0000005"
TABLES = ("user_scores", "score_history", "alerts", "alert_events", "contracts", "contract_products", "dead_letters")


def rows_by_user(database: DatabaseConnection) -> dict[str, dict[str, int]]:
    """How many rows each table has of USER, of OTHER and of the rest."""
    found = {}
    with database.connect() as connection:
        for table in TABLES:
            of = "convert_from(key, 'utf8')" if table == "dead_letters" else "user_id"
            rows = connection.execute(f"SELECT {of}, count(*) FROM {table} GROUP BY 1").fetchall()  # type: ignore[arg-type]
            counts = {str(user): int(str(count)) for user, count in rows}
            found[table] = {"user": counts.pop(USER, 0), "others": sum(counts.values())}
    return found


def stored(deployment: Any) -> bool:
    outputs = deployment.topics.read_by_sink()
    return bool(
        deployment.committed(sink_group(deployment.settings.application_id), outputs) == deployment.size(*outputs)
    )


def command(deployment: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What a command prints; it must succeed."""
    for name, value in {**deployment.options, "bootstrap_servers": deployment.kafka.bootstrap_servers}.items():
        monkeypatch.setenv(f"FORESHOCK_{name.upper()}", str(value))
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def exported(deployment: Any, monkeypatch: pytest.MonkeyPatch, out: Path) -> Any:
    said = command(deployment, monkeypatch, "export", USER, "--out", str(out))
    assert f"wrote {out}" in said
    assert out.stat().st_mode & 0o077 == 0, "nobody else may read it"
    document = json.loads(out.read_text())
    assert document["user_id"] == USER
    return document


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_borrower_is_forgotten_and_may_come_back(
    deploy: Deploy, database: DatabaseConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_disk: bool
) -> None:
    disk = {"state_dir": tmp_path / "state"} if on_disk else {}
    deployment = deploy(database_url=database.url, watchdog=False, partitions=2, **disk)
    migration.upgrade(database)
    topics = deployment.topics
    deployment.publish(open_dataset("simulator", users=40, months=8, seed=11).events())
    deployment.send_raw("activity", [(USER.encode(), b"not an event"), (OTHER.encode(), b"nor this")])
    with deployment.running("sink") as sink:
        with deployment.running("worker") as worker:
            deployment.wait_until_scored(worker)
            deployment.wait(lambda: stored(deployment), "storing", sink)
            before = rows_by_user(database)
            held_in = ("user_scores", "score_history", "contracts", "contract_products", "dead_letters")
            assert min(before[table]["user"] for table in held_in) > 0
            held = exported(deployment, monkeypatch, tmp_path / "before.json")
            assert held["states"][0]["scored_events"] == len(held["topics"][topics.scores]["records"]) > 10
            assert len(held["topics"][topics.dead_letters]["records"]) == 1
            assert {row["table"] for row in held["database"]} >= {"user_scores", "score_history", "dead_letters"}

            archive = str(tmp_path / "archive")
            command(deployment, monkeypatch, "archive", "export", archive)
            said = command(deployment, monkeypatch, "forget", USER, "--yes", "--archive", archive)
            assert "records erased in" in said
            assert f"{archive} holds nothing of the user but tombstones" in said
            assert f"forgot '{USER}'" in said
            assert f"score_history: {before['score_history']['user']} rows deleted" in said
            assert "dead_letters: 1 rows deleted" in said
            assert "retention.ms" in said
            assert topics.scores in said
            deployment.wait(lambda: stored(deployment), "storing", sink)
            deployment.kill(worker)
        after = rows_by_user(database)
        assert {table: counts["others"] for table, counts in after.items()} == {
            table: counts["others"] for table, counts in before.items()
        }
        assert {counts["user"] for counts in after.values()} == {0}

        days = [dt.datetime(2024, 6, day, tzinfo=dt.UTC) for day in (1, 2, 3)]
        again: list[Event] = [
            Activity(event_id=f"again-{at.day}", user_id=USER, occurred_at=at, kind="session") for at in days
        ]
        deployment.publish(again)
        with deployment.running("worker", "successor") as worker:
            deployment.wait_until_scored(worker)
        deployment.wait(lambda: stored(deployment), "storing", sink)

    told = [record for record in deployment.records(topics.scores) if forgotten_by(record.value, record.headers)]
    assert {record.partition for record in told} == {0, 1}, "wherever a producer's partitioner may have put them"
    for topic in topics.compacted_by_user:
        tombstones = [record for record in deployment.records(topic) if forgotten_by(record.value, record.headers)]
        assert {(record.key, record.partition) for record in tombstones} == {(USER.encode(), 0), (USER.encode(), 1)}
    verdict = judge(Published.read(deployment.kafka, deployment.settings), deployment.settings)
    assert verdict.is_right, verdict
    assert rows_by_user(database)["score_history"]["user"] == len(again)
    with database.connect() as connection:
        rows = connection.execute("SELECT sequence FROM user_scores WHERE user_id = %s", (USER,)).fetchall()
    assert rows == [(len(again),)]
    (state,) = exported(deployment, monkeypatch, tmp_path / "after.json")["states"]
    assert state["scored_events"] == len(again)

    assert read_events(deployment.kafka, topics, deployment.settings.application_id, USER) == again, (
        "explanations know nothing of the time before"
    )
    if on_disk:
        return
    whole = ReplayRange("whole", dt.datetime(2000, 1, 1, tzinfo=dt.UTC), dt.datetime(2100, 1, 1, tzinfo=dt.UTC))
    plan = plan_replay(deployment.kafka, deployment.settings, whole)
    prepare_topics(deployment.kafka, deployment.settings, plan, overwrite=True, go_on=False)
    replayed = follow_in_processes(deployment.kafka, deployment.settings, plan, 1, None, lambda _done, _total: None)
    assert replayed["of_forgotten_users"] > 10
    diff = diff_with_live(deployment.kafka, deployment.settings, whole)
    assert not diff.differs, diff
    assert diff.compared_scores > 1_000


def test_without_a_worker_it_is_said_that_nobody_is_forgotten_yet(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = deploy(partitions=1)
    monkeypatch.setenv("FORESHOCK_BOOTSTRAP_SERVERS", deployment.kafka.bootstrap_servers)
    for name, value in deployment.options.items():
        monkeypatch.setenv(f"FORESHOCK_{name.upper()}", str(value))
    result = CliRunner().invoke(app, ["forget", USER, "--yes", "--without-database", "--wait", "0", "--json"])
    assert result.exit_code == 1
    assert "is not forgotten yet" in result.stderr
    told = json.loads(result.stdout)
    assert (told["user"], told["rows"], told["waits_for_partitions"]) == (USER, {}, [0])
    assert deployment.topics.scores in told["topics"]
    (tombstone,) = deployment.records(deployment.topics.of_kind("profiles"))
    assert (tombstone.key, tombstone.value) == (USER.encode(), None)
