"""The outlook as a report, and the page that is made from its back-test."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from foreshock import app
from foreshock.outlook import judge
from model.bundle import Bundle
from model.datasets.sources import open_dataset
from model.evaluation.evaluate import progress_bars
from model.evaluation.scored_source import ScoredSource, score_source
from model.presentation.sections import marks, with_section
from reports.outlook import OutlookError, outlook_of_source
from reports.outlook_page import SECTION, section
from stream.settings import PRETRAINED_BUNDLE

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture(scope="module")
def source() -> ScoredSource:
    with progress_bars(False) as bars:
        return score_source(
            Bundle.load(PRETRAINED_BUNDLE), open_dataset("simulator", users=150, months=10, seed=41), bars
        )


def test_segments_add_up_to_the_whole(source: ScoredSource) -> None:
    found = outlook_of_source(source, 60.0, "product")
    whole = {each.horizon_days: each for each in found.outlooks if each.segment == "all"}
    assert list(whole) == [30, 60, 90]
    for days, each in whole.items():
        parts = [part for part in found.outlooks if part.horizon_days == days and part.segment != "all"]
        assert len(parts) > 2
        assert sum(part.users for part in parts) == each.users
        assert sum(part.expected for part in parts) == pytest.approx(each.expected)
        assert each.intervals["95"][0] <= each.intervals["80"][0] <= each.intervals["80"][1] <= each.intervals["95"][1]
    assert whole[30].expected <= whole[60].expected <= whole[90].expected
    assert found.origins[30] > found.origins[90] > 3


def test_nobody_at_risk_is_said(source: ScoredSource) -> None:
    with pytest.raises(OutlookError, match="raise --stale-days"):
        outlook_of_source(source, 1e-9)
    with pytest.raises(ValueError, match="no category of a profile"):
        outlook_of_source(source, 60.0, "shoe_size")


def test_the_page_is_current() -> None:
    """`foreshock outlook --backtest --report docs/outlook.json --page docs/outlook.md` writes both."""
    page = (DOCS / "outlook.md").read_text()
    result = msgspec.json.decode((DOCS / "outlook.json").read_bytes())
    assert with_section(page, SECTION, section(result), "docs/outlook.md") == page


def test_the_command(tmp_path: Path) -> None:
    report = tmp_path / "outlook.json"
    arguments = ["outlook", "--source", "simulator", "--users", "30", "--months", "9"]
    result = CliRunner().invoke(app, [*arguments, "--report", str(report)])
    assert result.exit_code == 0, result.output
    assert msgspec.json.decode(report.read_bytes())["outlooks"][0]["segment"] == "all"
    short = CliRunner().invoke(app, ["outlook", "--backtest"])
    assert short.exit_code == 1
    assert "--backtest needs a --source" in short.stderr.replace("\n", "")


def test_a_real_source_is_judged_on_held_out_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder–decoder then learns from the others, before the first origin."""
    for name, value in (("SAMPLES", 60), ("VALIDATION_SAMPLES", 20), ("EPOCHS", 1)):
        monkeypatch.setattr(f"model.outlook.forecast.{name}", value)
    dataset = open_dataset("simulator", users=150, months=23, seed=43)
    found = judge(Bundle.load(PRETRAINED_BUNDLE), dataset, dataset, 60.0)
    assert 10 < found["users"] == sum(dataset.held_out(user_id) for user_id in dataset.outcomes()) < 60
    assert found["first_origin"] >= "2024-06"
    assert "encoder–decoder" in {each.method for each in found["origins"]}


def test_the_backtest_writes_its_result_and_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshock.outlook.HISTORY_MONTHS", 14)
    for name, value in (("SAMPLES", 60), ("VALIDATION_SAMPLES", 20), ("EPOCHS", 1)):
        monkeypatch.setattr(f"model.outlook.forecast.{name}", value)
    page, report = tmp_path / "page.md", tmp_path / "outlook.json"
    empty = "{}\n{}\n".format(*marks(SECTION))
    page.write_text(empty)
    arguments = ["outlook", "--source", "simulator", "--backtest", "--users", "40", "--months", "17"]
    options = ["--history-users", "300", "--report", str(report), "--page", str(page)]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    decoded = msgspec.json.decode(report.read_bytes())
    assert {each["method"] for each in decoded["origins"]} >= {"sum of scores", "encoder–decoder", "last period"}
    assert page.read_text() == with_section(empty, SECTION, section(decoded), "page")
    assert "| encoder–decoder |" in page.read_text()
