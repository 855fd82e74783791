"""Commands refuse what they cannot do with a message that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream.cli import app

runner = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "--source", "taiwan"], "--path"),
        (["demo", "--source", "taiwan", "--path", "no-such-file.csv"], "no-such-file.csv"),
        (["demo", "--bundle", "no-such-bundle"], "no-such-bundle"),
        (["worker", "--stack-dir", "no-such-stack"], "foreshock up"),
        (["sink", "--stack-dir", "no-such-stack", "--bootstrap-servers", "localhost:1"], "--database-url"),
        (["simulate", "--stack-dir", "no-such-stack"], "--bootstrap-servers"),
        (["topics", "create", "--stack-dir", "no-such-stack"], "foreshock up"),
        (["db", "upgrade", "--stack-dir", "no-such-stack"], "--database-url"),
        (["worker", "--config", "no-such.toml"], "no-such.toml"),
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
        "drift",
        "outlook",
    ):
        assert command in result.output


def test_doctor_without_anything_says_what_to_do(tmp_path: Path) -> None:
    result = runner.invoke(app, ["doctor", "--stack-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "foreshock up" in result.output
