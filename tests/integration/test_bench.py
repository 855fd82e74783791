"""Every measurement at toy size on a real broker: it runs, and its figures are there and possible. No test of speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.suite import MEASUREMENTS
from stream.kafka.clients import open_admin
from stream.kafka.connection import KafkaConnection

SIZES = {
    "throughput": ["--events", "1500", "--users", "60", "--seconds", "1", "--rounds", "1"],
    "latency": ["--users", "100", "--seconds", "0.5", "--rounds", "1"],
    "history": ["--events", "20", "--users", "8", "--rounds", "1"],
    "users": ["--users", "500", "--rounds", "1"],
    "recovery": ["--users", "400", "--events", "20000", "--rounds", "1"],
    "workers": ["--events", "3000", "--users", "60", "--rounds", "1"],
    "overload": ["--events", "3000", "--users", "100", "--seconds", "0.5", "--rounds", "1"],
}


def bench(kafka: KafkaConnection, folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FORESHOCK_")}
    # Short, or a test of a killed worker waits for the group; see `session_timeout_s`.
    environment |= {"FORESHOCK_SESSION_TIMEOUT_S": "2", "FORESHOCK_HEARTBEAT_INTERVAL_S": "0.5"}
    command = [sys.executable, "-m", "foreshock", "bench", name, *arguments]
    return subprocess.run(
        [*command, "--bootstrap-servers", kafka.bootstrap_servers, "--stack-dir", str(folder / "stack")],
        capture_output=True, text=True, env=environment, timeout=280, check=False,
    )  # fmt: skip


def measured(kafka: KafkaConnection, folder: Path, name: str) -> dict[str, Any]:
    """The result of a measurement at toy size, taken with the command as a user would."""
    report = folder / "report.json"
    done = bench(kafka, folder, name, *SIZES[name], "--report", str(report), "--report-dir", str(folder / "results"))
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(report.read_text())
    assert result == json.loads((folder / "results" / f"{name}.json").read_text())
    assert result["environment"]["kafka"]
    assert f"bench {name}" in done.stdout
    return result


def bench_topics(kafka: KafkaConnection) -> set[str]:
    admin = open_admin(kafka)
    try:
        return {topic for topic in admin.list_topics() if "bench-" in topic}
    finally:
        admin.close()


def test_every_measurement_has_a_toy_size() -> None:
    assert set(SIZES) == set(MEASUREMENTS)


@pytest.mark.slow
def test_throughput(kafka: KafkaConnection, tmp_path: Path) -> None:
    result = measured(kafka, tmp_path, "throughput")
    contenders = result["contenders"]
    for name in ("foreshock", "limit", "idiomatic_faust", "recompute"):
        assert contenders[name]["events_per_second"]["median"] > 0, name
    assert contenders["foreshock"]["scored_everything"]
    assert contenders["foreshock"]["events_in_each_round"][0] >= 1_500
    assert result["events_per_second"] == contenders["foreshock"]["events_per_second"]["median"]
    assert result["ratio_to_limit"] > 0
    assert result["ratio_to_idiomatic_faust"] > 0
    assert result["ratio_to_quix_step"] is None
    assert "foreshock bench peers" in contenders["quix_step"]["skipped"]
    assert bench_topics(kafka) == set()


@pytest.mark.slow
def test_latency(kafka: KafkaConnection, tmp_path: Path) -> None:
    result = measured(kafka, tmp_path, "latency")
    assert set(result["latency_ms"]) == {"1000", "5000"}
    for percentiles in result["latency_ms"].values():
        assert 0 <= percentiles["p50"] <= percentiles["p99"] <= percentiles["p99.9"]


def test_history(kafka: KafkaConnection, tmp_path: Path) -> None:
    result = measured(kafka, tmp_path, "history")
    assert result["history_cost_ratio"] == 1.0  # one length only
    assert set(result["microseconds_per_event"]) == {"10"}


def test_users(kafka: KafkaConnection, tmp_path: Path) -> None:
    result = measured(kafka, tmp_path, "users")
    assert result["users_cost_ratio"] > 0
    assert result["on_disk"]["tenth_resident"]["users_in_memory"] > 0
    assert result["row_bytes"] > 1_000
    assert set(result["microseconds_per_event"]) == {"500"}


@pytest.mark.slow
def test_recovery(kafka: KafkaConnection, tmp_path: Path) -> None:
    result = measured(kafka, tmp_path, "recovery")
    assert result["recovered_users_per_second"] > 0
    assert result["start_to_first_score_s"] > 0
    assert result["restart_to_score_with_users_on_disk_s"] > 0.5, "a process does not start in less"
    assert result["kill_to_next_score_s"] > 0


@pytest.mark.slow
def test_workers(kafka: KafkaConnection, tmp_path: Path) -> None:
    result = measured(kafka, tmp_path, "workers")
    assert result["rate_of_two_to_one"] > 0
    assert result["processor_time_of_two_to_one"] > 0
    assert set(result["events_per_second"]) == {"1", "2"}
    assert result["sink"]["scores"] >= 3_000
    assert result["sink"]["stored_after_the_last_score_s"] > 0
    assert bench_topics(kafka) == set()


@pytest.mark.slow
def test_overload(kafka: KafkaConnection, tmp_path: Path) -> None:
    result = measured(kafka, tmp_path, "overload")
    assert result["offered_events_per_second"] > 0
    assert result["samples"]
    assert result["rss_mib_greatest"] >= result["rss_mib_before"] > 0
    published, scored = result["samples"][-1][1:3]
    assert published >= scored >= 0


def test_a_failure_says_what_to_do(kafka: KafkaConnection, tmp_path: Path) -> None:
    del kafka
    done = bench(KafkaConnection.parse("127.0.0.1:1"), tmp_path, "latency")
    assert done.returncode == 1
    assert "no Kafka broker answers" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["all", "--report", "x.json"], ["nonsense"]])
def test_wrong_arguments(kafka: KafkaConnection, tmp_path: Path, arguments: list[str]) -> None:
    assert bench(kafka, tmp_path, *arguments).returncode == 2
