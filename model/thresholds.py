"""Score thresholds for an alert budget: as many alerts per 1,000 users and month as people can look at.

Pure arithmetic over scores that have already been computed; the alert policy itself is the worker's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from events.columns import DAY_MS
from model.bundle import Thresholds

MONTH_MS = 30 * DAY_MS
QUIET_MS = MONTH_MS
"""Crossings of the same user closer than this are one alert: an alert stays open for about as long."""
CANDIDATES = 400


def alert_rate(
    times_ms: NDArray[np.int64], users: NDArray[np.int64], scores: NDArray[np.float32], threshold: float
) -> float:
    """Alerts per 1,000 users and 30 days if every score at or above `threshold` called one.

    Rows are sorted by user, then arrival. A score calls a new alert when the user had none as high in the `QUIET_MS`
    before. Each user counts for the time between their first and last event, at least 30 days.
    """
    if not len(users):
        return 0.0
    above = scores >= threshold
    owner, moment = users[above], times_ms[above]
    again = (owner[1:] == owner[:-1]) & (moment[1:] - moment[:-1] <= QUIET_MS)
    alerts = len(owner) - int(again.sum())
    first = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    last = np.append(first[1:], len(users)) - 1
    user_months = float(np.maximum(times_ms[last] - times_ms[first], MONTH_MS).sum()) / MONTH_MS
    return 1000.0 * alerts / user_months


def fit_thresholds(
    times_ms: NDArray[np.int64], users: NDArray[np.int64], scores: NDArray[np.float32], budget: tuple[float, float]
) -> Thresholds:
    """Lowest thresholds whose alert rate, and that of every higher one, stays within the budget (medium, high).

    Arguments as for `alert_rate`; `scores` are probabilities at the headline horizon.
    """
    medium_budget, high_budget = budget
    if not 0 < high_budget <= medium_budget:
        raise ValueError(f"alert budget must be medium >= high > 0, got {budget}")
    # From high to low: below some threshold the rate falls again, because a score that is always above never crosses.
    ranks = 1.0 - np.geomspace(1e-5, 1.0, CANDIDATES)
    candidates = np.unique(np.quantile(scores, ranks))[::-1] if len(scores) else np.array([1.0])
    medium = high = min(1.0, float(candidates[0]) * 1.0001)
    for candidate in candidates:
        rate = alert_rate(times_ms, users, scores, float(candidate))
        if rate > medium_budget:
            break
        medium = float(candidate)
        if rate <= high_budget:
            high = float(candidate)
    return Thresholds(
        medium=round(medium, 6),
        high=round(max(high, medium), 6),
        medium_per_1000_users_month=medium_budget,
        high_per_1000_users_month=high_budget,
    )
