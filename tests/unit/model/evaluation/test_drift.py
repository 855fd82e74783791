"""False alarms come about as often as they are meant to, in samples small and large, and real drifts are found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluation.drift import (
    adjusted,
    calibration_drift,
    compared,
    effective_number,
    performance,
    population_stability,
)
from model.evaluation.drift_reference import Distribution, quantile_edges
from model.evaluation.panel import Panel
from model.statistics.distributions import chi_square_quantile

Draw = Callable[[np.random.Generator, int], np.ndarray]


def continuous(random: np.random.Generator, size: int) -> np.ndarray:
    return random.normal(size=size)


def mostly_zero(random: np.random.Generator, size: int) -> np.ndarray:
    """As days past due are: most borrowers have none, and some values are missing."""
    values = np.where(random.random(size) < 0.7, 0.0, random.integers(1, 60, size))
    values[random.random(size) < 0.1] = np.nan
    return values


def binned(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts in bins by the quantiles of the first sample, as a bundle's reference has them."""
    bins = Distribution(edges=quantile_edges(before), categories=[], counts=[])
    return bins.count(before), bins.count(after)


@pytest.mark.parametrize("draw", [continuous, mostly_zero])
@pytest.mark.parametrize(("reference", "recent"), [(40, 40), (2_000, 80), (80, 2_000), (300, 300), (4_000, 4_000)])
def test_false_alarms_are_about_as_frequent_as_asked(draw: Draw, reference: int, recent: int) -> None:
    random = np.random.default_rng(reference + recent)
    found = [population_stability("x", *binned(draw(random, reference), draw(random, recent))) for _ in range(400)]
    judged = [each.p_value for each in found if each.p_value is not None]
    assert len(judged) > 300
    # Standard error of a rate of 5 % in 400 trials is 1.1 %.
    assert 0.012 <= np.mean(np.array(judged) < 0.05) <= 0.085
    assert all((each.psi > each.critical) == (each.p_value < 0.05) for each in found if each.psi is not None)


def test_fixed_limits_would_be_wrong_at_both_ends() -> None:
    """What the sample-size-aware value is for: 0.1 is noise in small samples and a clear shift in large ones."""
    random = np.random.default_rng(1)
    small = [population_stability("x", *binned(continuous(random, 100), continuous(random, 100))) for _ in range(100)]
    assert np.mean([each.psi > 0.1 for each in small]) > 0.5
    assert np.mean([each.verdict != "stable" for each in small]) < 0.12
    large = population_stability("x", *binned(continuous(random, 20_000), continuous(random, 20_000) + 0.1))
    assert large.psi < 0.1
    assert large.verdict == "slight"


def test_the_critical_value_is_the_published_one() -> None:
    counts = np.full(10, 100)
    found = population_stability("x", counts, 2 * counts)
    assert found.psi == pytest.approx(0.0, abs=1e-5)
    assert found.critical == pytest.approx((1 / 1_000 + 1 / 2_000) * chi_square_quantile(0.95, 9))
    assert found.p_value == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "stable"), (0.15, "slight"), (0.4, "moderate"), (1.0, "large")])
def test_a_shift_is_found_and_sized(shift: float, verdict: str) -> None:
    random = np.random.default_rng(2)
    found = population_stability("x", *binned(continuous(random, 5_000), continuous(random, 5_000) + shift))
    assert found.verdict == verdict


def test_a_category_that_vanishes_gives_a_finite_index() -> None:
    found = population_stability("x", np.array([500, 500]), np.array([1_000, 0]))
    assert found.verdict == "large"
    assert np.isfinite(found.psi)


@given(
    before=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    after=st.lists(st.integers(0, 40), min_size=12, max_size=12),
)
def test_the_index_is_symmetric_and_never_negative(before: list[int], after: list[int]) -> None:
    first, second = np.array(before), np.array(after[: len(before)])
    one, other = population_stability("x", first, second), population_stability("x", second, first)
    assert one.psi == (None if other.psi is None else pytest.approx(other.psi))
    if one.psi is None:
        assert one.verdict == "too few"
    else:
        assert one.psi >= 0
        assert min(first.sum(), second.sum()) >= 5 * one.bins * 0.99


