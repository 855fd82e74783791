"""Figures of whole trials against the plain measures they are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.comparison.budget import alerts_by_user, operate_at
from model.comparison.ensemble import combine
from model.comparison.examples import examples_of
from model.comparison.figures import Court, Figures, figures, validation_auc
from model.comparison.problem import Problem
from model.comparison.trial import Trial, run_trial
from model.histories.labels import NEVER_MS
from model.statistics.metrics import brier, calibration_error, pr_auc, roc_auc


@pytest.fixture
def trial(problem: Problem, by_arrears: Any, bars: Any, tmp_path: Path) -> Trial:
    return run_trial(by_arrears(), problem, tmp_path, bars)


@pytest.fixture
def found(problem: Problem, trial: Trial) -> Figures:
    return figures(Court.convene([problem], 30), [trial])


def test_the_row_holds_the_plain_measures(problem: Problem, trial: Trial, found: Figures) -> None:
    rows, _, happened = examples_of(problem, problem.parts.test).of(90)
    scores = trial.scores[rows]
    assert happened.sum() > 10
    for name, plain in (("auc", roc_auc), ("pr_auc", pr_auc), ("brier", brier)):
        assert found.row[name] == pytest.approx(plain(happened, scores), abs=2e-5)
    # Ties between groups may be divided otherwise.
    assert found.row["ece"] == pytest.approx(calibration_error(happened, scores), abs=0.01)
    for name in ("auc", "pr_auc", "ks", "brier", "ece", "recall_at_budget", "caught_30_days_ahead"):
        assert found.row[f"{name}_low"] <= found.row[name] <= found.row[f"{name}_high"], name
    assert found.row["auc"] > 0.6
    assert found.horizons["90"]["positives"] == happened.sum()
    assert found.horizons["90"]["auc"] == found.row["auc"]
    # It scores the headline alone, so at other horizons it ranks and is not calibrated.
    assert found.horizons["30"]["auc"] is not None
    assert found.horizons["30"]["ece"] is None


def test_the_budget_comes_from_validation_and_is_counted_on_test(
    problem: Problem, trial: Trial, found: Figures
) -> None:
    sequences, owner = problem.sequences, problem.sequences.user_of_event
    rows = problem.example_rows(problem.parts.validation)
    operating = operate_at(sequences.times_ms[rows], owner[rows], trial.scores[rows], 40.0)
    rows = problem.example_rows(problem.parts.test)
    counted = alerts_by_user(
        sequences.times_ms[rows], owner[rows], trial.scores[rows], problem.truth, operating, problem.headline_days
    )
    at_40 = found.budgets["40"]
    assert at_40["recall_at_budget"] == pytest.approx(counted.caught.sum() / counted.defaulted.sum(), abs=1e-5)
    assert at_40["onsets"] == counted.defaulted.sum() > 0
    rate = 1000 * counted.alerts.sum() / counted.months.sum()
    assert at_40["alerts_per_1000_user_months"] == pytest.approx(rate, abs=1e-4)
    assert found.budgets["5"]["recall_at_budget"] == found.row["recall_at_budget"]
    assert at_40["recall_bound"] >= found.row["recall_bound"]


def test_segments_add_up_to_the_whole(found: Figures) -> None:
    whole = found.horizons["90"]
    for of_way in found.segments.values():
        assert sum(segment["examples"] for segment in of_way.values()) == whole["examples"]
        assert sum(segment["positives"] for segment in of_way.values()) == whole["positives"]


def test_a_score_that_is_no_probability_is_not_calibrated(problem: Problem, trial: Trial, found: Figures) -> None:
    rule = figures(Court.convene([problem], 5), [replace(trial, is_probability=False, scores=trial.scores * 1e3)])
    assert rule.row["ece"] is None
    assert rule.row["brier_low"] is None
    assert rule.row["auc"] == found.row["auc"]
    # Thresholds are found wherever scores lie.
    assert rule.row["recall_at_budget"] == pytest.approx(found.row["recall_at_budget"], abs=1e-4)


def test_folds_are_ranked_apart(problem: Problem, trial: Trial) -> None:
    """The same ranking at another level in another fold must not change the AUC."""
    other = replace(trial, scores=trial.scores / 100)
    one = figures(Court.convene([problem], 5), [trial]).row
    two = figures(Court.convene([problem, problem], 5), [trial, other]).row
    assert two["auc"] == pytest.approx(one["auc"], abs=1e-5)
    assert two["ece"] != pytest.approx(one["ece"], abs=1e-5)


def test_equal_candidates_differ_by_nothing_in_any_draw(problem: Problem, trial: Trial) -> None:
    court = Court.convene([problem], 20)
    one, other = (figures(court, [each]) for each in (trial, replace(trial, name="other")))
    assert np.array_equal(one.draws["auc"], other.draws["auc"], equal_nan=True)
    assert len(np.unique(one.draws["auc"])) > 10


def test_the_ensemble_ranks_by_both(problem: Problem, trial: Trial) -> None:
    random = np.random.default_rng(0)
    noisy = [
        replace(trial, scores=np.clip(trial.scores * random.lognormal(0, 1, len(trial.scores)), 0, 1).astype("f4"))
        for _ in range(2)
    ]
    both = combine(problem, *noisy)
    assert both.kind == "challenger"
    assert both.state_bytes == 16
    assert both.us_per_event is None
    alone = [validation_auc([problem], [each]) for each in noisy]
    assert validation_auc([problem], [both]) > max(alone)
    # A score that is no probability takes part by its rank; the ensemble is a probability all the same.
    ranked = combine(problem, noisy[0], replace(noisy[1], is_probability=False, scores=noisy[1].scores * 1e3))
    known = ranked.scores[~np.isnan(ranked.scores)]
    assert ((known >= 0) & (known <= 1)).all()
    assert validation_auc([problem], [ranked]) > max(alone)


def test_validation_users_that_were_not_asked_for_set_no_threshold(problem: Problem, trial: Trial) -> None:
    """An oracle may score a sample of them: what it is judged by comes from those alone."""
    part = problem.parts.validation
    of_sample = (part.truth.default_date_ms[part.users] < NEVER_MS) | (part.users % 2 == 0)
    asked = part.users[of_sample]
    sample = replace(part, users=asked, counts=part.counts[of_sample], skips=part.skips[of_sample])
    smaller = replace(problem, parts=replace(problem.parts, validation=sample))
    rows = problem.example_rows(part)
    scores = trial.scores.copy()
    scores[rows[~np.isin(problem.sequences.user_of_event[rows], asked)]] = np.nan
    assert 0 < np.isnan(scores[rows]).sum() < len(rows)
    found = figures(Court.convene([problem], 2), [replace(trial, scores=scores)])
    expected = figures(Court.convene([smaller], 2), [trial])
    assert found.row == expected.row
    assert found.budgets == expected.budgets
    assert found.row["validation_auc"] is not None
    assert found.budgets["5"]["thresholds"][0]["lower"] is not None
