"""`simulate` writes the events that it is asked for."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from foreshock import app

runner = CliRunner()


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
