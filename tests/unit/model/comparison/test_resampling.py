"""Weighted measures are the plain ones under weights of one, and a weight of two is the same user twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.comparison.resampling import calibration, draw_users, interval, ranking, weighted_quantile
from model.statistics.metrics import BINS, brier, calibration_error, pr_auc, roc_auc


def _examples(seed: int, count: int, levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = (random.integers(0, levels, count) / levels).astype(np.float32)
    return random.random(count) < 0.1 + 0.8 * scores, scores, random.integers(0, 7, count)


@given(st.integers(0, 10_000), st.integers(2, 120), st.sampled_from([2, 5, 10_000]))
@settings(max_examples=60, deadline=None)
def test_measures_are_those_of_the_weighted_users(seed: int, count: int, levels: int) -> None:
    happened, scores, users = _examples(seed, count, levels)
    weights = draw_users(7, 4, seed)
    ranked, calibrated = ranking(happened, scores, users, weights), calibration(happened, scores, users, weights)
    for row, drawn in enumerate(weights):
        copies = np.repeat(np.arange(count), drawn[users].astype(int))
        expected = {
            "auc": roc_auc(happened[copies], scores[copies]),
            "pr_auc": pr_auc(happened[copies], scores[copies]),
            "brier": brier(happened[copies], scores[copies]),
        }
        for name, value in expected.items():
            found = {**ranked, **calibrated}[name][row]
            assert (np.isnan(found) and value is None) or found == pytest.approx(value, abs=1e-9), name


def test_ks_is_the_largest_gap_between_the_two_distributions() -> None:
    happened, scores, users = _examples(3, 500, 50)
    grid = np.unique(scores)
    gaps = [abs((scores[happened] <= s).mean() - (scores[~happened] <= s).mean()) for s in grid]
    assert ranking(happened, scores, users, np.ones((1, 7)))["ks"][0] == pytest.approx(max(gaps))


def test_calibration_error_is_the_plain_one_where_groups_divide() -> None:
    happened, scores, users = _examples(5, BINS * 20, 10_000)
    found = calibration(happened, scores, users, np.ones((1, 7)))["ece"][0]
    assert found == pytest.approx(calibration_error(happened, scores), abs=1e-6)


def test_intervals_hold_what_they_should_about_as_often_as_they_say() -> None:
    """Users with several equal events each: drawing events instead of users would give far too narrow intervals."""
    random = np.random.default_rng(0)
    held = 0
    for trial in range(60):
        risk = random.random(120)
        users = np.repeat(np.arange(120), 8)
        happened = np.repeat(random.random(120) < risk, 8)
        found = interval(ranking(happened, risk[users], users, draw_users(120, 100, trial))["auc"])
        held += found.low <= 5 / 6 <= found.high  # P(X > Y) for densities 2x and 2(1 - x)
    assert 50 <= held <= 60


def test_a_figure_that_resampling_inflates_is_reflected() -> None:
    values = np.array([0.01, 0.009, 0.015, 0.03])
    plain, reflected = interval(values), interval(values, biased_upwards=True)
    assert plain.high > 0.025
    assert reflected.low == 0.0
    assert 0.01 < reflected.high < 0.012
    # All draws above the point: the interval still holds it.
    assert interval(np.array([0.01, 0.012, 0.02])).low == 0.01
    assert interval(np.array([np.nan, 1.0])).point is None
    assert interval(np.array([1.0])).low is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.integers(0, 1_000))
@settings(max_examples=60, deadline=None)
def test_a_weighted_median_is_the_median_of_the_copies(values: list[float], seed: int) -> None:
    leads = np.array(values)
    weights = draw_users(len(leads), 3, seed)
    for found, drawn in zip(weighted_quantile(leads, weights, 0.5), weights, strict=True):
        assert found == pytest.approx(float(np.median(np.repeat(leads, drawn.astype(int)))))
