from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.statistics.metrics import (
    brier,
    calibration_error,
    calibration_error_by_chance,
    log_loss,
    pr_auc,
    roc_auc,
    summary,
)

EXAMPLES = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40)


def _arrays(examples: list[tuple[bool, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([bad for bad, _ in examples]), np.array([score for _, score in examples], dtype=np.float32) / 10


@settings(deadline=None)
@given(examples=EXAMPLES)
def test_auc_is_the_share_of_pairs_in_the_right_order(examples: list[tuple[bool, int]]) -> None:
    bad, score = _arrays(examples)
    pairs = [(a > b) + 0.5 * (a == b) for a in score[bad] for b in score[~bad]]
    found = roc_auc(bad, score)
    assert found is None if not pairs else found == pytest.approx(np.mean(pairs))


@settings(deadline=None)
@given(examples=EXAMPLES)
def test_average_precision_against_its_definition(examples: list[tuple[bool, int]]) -> None:
    bad, score = _arrays(examples)
    precisions = [bad[score >= threshold].mean() for threshold in score[bad]]
    found = pr_auc(bad, score)
    assert found is None if not precisions else found == pytest.approx(np.mean(precisions))


def test_a_calibrated_score_has_little_error_and_a_doubled_one_has_much() -> None:
    random = np.random.default_rng(0)
    probability = random.beta(1, 10, 50_000)
    bad = random.random(50_000) < probability
    assert calibration_error(bad, probability) < 0.006
    assert calibration_error(bad, np.minimum(2 * probability, 1)) > 0.05
    assert brier(bad, probability) < brier(bad, np.minimum(2 * probability, 1))


def test_logarithmic_loss_is_of_the_probability_of_what_happened() -> None:
    assert log_loss(np.array([True, False]), np.array([0.5, 0.25])) == pytest.approx(-np.log([0.5, 0.75]).mean())
    assert log_loss(np.array([True]), np.array([0.0])) == pytest.approx(-np.log(1e-12))
    assert log_loss(np.zeros(0, dtype=bool), np.zeros(0)) is None


@pytest.mark.parametrize("examples", [10, 682, 30_000])
def test_by_chance_right_scores_have_the_error_that_they_have(examples: int) -> None:
    random = np.random.default_rng(1)
    probability = random.beta(1, 8, examples).astype(np.float32)
    found = [calibration_error(random.random(examples) < probability, probability) for _ in range(200)]
    assert calibration_error_by_chance(probability) == pytest.approx(np.mean(found), rel=0.1)


def test_certain_scores_have_no_error_by_chance() -> None:
    assert calibration_error_by_chance(np.array([0.0, 1.0, 1.0])) == 0.0
    assert calibration_error_by_chance(np.zeros(0)) is None


def test_no_examples_have_no_measures() -> None:
    nothing = np.zeros(0)
    found = summary(nothing.astype(bool), nothing)
    assert found == {"auc": None, "pr_auc": None, "brier": None, "ece": None, "examples": 0, "positives": 0}
