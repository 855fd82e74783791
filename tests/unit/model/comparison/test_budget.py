"""Alerts at a budget: the thresholds meet it, and the counts are those of a walk through every user's events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.calendar import DAY_MS
from model.comparison.budget import Operating, alerts_by_user, operate_at, recall_bound
from model.evaluation.evaluate import WARNING_DAYS, early_warning
from model.evaluation.thresholds import MONTH_MS, QUIET_MS, alert_rate
from model.histories.labels import NEVER_MS, Truth

HEADLINE_DAYS = 90


def _rows(seed: int, users: int = 30, levels: int = 1_000) -> tuple[np.ndarray, np.ndarray, np.ndarray, Truth]:
    random = np.random.default_rng(seed)
    owner = np.sort(random.integers(0, users, users * 12))
    times = random.integers(0, 300, len(owner)) * DAY_MS
    order = np.lexsort((times, owner))
    default_date_ms = np.where(random.random(users) < 0.4, random.integers(200, 420, users) * DAY_MS, NEVER_MS)
    scores = (random.integers(0, levels, len(owner)) / levels).astype(np.float32)
    times = times[order]
    risk = times < default_date_ms[owner]
    truth = Truth(default_date_ms, np.full(users, 420 * DAY_MS))
    return times[risk], owner[risk], scores[risk], truth


@given(st.integers(0, 10_000), st.sampled_from([2, 4, 1_000]), st.sampled_from([5.0, 15.0, 100.0, 300.0]))
@settings(max_examples=60, deadline=None)
def test_the_budget_is_met_whatever_values_scores_have(seed: int, levels: int, budget: float) -> None:
    times, owner, scores, _ = _rows(seed, levels=levels)
    operating = operate_at(times, owner, scores, budget)
    rate = sum(share * alert_rate(times, owner, scores, threshold) for threshold, share in operating.mixed())
    if operating.of_lower:
        assert rate == pytest.approx(budget)
        assert operating.lower < operating.upper
    else:
        assert rate <= budget


@given(st.integers(0, 10_000), st.floats(0.3, 1.0), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_a_walk(seed: int, threshold: float, share: float) -> None:
    times, owner, scores, truth = _rows(seed)
    operating = Operating(upper=threshold, lower=threshold - 0.2, of_lower=share)
    found = alerts_by_user(times, owner, scores, truth, operating, HEADLINE_DAYS)
    for user in range(len(truth.default_date_ms)):
        mine = owner == user
        months = max(np.ptp(times[mine]), MONTH_MS) / MONTH_MS if mine.any() else 0.0
        assert found.months[user] == pytest.approx(months)
        assert found.defaulted[user] == (mine.any() and truth.default_date_ms[user] < NEVER_MS)
        expected = np.zeros(5)
        for bar, weight in ((threshold, 1 - share), (threshold - 0.2, share)):
            expected += weight * np.array(_walk(times[mine], scores[mine], bar, truth.default_date_ms[user]))
        counted = [getattr(found, name)[user] for name in ("alerts", "answered", "true", "caught", "early")]
        assert counted == pytest.approx(expected)


def _walk(times: np.ndarray, scores: np.ndarray, bar: float, default_date_ms: int) -> tuple[int, int, int, bool, bool]:
    alerts = answered = true = 0
    latest, lead_days = None, None
    for moment, score in zip(times.tolist(), scores.tolist(), strict=True):
        if np.float32(score) < np.float32(bar):  # scores are float32, and so is what they are held against
            continue
        if lead_days is None and (default_date_ms - moment) / DAY_MS <= WARNING_DAYS:
            lead_days = (default_date_ms - moment) / DAY_MS
        if latest is None or moment - latest > QUIET_MS:
            alerts += 1
            known = moment + HEADLINE_DAYS * DAY_MS <= 420 * DAY_MS
            answered += known
            true += known and default_date_ms - moment <= HEADLINE_DAYS * DAY_MS
        latest = moment
    return alerts, answered, true, lead_days is not None, lead_days is not None and lead_days >= 30


def test_warnings_are_those_that_evaluation_reports() -> None:
    times, owner, scores, truth = _rows(5)
    found = alerts_by_user(times, owner, scores, truth, Operating(0.8, 0.8, 0.0), HEADLINE_DAYS)
    reported = early_warning(times, owner, scores, truth, 0.8)
    assert reported["caught"] == round(found.caught.sum() / found.defaulted.sum(), 4)
    assert reported["median_lead_days"] == round(float(np.median(found.lead_days)), 1)
    rate = 1000 * found.alerts.sum() / found.months.sum()
    assert reported["alerts_per_1000_users_month"] == round(rate, 2)


def test_no_ranking_beats_the_bound_of_recall() -> None:
    times, owner, _, truth = _rows(8, users=400)
    # One score that knows all: high from 60 days before the default date on, higher the nearer it is.
    until = (truth.default_date_ms[owner] - times) / DAY_MS
    scores = np.where(until <= 60, 1 - until / 100, 0.0).astype(np.float32)
    budget = 20.0
    found = alerts_by_user(times, owner, scores, truth, operate_at(times, owner, scores, budget), HEADLINE_DAYS)
    bound = recall_bound(found, budget)
    assert 0 < bound < 1
    assert found.caught.sum() / found.defaulted.sum() <= bound + 1e-9
    assert recall_bound(found, 1e6) == 1.0
