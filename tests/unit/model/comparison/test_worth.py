"""What alerts are worth, against a walk through every user's events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from events.calendar import DAY_MS
from events.columns import COLUMNS
from model.comparison.budget import EARLY_DAYS, alerts_by_user, operate_at
from model.comparison.figures import Court, figures
from model.comparison.problem import Problem
from model.comparison.trial import Trial, run_trial
from model.comparison.worth import RULE_DAYS, days_ahead_of_rule, exposures, rule_ms, saved
from model.evaluation.evaluate import WARNING_DAYS
from model.histories.labels import NEVER_MS

BUDGET = 40.0


@pytest.fixture
def trial(problem: Problem, by_arrears: Any, bars: Any, tmp_path: Path) -> Trial:
    return run_trial(by_arrears(), problem, tmp_path, bars)


def walked_exposure(problem: Problem, row: int) -> float:
    """By going back from an event to the user's latest repayment."""
    sequences = problem.sequences
    user = int(sequences.user_of_event[row])
    count = int(sequences.latest[row, 0])
    if not count:
        return 0.0
    at = COLUMNS["repayments"].numeric_inputs.index("exposure")
    told = float(sequences.numeric["repayments"][sequences.starts["repayments"][user] + count - 1, at])
    return 0.0 if np.isnan(told) else max(told, 0.0)


def test_exposure_is_what_the_latest_repayment_told(problem: Problem) -> None:
    rows = np.arange(0, len(problem.sequences.kinds), 17)
    found = exposures(problem.sequences, rows)
    assert found.tolist() == pytest.approx([walked_exposure(problem, row) for row in rows.tolist()])
    assert (found > 0).any()


def test_the_rule_calls_whoever_is_late_enough(problem: Problem) -> None:
    sequences, found = problem.sequences, rule_ms(problem.sequences)
    for user in range(sequences.users):
        mine = slice(sequences.merged_starts[user], sequences.merged_starts[user + 1])
        late = sequences.times_ms[mine][np.nan_to_num(sequences.days_past_due[mine]) >= RULE_DAYS]
        assert found[user] == (late.min() if len(late) else NEVER_MS)
    assert found.min() < NEVER_MS


def test_days_ahead_of_the_rule_are_those_between_two_dates(problem: Problem, trial: Trial) -> None:
    sequences, owner, truth = problem.sequences, problem.sequences.user_of_event, problem.truth
    rows = problem.example_rows(problem.parts.test)
    operating = operate_at(sequences.times_ms[rows], owner[rows], trial.scores[rows], BUDGET)
    found = alerts_by_user(sequences.times_ms[rows], owner[rows], trial.scores[rows], truth, operating, 90)
    ahead = days_ahead_of_rule(problem, found)
    assert len(ahead) == len(found.lead_user) > 0
    called = rule_ms(sequences)
    for user, lead, days in zip(found.lead_user.tolist(), found.lead_days.tolist(), ahead.tolist(), strict=True):
        warned_ms = truth.default_date_ms[user] - lead * DAY_MS
        expected = (min(called[user], truth.default_date_ms[user]) - warned_ms) / DAY_MS
        assert days == pytest.approx(expected)


def test_what_is_saved_had_an_alert_early_enough(problem: Problem, trial: Trial) -> None:
    sequences, owner, truth = problem.sequences, problem.sequences.user_of_event, problem.truth
    found = saved(problem, trial, BUDGET)
    rows = problem.example_rows(problem.parts.validation)
    values = (trial.scores[rows] * exposures(sequences, rows)).astype(np.float32)
    operating = operate_at(sequences.times_ms[rows], owner[rows], values, BUDGET)
    tested = problem.example_rows(problem.parts.test)
    for user in problem.parts.test.users.tolist():
        mine = tested[owner[tested] == user]
        defaulted = len(mine) > 0 and truth.default_date_ms[user] < NEVER_MS
        at_default = walked_exposure(problem, int(mine[-1])) if defaulted else 0.0
        early = 0.0
        for threshold, share in operating.mixed() if defaulted else ():
            scores = (trial.scores[mine] * exposures(sequences, mine)).astype(np.float32)
            leads = (truth.default_date_ms[user] - sequences.times_ms[mine]) / DAY_MS
            warned = leads[(scores >= threshold) & (leads <= WARNING_DAYS)]
            early += share * bool(len(warned) and warned[0] >= EARLY_DAYS)
        assert found.at_default[user] == pytest.approx(at_default)
        assert found.saved[user] == pytest.approx(at_default * early)
    assert 0 < found.saved.sum() <= found.at_default.sum()


def test_the_figures_are_sums_over_users(problem: Problem, trial: Trial) -> None:
    found = figures(Court.convene([problem], 5), [trial], budgets=(BUDGET,)).row
    worth, test = saved(problem, trial, BUDGET), problem.parts.test.users
    share = worth.saved[test].sum() / worth.at_default[test].sum()
    assert found["exposure_saved"] == pytest.approx(share, abs=1e-5)
    per_alert = worth.saved[test].sum() / worth.alerts[test].sum()
    assert found["exposure_saved_per_alert"] == pytest.approx(per_alert, rel=1e-4)


def test_without_any_exposure_nothing_is_said(problem: Problem, trial: Trial) -> None:
    told = problem.sequences.numeric["repayments"].copy()
    told[:, COLUMNS["repayments"].numeric_inputs.index("exposure")] = np.nan
    sequences = replace(problem.sequences, numeric={**problem.sequences.numeric, "repayments": told})
    row = figures(Court.convene([replace(problem, sequences=sequences)], 5), [trial], budgets=(BUDGET,)).row
    assert row["exposure_saved"] is None
    assert row["recall_at_budget"] is not None
