"""Tails and quantiles against closed forms and published tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.statistics.distributions import (
    chi_square_quantile,
    chi_square_tail,
    normal_quantile,
    share_interval,
    two_sided,
)


@pytest.mark.parametrize(
    ("degrees", "five_percent", "one_percent"),
    [(1, 3.841, 6.635), (2, 5.991, 9.210), (9, 16.919, 21.666), (19, 30.144, 36.191), (100, 124.342, 135.807)],
)
def test_quantiles_are_those_of_the_tables(degrees: int, five_percent: float, one_percent: float) -> None:
    assert chi_square_quantile(0.95, degrees) == pytest.approx(five_percent, abs=6e-4)
    assert chi_square_quantile(0.99, degrees) == pytest.approx(one_percent, abs=6e-4)


@given(value=st.floats(0, 400), half=st.integers(1, 60))
def test_even_degrees_are_a_poisson_sum(value: float, half: int) -> None:
    """With 2k degrees the tail is the probability of fewer than k events at rate value / 2."""
    x = value / 2
    exact = math.fsum(math.exp(-x + k * math.log(x) - math.lgamma(k + 1)) if x else float(k == 0) for k in range(half))
    assert chi_square_tail(value, 2 * half) == pytest.approx(exact, rel=1e-9, abs=1e-13)


@given(z=st.floats(-8, 8))
def test_one_degree_is_a_squared_normal(z: float) -> None:
    assert chi_square_tail(z * z, 1) == pytest.approx(two_sided(z), rel=1e-9)


@given(probability=st.floats(1e-6, 1 - 1e-9), degrees=st.integers(1, 1_000))
def test_a_quantile_is_where_the_tail_is_what_is_left(probability: float, degrees: int) -> None:
    assert chi_square_tail(chi_square_quantile(probability, degrees), degrees) == pytest.approx(
        1 - probability, rel=1e-6, abs=1e-12
    )


def test_edges_and_nonsense() -> None:
    assert chi_square_tail(0, 3) == 1.0
    assert chi_square_quantile(0, 3) == 0.0
    with pytest.raises(ValueError, match="degrees of freedom"):
        chi_square_tail(1, 0)
    with pytest.raises(ValueError, match="probability"):
        chi_square_quantile(1.0, 3)
    assert normal_quantile(0.975) == pytest.approx(1.959964, abs=1e-6)


def test_an_interval_of_a_share() -> None:
    low, high = share_interval(0.1, 100)
    assert (low, high) == (pytest.approx(0.0552, abs=1e-4), pytest.approx(0.1744, abs=1e-4))
    assert share_interval(0.0, 50)[0] == 0.0
    assert share_interval(0.0, 50)[1] == pytest.approx(0.0714, abs=1e-4)
    assert share_interval(0.3, 0) == (0.0, 1.0)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    for probability, trials in ((0.02, 400), (0.2, 60), (0.5, 30)):
        seen = random.binomial(trials, probability, size=2_000) / trials
        held = np.mean([low <= probability <= high for low, high in (share_interval(s, trials) for s in seen)])
        assert 0.92 < held < 0.98
