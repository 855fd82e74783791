"""`explain` shows, writes and reports; it names what it cannot find."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from events.types import Transaction
from foreshock import app, explanation
from model.datasets.sources import open_dataset

runner = CliRunner()


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


@pytest.mark.parametrize("odd", ["[red]x[/]", "[/foo]", "\x1b[31mx", ":smile:"])
def test_odd_ids_and_categories_are_printed_as_they_are(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset("simulator", users=10, months=3, seed=1)
    history = [
        msgspec.structs.replace(event, user_id=odd, **({"category": odd} if isinstance(event, Transaction) else {}))
        for event in dataset.events()
        if event.user_id == "u0000003"
    ]
    monkeypatch.setattr(explanation, "_from_source", lambda *_: history)
    result = runner.invoke(app, ["explain", "--user", odd, "--source", "simulator", "--events", "5"])
    assert result.exit_code == 0, result.output
    shown = odd.replace("\x1b", "\\x1b")
    assert f"{shown}: score" in result.stdout
    assert f"transaction ({shown})" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("odd", ["[red]x[/]", "[/foo]"])
def test_an_odd_id_that_is_not_found_is_named(odd: str) -> None:
    result = runner.invoke(app, ["explain", "--user", odd, "--source", "simulator", "--users", "10", "--months", "1"])
    assert result.exit_code == 1
    assert odd in result.stderr