def test_among_many_variables_a_false_alarm_stays_rare() -> None:
    random = np.random.default_rng(5)
    alarmed = 0
    for _ in range(60):
        pairs = {str(n): binned(continuous(random, 400), continuous(random, 300)) for n in range(25)}
        found = compared({n: p[0] for n, p in pairs.items()}, {n: p[1] for n, p in pairs.items()})
        assert len(found) == 25
        alarmed += any(each.verdict != "stable" for each in found)
    assert alarmed / 60 < 0.15


def test_holms_steps() -> None:
    random = np.random.default_rng(6)
    clear = population_stability("clear", *binned(continuous(random, 900), continuous(random, 900) + 1))
    calm = population_stability("calm", *binned(continuous(random, 900), continuous(random, 900)))
    few = population_stability("few", np.array([2]), np.array([2]))
    by_name = {each.name: each for each in adjusted([few, calm, clear])}
    assert by_name["few"].verdict == "too few"
    assert by_name["clear"].adjusted_p_value == pytest.approx(2 * clear.p_value)
    assert by_name["calm"].adjusted_p_value == pytest.approx(max(calm.p_value, 2 * clear.p_value))


def a_panel(random: np.random.Generator, users: int, months: int, factor: float = 1.0) -> Panel:
    """Users of a constant hazard that their score tells, times `factor`; a default is the outcome of the scores of up
    to three months, and ends the user's scores."""
    chance = random.beta(0.6, 12, size=(users, 1))
    struck = random.random((users, months + 2)) < factor * (1 - (1 - chance) ** (1 / 3))
    defaulted_month = np.where(struck.any(1), struck.argmax(1), months + 2)[:, None]
    month = np.tile(np.arange(months), (users, 1))
    at_risk = month <= defaulted_month
    happened = defaulted_month < month + 3
    happened &= defaulted_month < months + 2
    owner = np.repeat(np.arange(users)[:, None], months, 1)
    return Panel(owner[at_risk], month[at_risk], np.repeat(chance, months, 1)[at_risk], happened[at_risk], 90)


def test_a_calibrated_model_is_rarely_accused_though_months_overlap() -> None:
    random = np.random.default_rng(7)
    z = [calibration_drift(a_panel(random, 400, 6)).z for _ in range(200)]
    assert np.mean(np.abs(z) > 1.96) < 0.10
    assert abs(np.mean(z)) < 0.25


def test_a_worsening_is_found() -> None:
    random = np.random.default_rng(8)
    found = calibration_drift(a_panel(random, 3_000, 6, factor=1.6))
    assert found.p_value < 1e-3
    assert found.ratio > 1.3
    assert not all(band.holds for band in found.bands)
    assert sum(band.scores for band in found.bands) == found.scores


def test_bands_of_a_calibrated_model_hold() -> None:
    random = np.random.default_rng(9)
    held = [band.holds for _ in range(40) for band in calibration_drift(a_panel(random, 500, 6)).bands]
    assert np.mean(held) > 0.9


def test_repeated_rows_are_no_new_evidence() -> None:
    happened = np.array([True, False, False, False] * 10)
    alone = effective_number(np.arange(40), happened)
    thrice = effective_number(np.repeat(np.arange(40), 3), np.repeat(happened, 3))
    assert alone == pytest.approx(40)
    assert thrice == pytest.approx(40)
    assert effective_number(np.array([1, 1, 2]), np.zeros(3, bool)) == 2


def test_ranking_by_month() -> None:
    random = np.random.default_rng(10)
    panel = a_panel(random, 800, 3)
    months = performance(panel, resamples=60)
    assert [each.month for each in months] == ["1970-01", "1970-02", "1970-03"]
    for each in months:
        assert each.auc.low < each.auc.value < each.auc.high
        assert 0.5 < each.auc.value < 1
        assert 0 < each.ks.value < 1
        assert each.onsets <= each.scores


def test_an_empty_panel_is_no_error() -> None:
    nothing = Panel(*(np.zeros(0, np.int64),) * 2, np.zeros(0), np.zeros(0, bool), 90)
    found = calibration_drift(nothing)
    assert (found.z, found.ratio, found.bands) == (None, None, ())
    assert performance(nothing) == []
