"""Commands refuse what they cannot do with a message that says what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from foreshock import app
from model.bundle import Bundle, manifest_bytes
from stream.settings import PRETRAINED_BUNDLE

runner = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "--source", "taiwan"], "--path"),
        (["demo", "--source", "taiwan", "--path", "no-such-file.csv"], "no-such-file.csv"),
        (["demo", "--source", "files", "--path", "no-such.toml"], "no-such.toml"),
        (["demo", "--bundle", "no-such-bundle"], "no-such-bundle"),
        (["worker", "--stack-dir", "no-such-stack"], "foreshock up"),
        (["sink", "--stack-dir", "no-such-stack", "--bootstrap-servers", "localhost:1"], "--database-url"),
        (["simulate", "--stack-dir", "no-such-stack"], "--bootstrap-servers"),
        (["topics", "create", "--stack-dir", "no-such-stack"], "foreshock up"),
        (["db", "upgrade", "--stack-dir", "no-such-stack"], "--database-url"),
        (["worker", "--config", "no-such.toml"], "no-such.toml"),
        (["train", "--out", "bundle", "--architecture", "abacus"], "lstm-attention"),
        (["explain", "--user", "u", "--stack-dir", "no-such-stack"], "foreshock up"),
        (["explain", "--user", "nobody", "--source", "simulator", "--users", "10", "--months", "1"], "'nobody'"),
        (["explain", "--user", "u", "--bundle", "no-such-bundle", "--source", "simulator"], "no-such-bundle"),
        (["reasons", "measure", "--bundle", "no-such-bundle"], "no-such-bundle"),
        (["reasons", "calibrate", "--source", "taiwan"], "--path"),
    ],
)
def test_what_is_missing_is_named(arguments: list[str], said: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code in (1, 2)
    assert said in result.stderr.replace("\n", "")


def test_simulate_writes_a_file(tmp_path: Path) -> None:
    out = tmp_path / "events.jsonl"
    result = runner.invoke(app, ["simulate", "--users", "5", "--months", "2", "--limit", "20", "--out", str(out)])
    assert result.exit_code == 0, result.output
    lines = out.read_text().splitlines()
    assert len(lines) == 20
    assert all(line.startswith('{"topic":"') for line in lines)


def test_simulate_delivers_late_and_twice_when_asked(tmp_path: Path) -> None:
    def written(*options: str) -> list[str]:
        out = tmp_path / "events.jsonl"
        result = runner.invoke(app, ["simulate", "--users", "20", "--months", "2", "--out", str(out), *options])
        assert result.exit_code == 0, result.output
        return out.read_text().splitlines()

    in_order, twice, late = written(), written("--twice", "0.2"), written("--late", "0.3")
    assert len(set(in_order)) == len(in_order) < len(twice)
    assert set(twice) == set(in_order)
    assert sorted(late) == sorted(in_order)
    assert late != in_order
    assert runner.invoke(app, ["simulate", "--late", "2"]).exit_code == 2


def test_every_command_has_help() -> None:
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in (
        "demo",
        "up",
        "down",
        "topics",
        "db",
        "doctor",
        "worker",
        "sink",
        "simulate",
        "train",
        "evaluate",
        "tune",
        "ablate",
        "drift",
        "outlook",
        "explain",
        "reasons",
    ):
        assert command in result.output


def test_doctor_without_anything_says_what_to_do(tmp_path: Path) -> None:
    result = runner.invoke(app, ["doctor", "--stack-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "foreshock up" in result.output


EXPLAIN = ["explain", "--user", "u0000003", "--source", "simulator", "--users", "10", "--months", "3", "--events", "5"]


def test_explain_shows_writes_and_reports(tmp_path: Path) -> None:
    out, report = tmp_path / "page.html", tmp_path / "report.json"
    result = runner.invoke(app, [*EXPLAIN, "--out", str(out), "--report", str(report)])
    assert result.exit_code == 0, result.output
    assert "u0000003" in result.stdout
    figures = msgspec.json.decode(report.read_bytes())
    assert len(figures["recent"]) == 5
    assert f"{figures['score']:.4f}" in result.stdout
    assert out.read_text().startswith("<!doctype html>")
    last = figures["recent"][0]["occurred_at"]
    earlier = runner.invoke(app, [*EXPLAIN, "--sequence", str(figures["events"] - 1), "--report", str(report)])
    assert earlier.exit_code == 0, earlier.output
    assert msgspec.json.decode(report.read_bytes())["recent"][0]["occurred_at"] <= last


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--sequence", "9999"], "9999"), (["--at", "1999-01-01"], "first event")]
)
def test_explain_names_what_lies_outside(arguments: list[str], said: str) -> None:
    result = runner.invoke(app, [*EXPLAIN, *arguments])
    assert result.exit_code == 1
    assert said in result.stderr


@pytest.mark.parametrize("command", ["measure", "calibrate"])
def test_reasons_without_any_alert_are_refused(tmp_path: Path, command: str) -> None:
    bundle = Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))
    manifest = Bundle.load(bundle).manifest
    never = msgspec.structs.replace(manifest.thresholds, medium=1.0, high=1.0)
    before = manifest_bytes(msgspec.structs.replace(manifest, thresholds=never))
    (bundle / "manifest.json").write_bytes(before)
    config = tmp_path / "no-alerts.toml"
    config.write_text("alert_absolute_rise = 1.0\nalert_dpd_backstop = 3650.0\n")
    options = ["--users", "10", "--months", "2", "--bundle", str(bundle), "--config", str(config)]
    result = runner.invoke(app, ["reasons", command, *options])
    assert result.exit_code == 1
    assert "no alert" in result.stderr
    assert (bundle / "manifest.json").read_bytes() == before


def test_reasons_are_calibrated_and_measured(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))
    before = (bundle / "manifest.json").read_bytes()
    small = ["--users", "60", "--months", "6", "--alerts", "30", "--bundle", str(bundle)]
    result = runner.invoke(app, ["reasons", "calibrate", *small, "--seed", "1"])
    assert result.exit_code == 0, result.output
    assert (bundle / "manifest.json").read_bytes() != before
    report = tmp_path / "report.json"
    result = runner.invoke(app, ["reasons", "measure", *small, "--seed", "2", "--report", str(report)])
    assert result.exit_code == 0, result.output
    figures = msgspec.json.decode(report.read_bytes())
    assert 0 < figures["alerts"] <= 30
    assert {"all", "nothing_overdue", "best_possible", "estimates", "codes", "explanation_ms"} <= set(figures)
