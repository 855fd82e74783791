"""Replay of what was scored live: nothing differs under the same bundle, and what differs is told."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.database.replay_runs import find
from stream.outputs import Score
from tests import forked

Deploy = Callable[..., Any]


def command(
    deployment: Any, database: DatabaseConnection, *arguments: str, application_id: str | None = None
) -> list[str]:
    return [
        *arguments,
        "--bootstrap-servers", str(deployment.kafka),
        "--topic-prefix", deployment.topics.prefix,
        *(() if arguments[1] == "plan" else ("--database-url", database.url)),
        "--application-id", application_id or deployment.settings.application_id,
    ]  # fmt: skip


def foreshock(
    deployment: Any, database: DatabaseConnection, *arguments: str, **options: Any
) -> subprocess.CompletedProcess[str]:
    return forked.run(command(deployment, database, *arguments, **options))


@pytest.fixture
def database(database: DatabaseConnection) -> DatabaseConnection:
    """A database with its tables."""
    migration.upgrade(database)
    return database


@pytest.fixture(scope="module")
def live(deploy_shared: Deploy) -> Any:
    """A portfolio published while a worker with the watchdog runs, so that topics interleave as they come."""
    deployment = deploy_shared(batch_max_records=200)
    events = list(open_dataset("simulator", users=60, months=8, seed=21).events())
    with deployment.running("worker") as worker:
        for start in range(0, len(events), 750):
            deployment.publish(events[start : start + 750])
        deployment.wait_until_scored(worker)
        deployment.wait_until_scored(worker)
    return deployment


def test_the_same_bundle_differs_in_nothing(live: Any, database: DatabaseConnection, tmp_path: Path) -> None:
    """Over the whole history, over a part of it, and for a few users."""
    before = {topic: live.size(topic) for topic in live.topics.all}
    ranges = {
        "whole": ("2000-01-01", "2100-01-01", []),
        "part": ("2023-03-01", "2023-05-15", []),
        "few": ("2023-02-01", "2100-01-01", ["--users", "u0000003,u0000007,u0000044"]),
    }
    for name, (since, until, users) in ranges.items():
        run = foreshock(live, database, "replay", "run", name, "--from", since, "--to", until, *users, "--json")
        assert run.returncode == 0, run.stdout + run.stderr
        told = json.loads(run.stdout)
        assert (told["name"], told["went_on"]) == (name, False)
        report = tmp_path / f"{name}.json"
        diff = foreshock(live, database, "replay", "diff", name, "--report", str(report))
        assert diff.returncode == 0, diff.stdout + diff.stderr
        figures = json.loads(report.read_text())
        assert figures["differs"] is False
        assert figures["compared_scores"] == figures["identical_scores"] == told["counted_here"]["published_scores"] > 0
    assert json.loads((tmp_path / "whole.json").read_text())["compared_scores"] == len(live.records(live.topics.scores))
    assert {topic: live.size(topic) for topic in live.topics.all} == before, "live topics must stay as they are"
    recorded = find(database, "few")
    assert recorded is not None
    assert (recorded.status, len(recorded.users)) == ("finished", 3)


def test_another_policy_is_told_apart(
    live: Any, database: DatabaseConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORESHOCK_ALERT_DPD_BACKSTOP", "3")
    arguments = ("replay", "run", "--name", "strict", "--from", "2023-01-01", "--to", "2100-01-01")
    assert foreshock(live, database, *arguments).returncode == 0
    report = tmp_path / "strict.json"
    asked = ("replay", "diff", "strict", "--segment", "employment", "--report", str(report))
    diff = foreshock(live, database, *asked)
    assert diff.returncode == 3, diff.stdout + diff.stderr
    figures = json.loads(report.read_text())
    assert figures["moved"] == 0, "the policy does not change scores"
    by_employment = figures["segments"]["employment"]
    assert sum(each["scores"] for each in by_employment) == figures["compared_scores"]
    shifts = ("gained", "lost", "earlier", "later")
    assert sum(each["alerts"].get(shift, 0) for each in by_employment for shift in shifts) == sum(
        len(figures[f"alerts_{shift}"]) for shift in shifts
    )
    assert "employment" in diff.stdout
    assert figures["alerts_gained"] or figures["alerts_earlier"]
    with database.connect() as connection:
        query = "SELECT diff, compared_at >= finished_at FROM replay_runs WHERE name = 'strict'"
        kept, after = connection.execute(query).fetchone()
    assert after
    assert {name: kept[name] for name in ("moved", "compared_scores", "levels")} == {
        name: figures[name] for name in ("moved", "compared_scores", "levels")
    }
    assert kept["alerts_gained"] == len(figures["alerts_gained"])
    assert "most_moved" not in kept
    assert "u00" not in json.dumps(kept), "no borrower is named"
    again = foreshock(live, database, *arguments)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr
    assert foreshock(live, database, *arguments, "--overwrite").returncode == 0


def two_free_ports() -> int:
    """The first of two ports that follow each other and that nobody has."""
    for port in range(20_100, 32_000, 2):
        try:
            with socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", port + 1)):
                return port
        except OSError:
            continue
    raise AssertionError("no free ports")


def test_a_replay_that_is_killed_goes_on_where_it_was(
    live: Any, database: DatabaseConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, slowed down; nothing is published twice, and another policy is not mixed in."""
    asked = ("replay", "run", "killed", "--from", "2000-01-01", "--to", "2100-01-01", "--workers", "2")
    topic, port = live.topics.replay_scores("killed"), two_free_ports()
    slow = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "foreshock",
            *command(live, database, *asked, "--rate", "600", "--metrics-port", str(port)),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        live.wait(lambda: live.exists(topic) and live.size(topic) > 300, "some scores")
        for number in range(2):
            served = urllib.request.urlopen(f"http://127.0.0.1:{port + number}/metrics", timeout=10).read().decode()
            assert f'application="{live.settings.application_id}-replay-killed"' in served
    finally:
        slow.kill()
        slow.wait()
    published = live.size(topic)
    time.sleep(1.0)
    assert live.size(topic) < published + 2_000, "its workers ended with it"
    with monkeypatch.context() as patched:
        patched.setenv("FORESHOCK_ALERT_DPD_BACKSTOP", "3")
        other = foreshock(live, database, *asked)
        assert other.returncode == 1
        assert "exist from an earlier run, of another policy; choose another name" in other.stderr
    run = foreshock(live, database, *asked)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "going on with replay killed" in run.stdout
    report = tmp_path / "killed.json"
    diff = foreshock(live, database, "replay", "diff", "killed", "--report", str(report))
    assert diff.returncode == 0, diff.stdout + diff.stderr
    assert json.loads(report.read_text())["compared_scores"] == len(live.records(live.topics.scores))
    changelog = live.topics.changelog(f"{live.settings.application_id}-replay-killed")
    live.wait(lambda: not live.exists(changelog), "the replay's changelog to go")


