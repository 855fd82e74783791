"""Alerts at a fixed budget: thresholds set on the validation part, and the alerts they give on the test part, by user.

Alerts, months observed and warnings are defined in `model.evaluation.thresholds` and `model.evaluation.evaluate`;
nothing is redefined.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evaluation.evaluate import first_warnings
from model.evaluation.thresholds import alert_rate, calls_alert, candidate_thresholds, months_observed
from model.histories.labels import NEVER_MS, Truth, within_horizons

EARLY_DAYS = 30.0
"""A warning at least this long before the default date leaves time to act."""


@dataclass(frozen=True)
class Operating:
    """Where a candidate operates under a budget: a share `of_lower` of the users, taken at random, is judged at the
    threshold `lower`, the others at `upper`.

    Scores with few distinct values (a rule) cannot meet a budget by one threshold; two, mixed, meet it exactly, as
    randomised tests do (Neyman and Pearson 1933). Figures are expected values over the draw, so nothing is drawn.
    """

    upper: float
    lower: float
    of_lower: float

    def mixed(self) -> list[tuple[float, float]]:
        """(threshold, share of users), without empty shares."""
        both = ((self.upper, 1.0 - self.of_lower), (self.lower, self.of_lower))
        return [(threshold, share) for threshold, share in both if share > 0]


def operate_at(
    times_ms: NDArray[np.int64], users: NDArray[np.int64], scores: NDArray[np.float32], budget: float
) -> Operating:
    """The thresholds at which validation scores call `budget` alerts per 1,000 users and month.

    Rows as `model.evaluation.thresholds.alert_rate` takes them. Going down from the highest score, `lower` is the first
    threshold over the budget and `upper` the last within it (infinite where the highest score alone is over it).
    """
    upper, upper_rate = float("inf"), 0.0
    for candidate in candidate_thresholds(scores):
        rate = alert_rate(times_ms, users, scores, float(candidate))
        if rate > budget:
            return Operating(upper, float(candidate), (budget - upper_rate) / (rate - upper_rate))
        upper, upper_rate = float(candidate), rate
    return Operating(upper, upper, 0.0)


@dataclass(frozen=True)
class UserAlerts:
    """Alerts within a budget on the test part, float64 per position of the user `[U]`, zero for users not in it.

    `months` observed; `alerts` called; `answered` of them whose headline horizon is known, `true` of these that were
    followed by a default within it; `defaulted` 1 for users with one; `caught` of them within the look-back, `early` of
    them at least `EARLY_DAYS` ahead. `lead_days`, `lead_user` and `lead_weight` are one entry per caught user and
    threshold.
    """

    months: NDArray[np.float64]
    alerts: NDArray[np.float64]
    answered: NDArray[np.float64]
    true: NDArray[np.float64]
    defaulted: NDArray[np.float64]
    caught: NDArray[np.float64]
    early: NDArray[np.float64]
    lead_days: NDArray[np.float64]
    lead_user: NDArray[np.int64]
    lead_weight: NDArray[np.float64]


def alerts_by_user(
    times_ms: NDArray[np.int64],
    users: NDArray[np.int64],
    scores: NDArray[np.float32],
    truth: Truth,
    operating: Operating,
    headline_days: int,
) -> UserAlerts:
    """Count a test part's alerts. Rows are events at risk, sorted by user, then arrival; `truth` is of all users."""
    size = len(truth.default_date_ms)
    present, months = months_observed(times_ms, users)
    months_by_user, defaulted = np.zeros(size), np.zeros(size)
    months_by_user[present] = months
    defaulted[present] = truth.default_date_ms[present] < NEVER_MS
    happened, known = (part[:, 0] for part in within_horizons(times_ms, users, truth, (headline_days,)))
    alerts, answered, true, caught, early = (np.zeros(size) for _ in range(5))
    leads: list[NDArray[np.float64]] = [np.zeros(0)]
    lead_users: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    lead_weights: list[NDArray[np.float64]] = [np.zeros(0)]
    for threshold, share in operating.mixed():
        calls = calls_alert(times_ms, users, scores, threshold)
        alerts += share * np.bincount(users[calls], minlength=size)
        answered += share * np.bincount(users[calls & known], minlength=size)
        true += share * np.bincount(users[calls & known & happened], minlength=size)
        warned, lead_days = first_warnings(times_ms, users, scores, truth, threshold)
        caught[warned] += share
        early[warned] += share * (lead_days >= EARLY_DAYS)
        leads.append(lead_days)
        lead_users.append(warned)
        lead_weights.append(np.full(len(warned), share))
    return UserAlerts(
        months=months_by_user,
        alerts=alerts,
        answered=answered,
        true=true,
        defaulted=defaulted,
        caught=caught,
        early=early,
        lead_days=np.concatenate(leads),
        lead_user=np.concatenate(lead_users),
        lead_weight=np.concatenate(lead_weights),
    )


def recall_bound(alerts: UserAlerts, budget: float) -> float | None:
    """The largest share of the defaults that `budget` alerts per 1,000 users and month can name, one alert each."""
    default_count = float(alerts.defaulted.sum())
    return min(1.0, budget * float(alerts.months.sum()) / 1000.0 / default_count) if default_count else None
