"""Score thresholds for an alert budget: the number of alerts per 1,000 users and month that people can handle.

Pure arithmetic over scores that have been computed. The alert policy itself is in `stream.alerts`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from model.bundle import Thresholds

MONTH_MS = 30 * DAY_MS
QUIET_MS = MONTH_MS
"""Crossings of one user within this time are one alert, since an alert stays open for about as long."""
CANDIDATES = 400


def calls_alert(
    times_ms: NDArray[np.int64], users: NDArray[np.int64], scores: NDArray[np.float32], threshold: float
) -> NDArray[np.bool_]:
    """Whether each score calls a new alert, bool `[n]`: it is at or above `threshold` and the user had none as high in
    the `QUIET_MS` before. Rows are sorted by user, then arrival.
    """
    above = np.flatnonzero(scores >= threshold)
    owner, moment = users[above], times_ms[above]
    fresh = np.ones(len(above), dtype=bool)
    fresh[1:] = (owner[1:] != owner[:-1]) | (moment[1:] - moment[:-1] > QUIET_MS)
    calls = np.zeros(len(scores), dtype=bool)
    calls[above[fresh]] = True
    return calls


def months_observed(
    times_ms: NDArray[np.int64], users: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The users among rows sorted by user, and the months of 30 days for which each was observed: the time between the
    first and the last event, at least one month."""
    first = np.flatnonzero(np.append(True, users[1:] != users[:-1])[: len(users)])
    last = np.append(first[1:], len(users)) - 1
    return users[first], np.maximum(times_ms[last] - times_ms[first], MONTH_MS) / MONTH_MS


def candidate_thresholds(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distinct scores to try as thresholds, falling, more densely near the highest."""
    ranks = 1.0 - np.geomspace(1e-5, 1.0, CANDIDATES)
    tried = np.quantile(scores, ranks).astype(np.float64) if len(scores) else np.array([1.0])
    falling: NDArray[np.float64] = np.unique(tried)[::-1]
    return falling


def alert_rate(
    times_ms: NDArray[np.int64], users: NDArray[np.int64], scores: NDArray[np.float32], threshold: float
) -> float:
    """Alerts per 1,000 users and 30 days if every score at or above `threshold` called one.

    Rows are sorted by user, then arrival; see `calls_alert` and `months_observed`.
    """
    if not len(users):
        return 0.0
    alerts = int(calls_alert(times_ms, users, scores, threshold).sum())
    _, months = months_observed(times_ms, users)
    return 1000.0 * alerts / float(months.sum())


def fit_thresholds(
    times_ms: NDArray[np.int64], users: NDArray[np.int64], scores: NDArray[np.float32], budget: tuple[float, float]
) -> Thresholds:
    """Lowest thresholds whose alert rate, and that of every higher one, stays within the budget (medium, high).

    Arguments as for `alert_rate`; `scores` are probabilities at the headline horizon.
    """
    medium_budget, high_budget = budget
    if not 0 < high_budget <= medium_budget:
        raise ValueError(f"alert budget must be medium >= high > 0, got {budget}")
    # From high to low: below some threshold the rate falls again, since a score that is always above it never crosses.
    candidates = candidate_thresholds(scores)
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