def test_a_replay_is_killed_and_gone_on_with_while_events_arrive(deploy: Deploy, database: DatabaseConnection) -> None:
    """What it gives is what live workers had published when it was gone on with, and nothing else."""
    live = deploy(batch_max_records=200)
    events = list(open_dataset("simulator", users=60, months=8, seed=22).events())
    asked = ("replay", "run", "moving", "--from", "2000-01-01", "--to", "2100-01-01", "--workers", "2")
    topic = live.topics.replay_scores("moving")
    stopped = threading.Event()

    def publish() -> None:
        for start in range(1_500, len(events), 40):
            if stopped.wait(0.2):
                return
            live.publish(events[start : start + 40])

    with live.running("worker") as worker:
        live.publish(events[:1_500])
        live.wait_until_scored(worker)
        arriving = threading.Thread(target=publish)
        arriving.start()
        try:
            slow = subprocess.Popen(
                [sys.executable, "-m", "foreshock", *command(live, database, *asked, "--rate", "300")],
                stderr=subprocess.DEVNULL,
            )
            try:
                live.wait(lambda: live.exists(topic) and live.size(topic) > 200, "some scores")
            finally:
                slow.kill()
                slow.wait()
            before = Counter(record.value for record in live.records(live.topics.scores))
            run = foreshock(live, database, *asked)
            assert run.returncode == 0, run.stdout + run.stderr
            assert "going on with replay moving" in run.stdout
        finally:
            stopped.set()
            arriving.join()
        live.wait_until_scored(worker)
    after = Counter(record.value for record in live.records(live.topics.scores))
    replayed = Counter(record.value for record in live.records(topic))
    assert replayed.total() > 1_000
    # Ids alone: pytest takes long to show what thousands of records differ in.
    missing, strange = (sorted(ids_of(each))[:5] for each in (before - replayed, replayed - after))
    assert missing == [], "all that was there when it was gone on with"
    assert strange == [], "nothing else, and nothing twice"
    assert before != after, "events arrived meanwhile"


