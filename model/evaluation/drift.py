"""Drift: whether the population, the calibration and the ranking of a model have changed since it was trained.

Only statistics of counts and of matured scores: no I/O, no clock. `model.evaluation.drift_reference` and the caller
choose the samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.evaluation.panel import Panel, month_name
from model.statistics.distributions import chi_square_quantile, chi_square_tail, share_interval, two_sided
from model.statistics.resampling import RESAMPLES, Interval, Ranking, intervals

ALPHA = 0.05
"""False alarm rate of a single test where nothing has changed."""
LEAST_EXPECTED = 5.0
"""Fewest users that the smaller sample must be expected to have in a bin; smaller bins are merged with neighbours."""
PSEUDO_COUNT = 0.5
"""Added to each bin of either sample, so that an empty bin gives a finite index."""
MODERATE, LARGE = 0.10, 0.25
"""The customary sizes of a shift (Siddiqi 2006, Credit Risk Scorecards). They say how much, not whether by chance."""
SCORE_BANDS = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

Verdict = Literal["too few", "stable", "slight", "moderate", "large"]


@dataclass(frozen=True)
class Stability:
    """Population stability index of one variable, `reference` users against `recent` users.

    `critical`: without a change the index is below it with probability 1 - alpha. `p_value` is the probability of an
    index as large by chance, `adjusted_p_value` the same after Holm's correction for all variables compared. `verdict`
    is `stable` unless the adjusted value is below alpha, and otherwise the size of the shift.
    """

    name: str
    reference: int
    recent: int
    bins: int
    psi: float | None
    critical: float | None
    p_value: float | None
    adjusted_p_value: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Band:
    """Matured scores from `low` up to `high`: mean score, observed rate of default, and the interval of the rate."""

    low: float
    high: float
    scores: int
    expected: float
    observed: float
    observed_low: float
    observed_high: float

    @property
    def holds(self) -> bool:
        """Whether the mean score is within the interval of the observed rate."""
        return self.observed_low <= self.expected <= self.observed_high


@dataclass(frozen=True)
class CalibrationDrift:
    """Calibration in the large (`observed` against `expected` defaults, z and its two-sided p-value), and per band."""

    scores: int
    users: int
    expected: float
    observed: int
    z: float | None
    p_value: float | None
    bands: tuple[Band, ...]

    @property
    def ratio(self) -> float | None:
        """Observed to expected defaults; above 1 the model is too optimistic."""
        return self.observed / self.expected if self.expected > 0 else None


@dataclass(frozen=True)
class MonthOfScores:
    """Ranking quality of the scores of one month.

    `onsets` counts defaults; it has the name of the report's key, since the report is this class as JSON.
    """

    month: str
    scores: int
    onsets: int
    expected: float
    auc: Interval
    pr_auc: Interval
    ks: Interval


def population_stability(
    name: str, reference: NDArray[np.int64], recent: NDArray[np.int64], alpha: float = ALPHA
) -> Stability:
    """PSI = Σ (q - p)·ln(q / p) over bins, of counts int64 `[bins]` of two samples of independent users.

    Where nothing has changed PSI is about (1/n + 1/m)·χ² with bins - 1 degrees of freedom (Yurdakul & Naranjo 2020,
    "Statistical properties of the population stability index", Journal of Risk Model Validation 14(4)), so the critical
    value depends on the sample sizes n and m, as fixed limits of 0.1 and 0.25 do not. Holds also for bins that are
    quantiles of the reference sample. Bins must be in order; the smaller sample decides how fine they stay.
    `adjusted_p_value` is the plain one until `adjusted` sets it.
    """
    n, m = int(reference.sum()), int(recent.sum())
    before, after = _merged(reference, recent)
    if len(before) < 2:
        return Stability(name, n, m, len(before), None, None, None, None, "too few")
    p = (before + PSEUDO_COUNT) / (n + PSEUDO_COUNT * len(before))
    q = (after + PSEUDO_COUNT) / (m + PSEUDO_COUNT * len(after))
    psi = float(((q - p) * np.log(q / p)).sum())
    scale = 1 / n + 1 / m
    p_value = chi_square_tail(psi / scale, len(before) - 1)
    critical = scale * chi_square_quantile(1 - alpha, len(before) - 1)
    return Stability(name, n, m, len(before), psi, critical, p_value, p_value, _verdict(psi, p_value, alpha))


def adjusted(found: list[Stability], alpha: float = ALPHA) -> list[Stability]:
    """The same with p-values adjusted by Holm (1979), so that the chance of any false alarm among all is alpha."""
    ranked = sorted((each for each in found if each.p_value is not None), key=lambda each: each.p_value or 0.0)
    result = {}
    least = 0.0
    for rank, each in enumerate(ranked):
        assert each.p_value is not None
        assert each.psi is not None
        least = max(least, min(1.0, each.p_value * (len(ranked) - rank)))
        result[each.name] = Stability(
            each.name,
            each.reference,
            each.recent,
            each.bins,
            each.psi,
            each.critical,
            each.p_value,
            least,
            _verdict(each.psi, least, alpha),
        )
    return [result.get(each.name, each) for each in found]


def calibration_drift(panel: Panel, confidence: float = 0.95) -> CalibrationDrift:
    """Observed against expected defaults, in all and by `SCORE_BANDS`.

    In all: z = (O - E) / √V, V the larger of the variance of independent outcomes Σ p(1 - p) and of what users
    contribute, Σ_users (Σ (y - p))², since neighbouring months of a user share their outcome. By band: Wilson's
    interval at the effective number of scores, their number over the design effect by user (as Korn & Graubard 1998 do
    for exact intervals).
    """
    p, y = panel.scores, panel.happened.astype(np.float64)
    expected, observed = float(p.sum()), int(y.sum())
    variance = max(float((p * (1 - p)).sum()), float((_sums(panel.users, y - p) ** 2).sum()))
    z = (observed - expected) / np.sqrt(variance) if variance > 0 else None
    place = np.clip(np.searchsorted(SCORE_BANDS, p, side="right") - 1, 0, len(SCORE_BANDS) - 2)
    bands = [_band(panel.where(place == band), band, confidence) for band in np.unique(place)]
    return CalibrationDrift(
        scores=len(panel),
        users=len(np.unique(panel.users)),
        expected=expected,
        observed=observed,
        z=None if z is None else float(z),
        p_value=None if z is None else two_sided(float(z)),
        bands=tuple(bands),
    )


def performance(panel: Panel, resamples: int = RESAMPLES) -> list[MonthOfScores]:
    """Ranking of each month's scores, with intervals from resampling users."""
    found = []
    for month in np.unique(panel.months):
        rows = panel.where(panel.months == month)
        measured = intervals(Ranking(rows.happened, rows.scores).measures, rows.users, resamples)
        found.append(
            MonthOfScores(
                month=month_name(int(month)),
                scores=len(rows),
                onsets=int(rows.happened.sum()),
                expected=float(rows.scores.sum()),
                auc=measured["auc"],
                pr_auc=measured["pr_auc"],
                ks=measured["ks"],
            )
        )
    return found


