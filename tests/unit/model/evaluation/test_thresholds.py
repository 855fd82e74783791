from __future__ import annotations

import numpy as np
import pytest

from model.evaluation.thresholds import MONTH_MS, alert_rate, fit_thresholds

DAY = 86_400_000


def test_one_alert_per_quiet_month_and_user() -> None:
    # Two users over 90 days, so 6 user-months. One is above on days 0, 10, 20 (one alert) and 80 (another).
    days = np.array([0, 10, 20, 50, 80, 90, 0, 90])
    users = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    scores = np.array([0.9, 0.9, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1], dtype=np.float32)
    assert alert_rate(days * DAY, users, scores, 0.5) == pytest.approx(1000 * 2 / 6)
    assert alert_rate(days * DAY, users, scores, 0.95) == 0
    # Below every score the first user is one long alert, and the second is heard of twice, 90 days apart.
    assert alert_rate(days * DAY, users, scores, 0.05) == pytest.approx(1000 * 3 / 6)


def test_a_short_history_counts_a_whole_month() -> None:
    one = np.array([0])
    assert alert_rate(one, one, np.array([1.0], np.float32), 0.5) == 1000.0
    assert alert_rate(one[:0], one[:0], np.zeros(0, np.float32), 0.5) == 0.0
    assert MONTH_MS == 30 * DAY


@pytest.mark.parametrize("budget", [(40.0, 15.0), (5.0, 1.5), (200.0, 200.0)])
def test_thresholds_keep_to_the_budget_and_use_it(budget: tuple[float, float]) -> None:
    random = np.random.default_rng(1)
    users = np.repeat(np.arange(800), 60)
    times = np.tile(np.sort(random.integers(0, 365, 60)), 800) * DAY
    risk = np.repeat(random.normal(-4, 1, 800), 60) + random.normal(0, 0.5, 48_000)
    scores = (1 / (1 + np.exp(-risk))).astype(np.float32)
    found = fit_thresholds(times, users, scores, budget)
    for threshold, limit in ((found.medium, budget[0]), (found.high, budget[1])):
        assert 0.6 * limit <= alert_rate(times, users, scores, threshold) <= limit
    assert found.high >= found.medium
    assert (found.medium_per_1000_users_month, found.high_per_1000_users_month) == budget


@pytest.mark.parametrize("budget", [(1.0, 2.0), (1.0, 0.0), (-1.0, -2.0)])
def test_an_impossible_budget_is_refused(budget: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="alert budget"):
        fit_thresholds(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.float32), budget)
