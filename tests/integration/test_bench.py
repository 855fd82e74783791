"""Every measurement at toy size on a real broker: it runs, and its figures are there and possible. No test of speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.arena import Arena
from bench.options import Bench
from bench.suite import MEASUREMENTS
from foreshock import app
from stream.kafka.clients import open_admin
from stream.kafka.connection import KafkaConnection
from tests import forked
from tests.forked import ForkedProcess

SIZES = {
    "throughput": ["--events", "1500", "--users", "60", "--seconds", "1", "--rounds", "1"],
    "latency": ["--users", "100", "--seconds", "0.5", "--rounds", "1"],
    "history": ["--events", "20", "--users", "8", "--rounds", "1"],
    "users": ["--users", "500", "--rounds", "1"],
    "recovery": ["--users", "400", "--events", "6000", "--rounds", "1"],
    "workers": ["--events", "1500", "--users", "60", "--rounds", "1"],
    "api": ["--users", "50", "--seconds", "0.5", "--rounds", "1"],
    "desk": ["--users", "300", "--events", "120", "--rounds", "1"],
    "overload": ["--events", "1500", "--users", "100", "--seconds", "0.5", "--rounds", "1"],
    "replay": ["--events", "1500", "--users", "60", "--rounds", "1"],
    "hand-over": ["--users", "60", "--seconds", "60", "--rounds", "1"],
}

TOY: dict[str, Any] = {
    "bench.latency.RATES_PER_S": (200, 500),
    "bench.latency.FETCH_MAX_WAIT_MS": 100,
    "bench.hand_over.RATES_PER_S": (100,),
    "bench.users.BATCH_EVENTS": 200,
    "bench.resident.BATCH_EVENTS": 200,
    "bench.resident.WARM_UP_BATCHES": 2,
    "bench.resident.BATCHES": 3,
}
"""What else makes a measurement large."""


@pytest.fixture(autouse=True)
def _short_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a test of a killed worker waits for the group; see `session_timeout_s`."""
    monkeypatch.setenv("FORESHOCK_SESSION_TIMEOUT_S", "2")
    monkeypatch.setenv("FORESHOCK_HEARTBEAT_INTERVAL_S", "0.5")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small sizes, and workers and sinks that need not import first; contenders know nothing of their modules."""
    for name, value in TOY.items():
        monkeypatch.setattr(name, value)
    for module in ("arena", "replay", "hand_over"):
        monkeypatch.setattr(f"bench.{module}.ServerProcess", ForkedProcess)
    # A worker so slow that it is at work for long enough to be killed, and that twice its speed is little.
    monkeypatch.setenv("FORESHOCK_BATCH_MAX_RECORDS", "100")


def measured(kafka: KafkaConnection, folder: Path, name: str) -> dict[str, Any]:
    """The result of a measurement at toy size, taken with the command as a user would."""
    arguments = command(kafka, folder, name, *SIZES[name], "--report-dir", str(folder / "results"))
    report = folder / "report.json"
    done = CliRunner().invoke(app, [*arguments, "--report", str(report)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result: dict[str, Any] = json.loads(report.read_text())
    assert result == json.loads((folder / "results" / f"{name}.json").read_text())
    assert result["environment"]["kafka"]
    assert f"bench {name}" in done.stdout
    return result


def command(kafka: KafkaConnection, folder: Path, name: str, *arguments: str) -> list[str]:
    servers = ("--bootstrap-servers", kafka.bootstrap_servers, "--stack-dir", str(folder / "stack"))
    return ["bench", name, *arguments, *servers]


@pytest.fixture
def run_ids(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Ids of the runs that this test makes, with which the names of their topics begin."""
    found: set[str] = set()
    arena = Bench.arena

    def noted(bench: Bench, name: str) -> Arena:
        found.add(bench.run_id)
        return arena(bench, name)

    monkeypatch.setattr(Bench, "arena", noted)
    return found


def all_are_deleted(kafka: KafkaConnection, run_ids: set[str]) -> bool:
    """Whether no topic of these runs is left: the broker tells so a moment after it has agreed to delete them."""
    assert run_ids
    admin = open_admin(kafka)
    try:
        deadline_s = time.monotonic() + 30
        while left := any(topic.startswith(tuple(run_ids)) for topic in admin.list_topics()):
            if time.monotonic() > deadline_s:
                break
            time.sleep(0.1)
        return not left
    finally:
        admin.close()


def test_every_measurement_has_a_toy_size() -> None:
    assert set(SIZES) == set(MEASUREMENTS)


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_throughput(kafka: KafkaConnection, tmp_path: Path, run_ids: set[str]) -> None:
    result = measured(kafka, tmp_path, "throughput")
    contenders = result["contenders"]
    for name in ("foreshock", "limit", "idiomatic_faust", "recompute"):
        assert contenders[name].get("skipped") is None, name
        assert contenders[name]["events_per_second"]["median"] > 0, name
    assert contenders["foreshock"]["scored_everything"]
    assert contenders["foreshock"]["events_in_each_round"][0] >= 1_500
    assert result["events_per_second"] == contenders["foreshock"]["events_per_second"]["median"]
    assert result["ratio_to_limit"] > 0
    assert result["ratio_to_idiomatic_faust"] > 0
    assert result["ratio_to_quix_step"] is None
    assert "foreshock bench peers" in contenders["quix_step"]["skipped"]
    assert all_are_deleted(kafka, run_ids)


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_latency(kafka: KafkaConnection, tmp_path: Path) -> None:
    result = measured(kafka, tmp_path, "latency")
    assert set(result["latency_ms"]) == {"200", "500"}
    for percentiles in result["latency_ms"].values():
        assert 0 <= percentiles["p50"] <= percentiles["p99"] <= percentiles["p99.9"]


