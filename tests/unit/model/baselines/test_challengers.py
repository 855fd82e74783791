"""Every challenger keeps the contract: scores where asked, none from the future, nothing learnt where it may not."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.baselines import CHALLENGERS, boosting
from model.baselines.attribution import SUMMARY_FILE, WATERFALL_FILE
from model.baselines.boosting import Boosting, apart
from model.baselines.challenger import ChallengerError, Lesson, Platt
from model.baselines.examples import examples_of
from model.baselines.oversampling import Oversampled, smote
from model.baselines.windows import Features, window_features
from model.comparison.candidate import Candidate
from model.comparison.problem import Problem
from model.evaluation.evaluate import progress_bars
from model.evaluation.playback import merged_rows
from model.histories.sequences import Sequences
from model.statistics.metrics import roc_auc

RULES = {"3-sigma", "30-days-past-due", "pd-doubling"}
BLIND = {"3-sigma", "autoencoder"}
"""Learn no outcome; their ranking of this small portfolio is not asked for."""


def fitted(candidate: Candidate, problem: Problem, folder: Path) -> Candidate:
    with progress_bars(False) as bars:
        candidate.fit(problem, folder, bars)
    return candidate


def made(name: str) -> Candidate:
    if name.startswith("lightgbm"):
        return Boosting("smote" if name.endswith("smote") else "weights", trials=2, rounds=30, pictures=False)
    return CHALLENGERS[name]()


@pytest.fixture(scope="module", params=sorted(CHALLENGERS))
def candidate(request: pytest.FixtureRequest, problem: Problem, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    return fitted(made(request.param), problem, tmp_path_factory.mktemp("candidate"))


def test_scores_are_those_asked_for(candidate: Candidate, problem: Problem) -> None:
    users = problem.parts.test.users
    scores = candidate.score(problem, users)
    rows = merged_rows(problem.sequences, users)
    assert scores.dtype == np.float32
    assert scores.shape == problem.sequences.times_ms.shape
    assert np.isfinite(scores[rows]).all()
    assert np.isnan(np.delete(scores, rows)).all()
    if candidate.is_probability:
        assert scores[rows].min() >= 0
        assert scores[rows].max() <= 1
    assert candidate.is_probability == (candidate.name not in RULES | {"autoencoder"})


def test_those_who_learn_find_the_bad(candidate: Candidate, problem: Problem) -> None:
    judged = examples_of(problem, problem.parts.test)
    found = roc_auc(judged.happened, candidate.score(problem, problem.parts.test.users)[judged.rows])
    assert found is not None
    if candidate.name not in BLIND:
        assert found > 0.8


def test_a_score_knows_nothing_of_later_events(
    candidate: Candidate, problem: Problem, cut_short: Callable[[Problem, int], Problem]
) -> None:
    earlier = cut_short(problem, 12)
    users = problem.parts.test.users
    now, then = candidate.score(problem, users), candidate.score(earlier, users)
    lengths = np.diff(earlier.sequences.merged_starts)
    for user in users:
        new, old = problem.sequences.merged_starts[user], earlier.sequences.merged_starts[user]
        np.testing.assert_allclose(
            now[new : new + lengths[user]], then[old : old + lengths[user]], rtol=1e-4, atol=1e-6
        )


def test_costs_are_stated(candidate: Candidate) -> None:
    assert candidate.kind == "challenger"
    assert candidate.us_per_event is not None
    assert candidate.us_per_event > 0
    assert candidate.state_bytes is not None
    assert 16 <= candidate.state_bytes < 10_000


def test_names_are_the_registry_s() -> None:
    assert {name: make().name for name, make in CHALLENGERS.items()} == {name: name for name in CHALLENGERS}


@pytest.mark.parametrize("name", ["lightgbm", "logistic-regression", "1d-cnn"])
def test_a_label_is_learnt_from_each_client_s_last_event(name: str, label_problem: Problem, tmp_path: Path) -> None:
    candidate = fitted(made(name), label_problem, tmp_path)
    users = label_problem.parts.test.users
    last = label_problem.sequences.merged_starts[users + 1] - 1
    found = roc_auc(label_problem.labels[users] > 0, candidate.score(label_problem, users)[last])
    assert found is not None
    assert found > 0.9


def test_test_clients_and_their_truth_change_nothing(problem: Problem, tmp_path: Path) -> None:
    """Equal fits on a problem whose test clients have other outcomes and other histories."""
    sequences, test = problem.sequences, problem.parts.test.users
    numeric = {kind: values.copy() for kind, values in sequences.numeric.items()}
    for kind, values in numeric.items():
        for user in test:
            values[sequences.starts[kind][user] : sequences.starts[kind][user + 1]] *= -3
    labels, default_date_ms = problem.labels.copy(), problem.truth.default_date_ms.copy()
    labels[test], default_date_ms[test] = 1 - labels[test], default_date_ms[test][::-1]
    altered = replace(
        problem,
        sequences=replace(sequences, numeric=numeric),
        truth=replace(problem.truth, default_date_ms=default_date_ms),
        labels=labels,
    )
    others = problem.parts.validation.users
    for name in ("lightgbm-smote", "mlp", "pd-doubling"):
        plain = fitted(made(name), problem, tmp_path).score(problem, others)
        changed = fitted(made(name), altered, tmp_path).score(altered, others)
        np.testing.assert_array_equal(plain, changed)


def test_smote_sees_training_rows_alone(problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row that is oversampled or a neighbour is a row of the training part, and of no other part."""
    calls: list[Oversampled] = []

    def recorded(*arguments: object) -> Oversampled:
        calls.append(smote(*arguments))  # type: ignore[arg-type]
        return calls[-1]

    monkeypatch.setattr(boosting, "smote", recorded)
    fitted(Boosting("smote", trials=2, rounds=10, pictures=False), problem, tmp_path)

    def contents(users: np.ndarray) -> set[bytes]:
        rows = merged_rows(problem.sequences, np.sort(users))
        return {row.tobytes() for row in window_features(problem.sequences, rows).values}

    parts = problem.parts
    own = contents(parts.train.users)
    foreign = contents(parts.validation.users) | contents(parts.test.users)
    assert len(calls) == 3
    assert any(len(call.synthetic) for call in calls)
    for call in calls:
        used = {call.values[row].tobytes() for row in (*range(len(call.values)), *call.base, *call.neighbour)}
        assert used <= own
        assert not used & foreign


