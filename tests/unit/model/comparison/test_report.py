"""A whole comparison, small: what the report holds, that it resumes, and the page that is made of it."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.comparison.page import SECTION, PageError, models_page
from model.comparison.report import ComparisonError, compare
from model.comparison.targets import TARGETS, Standing, judge_targets
from model.datasets.dataset import Dataset
from model.evaluation.evaluate import progress_bars
from model.presentation.sections import marks

BEGIN, END = marks(SECTION)

INTERVALS = (
    "auc", "pr_auc", "ks", "brier", "ece", "recall_at_budget", "precision_at_budget", "median_lead_days",
    "caught_30_days_ahead", "median_days_ahead_of_rule", "exposure_saved",
)  # fmt: skip


@pytest.fixture(scope="module")
def candidates(by_arrears: Any) -> dict[str, Any]:
    class Streamed(by_arrears):
        kind = "served"
        us_per_event = 2.0

    class Rough(by_arrears):
        """Knows only whether there are arrears."""

        def bands(self, problem: Any) -> Any:
            return np.minimum(super().bands(problem), 1)

    return {
        "lstm-attention": partial(Streamed, "lstm-attention"),
        "rough": partial(type("RoughStreamed", (Rough,), {"kind": "served", "us_per_event": 1.0}), "rough"),
        "lightgbm": partial(Rough, "lightgbm"),
    }


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `report` leaves its trials."""
    return tmp_path_factory.mktemp("comparison") / "trials"


@pytest.fixture(scope="module")
def report(simulated: Dataset, candidates: dict[str, Any], trials: Path) -> dict[str, Any]:
    facts = {"command": "foreshock compare", "environment": {"cpu": "a processor", "packages": {"numpy": "2"}}}
    with progress_bars(False) as bars:
        return compare(simulated, candidates, trials, bars, seed=3, resamples=10, facts=facts)


def test_rows_are_as_the_table_names_them(report: dict[str, Any]) -> None:
    assert [row["name"] for row in report["rows"]] == ["lstm-attention", "rough", "lightgbm", "ensemble"]
    for row in report["rows"]:
        assert row["kind"] in ("served", "challenger")
        assert {"us_per_event", "state_bytes"} <= row.keys()
        for name in INTERVALS:
            assert {name, f"{name}_low", f"{name}_high"} <= row.keys()
    (setting,) = report["settings"]
    assert setting["rows"] == report["rows"]
    # Validation has the finer of the two stand for the served models.
    assert setting["best_served"] == "lstm-attention"
    assert (report["seed"], report["resamples"], len(report["data_fingerprint"])) == (3, 10, 64)
    assert report["environment"]["cpu"] == "a processor"
    json.dumps(report, allow_nan=False)


def test_targets_come_from_the_rows(report: dict[str, Any]) -> None:
    targets = {target["target"]: target for target in report["targets"]}
    gain = targets["AUC above LightGBM's"]
    rows = {row["name"]: row for row in report["rows"]}
    assert gain["value"] == pytest.approx(rows["lstm-attention"]["auc"] - rows["lightgbm"]["auc"], abs=2e-5)
    assert gain["low"] <= gain["value"] <= gain["high"]
    assert gain["met"] == (gain["value"] >= 0.02)
    without_oracle = targets["share of the attainable, (AUC - 0.5) / (oracle's AUC - 0.5)"]
    assert (without_oracle["value"], without_oracle["met"]) == (None, None)
    assert targets["microseconds per event, times the default model's"]["value"] == 1.0
    assert {target.text for target in TARGETS["simulator"]} < set(targets)


def test_a_target_at_most_is_met_from_below(report: dict[str, Any]) -> None:
    (error,) = [target for target in report["targets"] if target["target"] == "calibration error"]
    assert error["met"] == (error["value"] <= 0.01)
    assert judge_targets("berka", Standing({}, "none"))[-1]["met"] is None


def test_a_second_comparison_trains_nothing(
    simulated: Dataset, candidates: dict[str, Any], bars: Any, trials: Path, report: dict[str, Any]
) -> None:
    def refuse(make: Any) -> Any:
        candidate = make()
        candidate.fit = None
        return candidate

    again = {name: partial(refuse, make) for name, make in candidates.items()}
    resumed = compare(simulated, again, trials, bars, seed=3, resamples=10)
    assert resumed["rows"] == report["rows"]


def test_without_the_ensemble_or_anyone(
    simulated: Dataset, candidates: dict[str, Any], bars: Any, tmp_path: Path
) -> None:
    alone = {"lightgbm": candidates["lightgbm"]}
    found = compare(simulated, alone, tmp_path, bars, seed=3, resamples=2)
    assert [row["name"] for row in found["rows"]] == ["lightgbm"]
    assert found["targets"] == []
    with pytest.raises(ComparisonError, match="no candidate takes part"):
        compare(simulated, {}, tmp_path, bars)


def test_the_page_shows_every_row_and_target(report: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "models.md"
    page.write_text(f"before\n{BEGIN}\nwhat stood here\n{END}\nafter\n")
    assert "Not compared yet. `foreshock compare --source taiwan" in models_page(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "simulator.json").write_text(json.dumps(report))
    text = models_page(tmp_path)
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "what stood here" not in text
    for row in report["rows"]:
        assert f"| {row['name']} | {row['kind']} | {row['auc']:.4f} (" in text
    for target in report["targets"]:
        assert f"| {target['target']} |" in text
    assert "a processor" in text
    page.write_text(text)
    assert models_page(tmp_path) == text
    (tmp_path / "models" / "simulator-again.json").write_text(json.dumps(report))
    both = models_page(tmp_path)
    assert text.partition("\n\n<!-- comparison:end")[0] in both
    assert f"### simulator-again: {report['settings'][0]['name']}" in both


def test_a_broken_page_or_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(PageError, match=r"models.md cannot be read"):
        models_page(tmp_path)
    (tmp_path / "models.md").write_text("no marks")
    with pytest.raises(PageError, match="has no section between"):
        models_page(tmp_path)
    (tmp_path / "models.md").write_text(f"{BEGIN}{END}")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "odd.json").write_text("[]")
    with pytest.raises(PageError, match=r"odd.json is no report"):
        models_page(tmp_path)


def test_a_log_file_gets_a_line_per_trial(
    simulated: Dataset, candidates: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bars(True) as shown:
        found = compare(simulated, {"rough": candidates["rough"]}, tmp_path, shown, seed=3, resamples=2)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "validation AUC" in line]
    auc = found["rows"][0]["validation_auc"]
    assert re.fullmatch(rf"out of time, simulator, rough: \d+ s, validation AUC {auc:.4f}", line.strip())


def test_it_says_beforehand_how_long_it_takes_and_what_is_kept(
    simulated: Dataset, candidates: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*names: str) -> list[str]:
        with progress_bars(True) as shown:
            compare(simulated, {name: candidates[name] for name in names}, tmp_path, shown, seed=3, resamples=2)
        return [line.strip() for line in capsys.readouterr().err.splitlines() if "to run" in line]

    first, after_one = said("rough", "lightgbm")
    assert re.fullmatch(r"2 trials to run, about .*; interrupt at will: the same command .*", first)
    assert re.fullmatch(r"1 trial to run, about .*", after_one)
    (resumed,) = said("rough", "lightgbm", "lstm-attention")
    assert re.fullmatch(r"1 trial to run, about .* \(2 of 3 are kept from an earlier run\); .*", resumed)
    assert said("rough", "lightgbm") == []