def test_history(kafka: KafkaConnection, tmp_path: Path) -> None:
    """As a user takes it: no process of it is forked, and no size is another than the options say."""
    report = tmp_path / "report.json"
    arguments = command(kafka, tmp_path, "history", *SIZES["history"], "--report", str(report))
    done = subprocess.run(
        [sys.executable, "-m", "foreshock", *arguments],
        capture_output=True, text=True, env=os.environ, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(report.read_text())
    assert result["history_cost_ratio"] == 1.0  # one length only
    assert set(result["microseconds_per_event"]) == {"10"}


@pytest.mark.usefixtures("toy")
def test_users(kafka: KafkaConnection, tmp_path: Path) -> None:
    result = measured(kafka, tmp_path, "users")
    assert result["users_cost_ratio"] > 0
    assert result["on_disk"]["tenth_resident"]["users_in_memory"] > 0
    assert result["row_bytes"] > 1_000
    assert set(result["microseconds_per_event"]) == {"500"}


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_recovery(kafka: KafkaConnection, tmp_path: Path) -> None:
    result = measured(kafka, tmp_path, "recovery")
    assert result["recovered_users_per_second"] > 0
    assert result["start_to_first_score_s"] > 0
    assert result["restart_to_score_with_users_on_disk_s"] > 0.5, "a process does not start in less"
    assert result["kill_to_next_score_s"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_workers(kafka: KafkaConnection, tmp_path: Path, run_ids: set[str]) -> None:
    result = measured(kafka, tmp_path, "workers")
    assert result["rate_of_two_to_one"] > 0
    assert result["processor_time_of_two_to_one"] > 0
    assert set(result["events_per_second"]) == {"1", "2"}
    assert result["sink"]["scores"] >= 1_500
    assert result["sink"]["stored_after_the_last_score_s"] > 0
    assert all_are_deleted(kafka, run_ids)


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_api(kafka: KafkaConnection, tmp_path: Path, run_ids: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.api.ServerProcess", ForkedProcess)
    monkeypatch.setattr("bench.api.READS_PER_S", 50)
    result = measured(kafka, tmp_path, "api")
    for rounds in result["rounds_ms"].values():
        assert [0 < each["p50"] <= each["p99"] for each in rounds] == [True]
    assert all_are_deleted(kafka, run_ids)


@pytest.mark.slow
def test_desk(kafka: KafkaConnection, tmp_path: Path) -> None:
    result = measured(kafka, tmp_path, "desk")
    assert (result["users"], result["open_cases"], result["cases"]) == (300, 120, 144)
    assert [0 < each["p50"] <= each["max"] for each in result["page_ms"].values()] == [True] * 8


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_overload(kafka: KafkaConnection, tmp_path: Path) -> None:
    result = measured(kafka, tmp_path, "overload")
    assert result["offered_events_per_second"] > 0
    assert result["samples"]
    assert result["rss_mib_greatest"] >= result["rss_mib_before"] > 0
    # Of scores, samples count offsets: the ends of transactions are among them.
    assert result["samples"][-1][1] > result["events"]
    assert result["samples"][-1][2] > result["events"]
    assert result["scored"] > result["events"], "each event once, those of the watchdog included"


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_replay(kafka: KafkaConnection, tmp_path: Path, run_ids: set[str]) -> None:
    result = measured(kafka, tmp_path, "replay")
    (figures,) = result["rounds"]
    # A difference of two times, which can be anything where both are of a few events on a busy machine.
    assert isinstance(figures.pop("rest_to_intake"), float)
    assert all(value > 0 for value in figures.values()), figures
    assert result["archive_bytes_per_record"] < result["topic_bytes_per_record"]
    part, whole = result["greatest_rss_mib"].values()
    assert list(result["greatest_rss_mib"]) == ["300", "1500"]
    assert all(part[name] > 0 < whole[name] < 2 * part[name] for name in ("worker", "plan", "diff"))
    assert all_are_deleted(kafka, run_ids)


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_hand_over(kafka: KafkaConnection, tmp_path: Path, run_ids: set[str]) -> None:
    result = measured(kafka, tmp_path, "hand-over")
    assert set(result["longest_pause_s"]) == {"100"}
    assert 0 <= result["median_pause_s"]["100"] <= result["longest_pause_s"]["100"] < 30
    assert result["live_cpu_seconds_per_million_events"]["100"] > 0
    assert result["shadow_cpu_seconds_per_million_events"]["100"] > 0
    assert all_are_deleted(kafka, run_ids)


def test_a_failure_says_what_to_do(kafka: KafkaConnection, tmp_path: Path) -> None:
    del kafka
    done = forked.run(command(KafkaConnection.parse("127.0.0.1:1"), tmp_path, "latency"))
    assert done.returncode == 1
    assert "no Kafka broker answers" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["all", "--report", "x.json"], ["nonsense"]])
def test_wrong_arguments(kafka: KafkaConnection, tmp_path: Path, arguments: list[str]) -> None:
    assert CliRunner().invoke(app, command(kafka, tmp_path, *arguments)).exit_code == 2
