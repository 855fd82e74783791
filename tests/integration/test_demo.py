"""The demonstration as a user runs it: figures that agree with one another, and nothing left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def start(*arguments: str, log: Path) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FORESHOCK_")}
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "foreshock", "demo", *arguments],
            stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            # A shell that starts these tests in the background makes them, and what they start, ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip


def test_figures_agree(tmp_path: Path) -> None:
    report, log = tmp_path / "report.json", tmp_path / "log"
    kept = tmp_path / "kept"
    process = start(
        "--users", "100", "--months", "8", "--workers", "2", "--report", str(report), "--keep", str(kept), log=log
    )
    assert process.wait(240) == 0, log.read_text()
    figures = json.loads(report.read_text())
    assert figures["events_published"] == figures["events_scored"] > 5_000
    assert figures["scores_in_topic"] >= figures["events_scored"]
    assert figures["dead_letters"] == 0
    assert figures["dead_letters_by_reason"] == {}
    assert figures["users"] == figures["users_in_postgres"] == 100
    assert figures["alerts_in_topic"] >= figures["alerts_in_postgres"] > 0
    assert figures["events_per_second"] > 0
    assert set(figures["alerts_by_level"]) == {"LOW", "MEDIUM", "HIGH"}
    assert 0 <= figures["deteriorations_caught"] <= figures["deteriorations"]
    shown = log.read_text()
    assert "by what their default would cost" in shown
    assert "deteriorations caught" in shown
    assert f"foreshock up --desk --stack-dir {kept}".replace(" ", "") in "".join(shown.split())
    require_a_desk_over(kept, alerts=figures["alerts_in_postgres"])


def require_a_desk_over(stack_dir: Path, alerts: int) -> None:
    """What the demo named opens the desk, with its alerts, for a first account; `down` stops all of it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FORESHOCK_")}
    environment["FORESHOCK_DESK_PORT"] = "0"

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "foreshock", *arguments, "--stack-dir", str(stack_dir)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        assert "sign in as lead with the password" in run("up", "--desk")
        desk = json.loads((stack_dir / "desk.json").read_text())
        token = run("token", "create", "demo", "--role", "reader").strip()
        asked = urllib.request.Request(
            f"{desk['address']}/v1/alerts?limit=500", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            cases = json.load(answer)["cases"]
        assert 0 < len(cases) <= alerts
    finally:
        stopped = run("down")
    assert "stopped" in stopped
    assert not runs(desk["process"]["pid"])


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended, and whose parent has not asked for its exit code yet, does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_feed_that_delivers_late_and_twice(tmp_path: Path) -> None:
    report, log = tmp_path / "report.json", tmp_path / "log"
    feed = ("--late", "0.05", "--twice", "0.02")
    process = start("--users", "80", "--months", "6", *feed, "--report", str(report), log=log)
    assert process.wait(240) == 0, log.read_text()
    figures = json.loads(report.read_text())
    assert figures["events_published"] == figures["events_scored"] + figures["dead_letters"]
    assert figures["dead_letters_by_reason"] == {"duplicate_event_id": figures["dead_letters"]}
    assert figures["dead_letters"] > 20
    assert figures["users"] == figures["users_in_postgres"] == 80
    assert f"{figures['dead_letters']:,} duplicate_event_id" in log.read_text()


def is_worker(process: psutil.Process) -> bool:
    try:
        return "worker" in " ".join(process.cmdline())
    except psutil.Error:  # ended, or about to
        return False


def test_an_interrupt_stops_everything(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start("--users", "2000", log=log)
    started: dict[int, psutil.Process] = {}
    try:
        deadline_s = time.monotonic() + 60
        while not any(is_worker(child) for child in started.values()):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s
            started |= {child.pid: child for child in descendants(process)}
            time.sleep(0.3)
        time.sleep(2)
        started |= {child.pid: child for child in descendants(process)}
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(60) == 130, log.read_text()
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running a minute after the interrupt: {log.read_text()}")
    finally:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(started.values(), timeout=20)
    assert not alive, [child.cmdline() for child in alive]
