"""The report on a small scored source: what it compares with what, its page and its metrics."""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from events.calendar import DAY_MS
from foreshock import app
from model.bundle import Bundle
from model.datasets.sources import open_dataset
from model.evaluation.drift_reference import take_drift_reference, write_drift_reference
from model.evaluation.evaluate import progress_bars
from model.evaluation.scored_source import ScoredSource, score_source
from model.histories.splits import split
from reports.drift import DriftError, DriftReport, Period, drift_of_source
from reports.drift_page import page
from stream.settings import PRETRAINED_BUNDLE

DATASET = open_dataset("simulator", users=160, months=12, seed=5)


@pytest.fixture(scope="module")
def source() -> ScoredSource:
    with progress_bars(False) as bars:
        return score_source(Bundle.load(PRETRAINED_BUNDLE), DATASET, bars)


@pytest.fixture(scope="module")
def report(source: ScoredSource) -> DriftReport:
    return drift_of_source(source, Period(from_data=True))


def test_a_portfolio_that_goes_on_as_before_has_not_drifted(report: DriftReport) -> None:
    assert report.shifted == []
    assert {each.name for each in report.stability} >= {"score", "repayments.days_past_due", "transactions.category"}
    assert report.until - report.since == dt.timedelta(days=30)
    assert "days before the window" in report.reference
    assert report.calibration.scores > 300
    assert len(report.performance) <= 6
    assert report.alert_rate is not None


def test_a_shift_of_one_input_is_named(source: ScoredSource) -> None:
    sequences = source.sequences
    amounts = sequences.numeric["transactions"].copy()
    recent = sequences.times_ms >= sequences.times_ms.max() - 30 * DAY_MS
    transactions = np.flatnonzero(sequences.kinds == 1)
    owner = sequences.user_of_event[transactions]
    rows = sequences.starts["transactions"][owner] + sequences.latest[transactions, 1] - 1
    amounts[rows[recent[transactions]], 0] *= 20
    moved = replace(sequences, numeric={**sequences.numeric, "transactions": amounts})
    found = drift_of_source(replace(source, sequences=moved), Period(from_data=True))
    assert [each.name for each in found.shifted] == ["transactions.amount"]
    assert found.shifted[0].verdict == "large"
    assert "transactions.amount" in page(found)


def test_a_score_that_is_too_low_is_found(source: ScoredSource) -> None:
    before = drift_of_source(source, Period(months=9))
    low = source.probabilities * np.float32(before.calibration.ratio / 4)
    found = drift_of_source(replace(source, probabilities=low), Period(months=9))
    assert found.miscalibrated
    assert found.calibration.ratio == pytest.approx(4, rel=1e-4)


def test_where_the_question_is_asked_at_some_events_only_they_are_judged(source: ScoredSource) -> None:
    until = dt.datetime.fromtimestamp(int(source.sequences.times_ms.max()) / 1000, dt.UTC)
    asked = replace(source, judged=source.sequences.user_of_event % 2 == 0)
    for period in (Period(months=20), Period(months=20, until=until)):
        every, some = (drift_of_source(each, period) for each in (source, asked))
        assert 0 < some.calibration.users < 0.7 * every.calibration.users
        assert some.alert_rate != every.alert_rate
        assert [each.psi for each in some.stability] == [each.psi for each in every.stability]


def test_the_bundles_own_reference_comes_first(source: ScoredSource, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(PRETRAINED_BUNDLE, folder)
    own = replace(source, bundle=Bundle.load(folder))
    part = split(source.sequences, DATASET, source.truth).validation
    write_drift_reference(take_drift_reference(own, part, "these tests"), folder)
    found = drift_of_source(own, Period())
    assert found.reference.startswith("these tests")
    assert "days before" in drift_of_source(own, Period(from_data=True)).reference


def test_until_knows_nothing_later(source: ScoredSource) -> None:
    until = dt.datetime(2023, 8, 1, tzinfo=dt.UTC)
    found = drift_of_source(source, Period(until=until, from_data=True))
    assert found.until == until
    assert max(each.month for each in found.performance) == "2023-05"


def test_an_empty_window_says_what_to_do(source: ScoredSource) -> None:
    with pytest.raises(DriftError, match="raise --window-days"):
        drift_of_source(source, Period(until=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)))
    start = dt.datetime.fromtimestamp(int(source.sequences.times_ms.min()) / 1000, dt.UTC)
    with pytest.raises(DriftError, match="foreshock reference"):
        drift_of_source(source, Period(until=start + dt.timedelta(days=20), from_data=True))


def test_the_command_writes_what_it_is_asked_for(tmp_path: Path) -> None:
    names = {"--out": "d.html", "--metrics": "d.prom", "--report": "d.json"}
    options = [part for flag, name in names.items() for part in (flag, str(tmp_path / name))]
    arguments = ["drift", "--source", "simulator", "--users", "40", "--months", "7", "--seed", "5", *options]
    result = CliRunner().invoke(app, [*arguments, "--check"])
    assert {each.name for each in tmp_path.iterdir()} == set(names.values())
    decoded = msgspec.json.decode((tmp_path / "d.json").read_bytes())
    assert decoded["stability"][0]["name"] == "score"
    moved = any(each["verdict"] not in ("stable", "too few") for each in decoded["stability"])
    p_value = decoded["calibration"]["p_value"]
    assert result.exit_code == int(moved or (p_value is not None and p_value < decoded["alpha"])), result.output


@pytest.mark.parametrize("command", ["drift", "outlook"])
def test_without_a_source_a_database_is_needed(command: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [command, "--stack-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "--database-url" in result.stderr