@pytest.mark.parametrize("shared", [True, False])
def test_trees_are_chosen_by_users_whom_they_have_not_met(shared: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(30), 5)
    nothing = Features(("x",), np.zeros((150, 1), dtype=np.float32))
    with progress_bars(False) as bars:
        happened = random.random((2, 150)) < 0.3
        judges = users if shared else users + 30
        lesson = Lesson(nothing, happened[0], users, nothing, happened[1], judges, 1, tmp_path, bars)
        fitted, judged = apart(lesson)
    assert not set(users[fitted]) & set(judges[judged])
    assert len(set(users[fitted])) == (20 if shared else 30)
    assert len(set(judges[judged])) == (10 if shared else 30)


def test_trees_are_explained_in_pictures_and_figures(problem: Problem, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        # What shap says about its own dependencies on import is not ours to mend.
        warnings.simplefilter("ignore")
        fitted(Boosting("weights", trials=1, rounds=10), problem, tmp_path)
    for name in (SUMMARY_FILE, WATERFALL_FILE):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert '"validation_auc_of_trials"' in (tmp_path / "settings.json").read_text()


def test_an_outcome_that_nobody_has_is_refused(problem: Problem, tmp_path: Path) -> None:
    truth = replace(
        problem.truth, default_date_ms=np.full_like(problem.truth.default_date_ms, np.iinfo(np.int64).max // 4)
    )
    parts = replace(problem.parts, train=replace(problem.parts.train, truth=truth))
    for name in ("logistic-regression", "1d-cnn"):
        with pytest.raises(ChallengerError, match="take more users"):
            fitted(made(name), replace(problem, parts=parts), tmp_path)


def test_calibration_keeps_ranks_and_gives_the_rate() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 4_000)
    happened = random.random(4_000) < 1 / (1 + np.exp(2.0 - 0.5 * logits))
    probability = Platt.fit(logits, happened).probability(logits)
    assert probability.mean() == pytest.approx(happened.mean(), abs=0.002)
    assert (np.diff(probability[np.argsort(logits)]) >= 0).all()


def test_the_registry_imports_no_library_of_training() -> None:
    heavy = ("torch", "lightgbm", "sklearn", "shap", "optuna", "matplotlib")
    code = f"import sys, model.baselines; print([name for name in {heavy} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_rules_have_the_point_at_which_they_alert() -> None:
    assert {name: CHALLENGERS[name]().alert_at for name in RULES} == {  # type: ignore[attr-defined]
        "3-sigma": 3.0,
        "30-days-past-due": 30.0,
        "pd-doubling": 2.0,
    }


def test_the_thirty_day_rule_scores_days_past_due(problem: Problem, tmp_path: Path) -> None:
    sequences: Sequences = problem.sequences
    rule = fitted(CHALLENGERS["30-days-past-due"](), problem, tmp_path)
    scores = rule.score(problem, np.arange(sequences.users))
    assert scores.max() > 30
    assert scores[sequences.merged_starts[:-1]].max() == 0
