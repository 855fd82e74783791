"""Expected cases are what hazards say, and intervals hold what comes as often as they claim."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.outlook.outlook import (
    Book,
    Judged,
    TrackRecord,
    case_intervals,
    count_intervals,
    dispersion,
    judged,
    outlook,
    within,
)

HORIZONS = (30, 60, 90, 180)


def a_book(hazard: float, ages: list[float]) -> Book:
    """Users of one constant daily hazard whose scores have different ages."""
    probabilities = np.tile(1 - np.exp(-hazard * np.array(HORIZONS)), (len(ages), 1))
    return Book(0, np.arange(len(ages)), np.array(ages), probabilities)


@given(hazard=st.floats(1e-6, 0.05), age=st.floats(0, 170), days=st.sampled_from([30, 60, 90]))
def test_under_a_constant_hazard_the_age_of_a_score_does_not_matter(hazard: float, age: float, days: int) -> None:
    (chance,) = within(a_book(hazard, [age]), HORIZONS, days)
    assert chance == pytest.approx(1 - np.exp(-hazard * days), rel=1e-6)


def test_a_fresh_score_is_taken_as_it_is() -> None:
    probabilities = np.array([[0.1, 0.15, 0.3, 0.5], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    book = Book(0, np.arange(3), np.zeros(3), probabilities)
    for position, days in enumerate((30, 60, 90)):
        assert within(book, HORIZONS, days) == pytest.approx(probabilities[:, position], abs=1e-8)


def test_survival_so_far_is_counted_out() -> None:
    """All of the risk lay in the first 30 days, and they have passed."""
    book = Book(0, np.arange(1), np.array([30.0]), np.array([[0.8, 0.8, 0.8, 0.8]]))
    assert within(book, HORIZONS, 60)[0] == pytest.approx(0.0)


@given(
    chances=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    age=st.floats(0, 400),
)
def test_chances_grow_with_the_horizon(chances: list[float], age: float) -> None:
    book = Book(0, np.arange(1), np.array([age]), np.sort(np.array([chances])))
    found = [float(within(book, HORIZONS, days)[0]) for days in (30, 60, 90)]
    assert 0 <= found[0] <= found[1] <= found[2] <= 1


@pytest.mark.parametrize("shared", [0.0, 0.25])
def test_intervals_hold_what_comes_as_often_as_they_say(shared: float) -> None:
    random = np.random.default_rng(3)
    chances = random.beta(0.4, 12, 1_500)
    hazards = -np.log1p(-chances)
    spread = np.sqrt(np.log1p(shared**2))
    bounds = case_intervals(chances, shared)
    factors = np.exp(random.normal(-(spread**2) / 2, spread, 600))
    came = np.array([(random.random(1_500) < -np.expm1(-factor * hazards)).sum() for factor in factors])
    for name, share in (("80", 0.8), ("95", 0.95)):
        low, high = bounds[name]
        assert share - 0.05 < np.mean((low <= came) & (came <= high)) < share + 0.07


def test_without_a_shared_error_the_variance_is_the_poisson_binomials() -> None:
    """Surer chances leave less to chance than as many cases of a Poisson would."""
    chances = np.concatenate([np.full(60, 0.9), np.full(1_000, 0.006)])
    sure = case_intervals(chances, 0.0)["95"]
    poisson = count_intervals(float(chances.sum()), 0.0)["95"]
    variance = (chances * (1 - chances)).sum()
    assert sure[1] - sure[0] == pytest.approx(2 * 1.96 * np.sqrt(variance), abs=2.0)
    assert sure[1] - sure[0] < 0.7 * (poisson[1] - poisson[0])


def test_a_shared_error_widens() -> None:
    chances = np.full(2_000, 0.05)
    widths = [case_intervals(chances, shared)["95"][1] - case_intervals(chances, shared)["95"][0]
              for shared in (0.0, 0.1, 0.3)]  # fmt: skip
    assert widths[0] < widths[1] < widths[2]
    assert case_intervals(chances, 0.1) == case_intervals(chances, 0.1)


def test_the_shared_error_is_estimated() -> None:
    random = np.random.default_rng(4)
    chances = np.full(3_000, 0.03)
    for shared in (0.0, 0.3):
        past = []
        for _ in range(400):
            factor = np.exp(random.normal(-np.log1p(shared**2) / 2, np.sqrt(np.log1p(shared**2))))
            past.append(judged(chances, random.random(3_000) < 1 - (1 - chances) ** factor))
        assert dispersion(past) == pytest.approx(shared, abs=0.05)


def test_too_few_past_outlooks_say_nothing() -> None:
    assert dispersion([Judged(10, 9, 12)] * 2) is None
    assert dispersion([Judged(0, 0, 0)] * 5) is None
    found = outlook("all", 30, np.full(10, 0.2), np.full(10, 0.1), None)
    assert found.dispersion is None
    assert found.expected == pytest.approx(1.0)
    assert found.sum_of_scores == pytest.approx(2.0)
    assert found.users == 10


def test_nobody_at_risk_gives_no_cases() -> None:
    assert case_intervals(np.zeros(0), 0.2)["95"] == (0.0, 0.0)


def test_each_part_of_the_horizon_is_set_right_by_itself() -> None:
    """Scores that see half of what comes from day 30 to 60, and are right elsewhere."""
    random = np.random.default_rng(8)
    true = Book(0, np.arange(20_000), np.zeros(20_000), np.tile([0.02, 0.06, 0.08, 0.2], (20_000, 1)))
    scored = np.tile(
        [0.02, 1 - 0.98 * np.sqrt(0.94 / 0.98), 1 - 0.98 * np.sqrt(0.94 / 0.98) * 0.92 / 0.94, 0.2], (20_000, 1)
    )
    record = TrackRecord(HORIZONS)
    day_ms = 86_400_000
    for month in range(8):
        at_ms = month * 30 * day_ms
        chance = random.random(20_000)
        edges = np.array([0.0, 0.02, 0.06, 0.08])
        default_date_ms = at_ms + np.interp(chance, edges, [0, 30, 60, 90]) * day_ms
        default_date_ms = np.where(chance < 0.08, default_date_ms, np.iinfo(np.int64).max // 4).astype(np.int64)
        record.add(Book(at_ms, true.users, true.ages_days, scored), default_date_ms)
    now = Book(8 * 30 * day_ms, true.users, true.ages_days, scored)
    assert record.factors(now.at_ms) == pytest.approx([1.0, 2.0, 1.0], rel=0.07)
    assert record.factors(30 * day_ms).tolist() == [1.0, 1.0, 1.0]
    chances = record.chances(now)
    for position, days in enumerate((30, 60, 90)):
        assert chances[days].mean() == pytest.approx(true.probabilities[0, position], rel=0.05)
    assert len(record.due(90, now.at_ms)) == 6