def ids_of(values: Counter[bytes]) -> list[str]:
    return [msgspec.json.decode(value, type=Score).score_id for value in values]


def test_without_a_journal_events_are_taken_by_their_time(live: Any, database: DatabaseConnection) -> None:
    asked = ("replay", "run", "timed", "--from", "2000-01-01", "--to", "2100-01-01")
    run = foreshock(live, database, *asked, application_id="nobody")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "there is no order journal nobody-order" in run.stderr
    recorded = find(database, "timed")
    assert recorded is not None
    assert recorded.counts["published_scores"] == len(live.records(live.topics.scores))


def test_a_plan_changes_nothing(live: Any, database: DatabaseConnection) -> None:
    asked = ("replay", "plan", "planned", "--from", "2000-01-01", "--to", "2100-01-01")
    shown = foreshock(live, database, *asked)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert f"{live.settings.application_id}-order" in shown.stdout
    told = json.loads(foreshock(live, database, *asked, "--json", "--workers", "2").stdout)
    assert told["partitions"] == live.settings.partitions
    assert told["offsets"] == sum(live.size(topic) for topic in live.topics.inputs)
    assert 0.9 * told["offsets"] < told["records_in_range"] <= told["offsets"], "all of them, by looking at some"
    assert told["lost"] == {}
    assert not live.exists(live.topics.replay_scores("planned"))


def test_scores_that_retention_has_taken_are_not_missed(
    live: Any, database: DatabaseConnection, tmp_path: Path
) -> None:
    """The order does not come from them, and what they were is not known any more."""
    run = foreshock(live, database, "replay", "run", "expired", "--from", "2000-01-01", "--to", "2100-01-01")
    assert run.returncode == 0, run.stdout + run.stderr
    before = len(live.records(live.topics.scores))
    live.delete_records(live.topics.scores, 100)
    gone = before - len(live.records(live.topics.scores))
    report = tmp_path / "expired.json"
    diff = foreshock(live, database, "replay", "diff", "expired", "--report", str(report))
    assert diff.returncode == 0, diff.stdout + diff.stderr
    figures = json.loads(report.read_text())
    assert figures["live_expired"] == gone > 0
    assert (figures["only_replayed"], figures["identical_scores"]) == (0, before - gone)


def test_a_run_that_is_not_on_record_is_named(live: Any, database: DatabaseConnection) -> None:
    diff = foreshock(live, database, "replay", "diff", "nobody")
    assert diff.returncode == 1
    assert "nobody" in diff.stderr


def test_what_others_wrote_into_the_outputs_is_left_out_and_told_of_once(
    live: Any, database: DatabaseConnection, tmp_path: Path
) -> None:
    """The last test of this deployment, whose topics are no longer as workers left them."""
    foreign = [None, b"\xff", b"{}", b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}"]
    for topic in ("scores", "alerts"):
        for partition in range(live.settings.partitions):
            live.send_raw(topic, [(b"u", value) for value in foreign], partition)
    count = len(foreign) * live.settings.partitions
    run = foreshock(live, database, "replay", "run", "foreign", "--from", "2000-01-01", "--to", "2100-01-01")
    assert run.returncode == 0, run.stdout + run.stderr
    live.send_raw("scores.replay.foreign", [(b"u", value) for value in foreign])
    report = tmp_path / "foreign.json"
    diff = foreshock(live, database, "replay", "diff", "foreign", "--report", str(report))
    assert diff.returncode == 0, diff.stdout + diff.stderr
    for topic in ("scores", "alerts"):
        assert diff.stderr.count(f".{topic}: {count} records are none of ours and are left out") == 1
    user_id = live.records(live.topics.of_kind("profiles"))[0].key.decode()
    arguments = (
        "--bootstrap-servers", str(live.kafka), "--topic-prefix", live.topics.prefix,
        "--application-id", live.settings.application_id,
    )  # fmt: skip
    explained = forked.run(["explain", "--user", user_id, *arguments])
    assert explained.returncode == 0, explained.stdout + explained.stderr
    assert "none of ours" not in explained.stderr, "it reads no outputs"