def compared(
    reference: Mapping[str, NDArray[np.int64]], recent: Mapping[str, NDArray[np.int64]], alpha: float = ALPHA
) -> list[Stability]:
    """Stability of every variable that both sides counted, p-values adjusted for their number."""
    return adjusted(
        [
            population_stability(name, counts, recent[name], alpha)
            for name, counts in reference.items()
            if name in recent
        ],
        alpha,
    )


def _merged(reference: NDArray[np.int64], recent: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Neighbouring bins merged until the smaller sample expects `LEAST_EXPECTED` users in each; the rest joins the last
    bin. The rule depends on the sum of both samples only, so it favours neither."""
    pooled = (reference + recent).astype(np.float64)
    total = pooled.sum()
    share = min(reference.sum(), recent.sum()) / total if total else 0.0
    groups = np.zeros(len(pooled), dtype=np.int64)
    group, held = 0, 0.0
    for position, count in enumerate(pooled):
        groups[position] = group
        held += count * share
        if held >= LEAST_EXPECTED:
            group, held = group + 1, 0.0
    if held < LEAST_EXPECTED and group:
        groups[groups == group] = group - 1
    size = int(groups.max(initial=-1)) + 1
    before, after = (np.bincount(groups, counts.astype(np.float64), size) for counts in (reference, recent))
    return before.astype(np.float64), after.astype(np.float64)


def _verdict(psi: float, p_value: float, alpha: float) -> Verdict:
    if p_value >= alpha:
        return "stable"
    return "large" if psi >= LARGE else "moderate" if psi >= MODERATE else "slight"


def _band(rows: Panel, band: int, confidence: float) -> Band:
    observed = float(rows.happened.mean())
    low, high = share_interval(observed, effective_number(rows.users, rows.happened), confidence)
    return Band(
        low=SCORE_BANDS[band],
        high=SCORE_BANDS[band + 1],
        scores=len(rows),
        expected=float(rows.scores.mean()),
        observed=observed,
        observed_low=low,
        observed_high=high,
    )


def effective_number(users: NDArray[np.int64], happened: NDArray[np.bool_]) -> float:
    """The number of independent rows that would estimate the rate as precisely: rows over the design effect by user, at
    least 1; the number of users where all outcomes are equal and the effect cannot be estimated."""
    rate = float(happened.mean())
    if rate in (0.0, 1.0):
        return float(len(np.unique(users)))
    by_user = float((_sums(users, happened.astype(np.float64) - rate) ** 2).sum())
    return len(users) / max(1.0, by_user / (len(users) * rate * (1 - rate)))


def _sums(users: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, position = np.unique(users, return_inverse=True)
    return np.bincount(position, values).astype(np.float64)
