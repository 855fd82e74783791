"""The `compare` command: what it refuses, how it says so, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from foreshock import app
from foreshock.comparison import ALERTS, RANKING, table_of, target_line

runner = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--entrants", "xgboost"], 2, "no candidate is called xgboost; choose from lstm-attention"),
        (["--source", "taiwan"], 1, "name it with --path"),
        (["--source", "taiwan", "--path", "nowhere.csv"], 1, "nowhere.csv does not exist"),
        (["--path", "somewhere"], 1, "source simulator reads no file"),
        (["--users", "20", "--months", "2", "--entrants", "ensemble"], 1, "no candidate takes part"),
        (["--users", "20", "--months", "2", "--entrants", "lstm-attention"], 1, "take more users or months"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    result = runner.invoke(app, ["compare", *arguments, "--folder", str(tmp_path)])
    assert result.exit_code == code
    assert said in " ".join(result.output.split())


def _row(name: str, auc: float | None) -> dict[str, object]:
    figures = {key: auc for key, _, _ in (*RANKING, *ALERTS)}
    return {"name": name, "kind": "served", **figures, "auc_low": auc and auc - 0.02, "auc_high": auc and auc + 0.04}


def test_the_table_shows_figures_intervals_and_gaps() -> None:
    console = Console(width=120, record=True)
    console.print(table_of({"rows": [_row("one", 0.75), _row("none", None)]}, RANKING))
    text = console.export_text()
    assert "0.7500 ±0.030" in text
    assert "–" in text


@pytest.mark.parametrize(
    ("met", "value", "said"),
    [
        (True, 0.03, "met         AUC: 0.0300, at least 0.02"),
        (False, 0.01, "not met     AUC: 0.0100"),
        (None, None, "not judged  AUC: needs one, other"),
    ],
)
def test_a_target_is_one_line(met: bool | None, value: float | None, said: str) -> None:
    target = {"target": "AUC", "needed": 0.02, "at_most": False, "of": ["one", "other"], "value": value, "met": met}
    line = target_line(target)
    assert line.plain.startswith(said)
    assert [str(span.style) for span in line.spans] == ([] if met is None else ["green" if met else "red"])


@pytest.mark.slow
def test_the_whole_command_writes_a_report_without_paths_of_the_machine(tmp_path: Path) -> None:
    report = tmp_path / "reports" / "simulator.json"
    sizes = ["--users", "300", "--months", "14", "--epochs", "1", "--bootstrap", "3", "--seed", "3"]
    where = ["--entrants", "lstm-attention", "--folder", str(tmp_path / "trials"), "--report", str(report)]
    result = runner.invoke(app, ["compare", *sizes, *where])
    assert result.exit_code == 0, result.output
    written = json.loads(report.read_bytes())
    assert written["rows"][0]["name"] == "lstm-attention"
    assert written["rows"][0]["us_per_event"] > 0
    assert written["command"].startswith("foreshock compare --source simulator --users 300 --months 14 --seed 3")
    assert str(tmp_path) not in report.read_text()
    assert {"cpu", "python", "packages", "commit"} <= written["environment"].keys()
