"""Bootstrap by user: measures under weights, for many resamples at once.

A user is the unit that is drawn, because events of one user are not independent of each other. Needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.statistics.metrics import BINS

CONFIDENCE = 0.95
CELLS_PER_BLOCK = 2_000_000
"""Weights held at once, resamples times examples: about 16 MB an array."""

Weights = NDArray[np.float64]
"""How often each resample drew each user, `[resamples, users]`. The first row is all ones: the sample itself."""


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % confidence interval; None where it is not defined."""

    point: float | None
    low: float | None
    high: float | None


def draw_users(users: int, resamples: int, seed: int) -> Weights:
    """The sample itself and `resamples` draws of as many users with replacement. Equal arguments, equal draws: figures
    of different candidates can be compared draw by draw."""
    if not users:
        return np.ones((resamples + 1, 0))
    drawn = np.random.default_rng(seed).multinomial(users, np.full(users, 1 / users), size=resamples)
    return np.concatenate([np.ones((1, users)), drawn.astype(np.float64)])


def interval(values: NDArray[np.float64], *, biased_upwards: bool = False) -> Interval:
    """Point and percentile interval of a figure's values, the sample's own first, NaN where it does not exist.

    For figures that resampling itself inflates (`biased_upwards`: calibration error, a mean of absolute gaps) the
    interval is reflected at the point (the basic bootstrap; Davison and Hinkley 1997, section 5.2) and cut at zero.
    Every interval is widened to hold its point.
    """
    point, drawn = float(values[0]), values[1:][np.isfinite(values[1:])]
    if not np.isfinite(point):
        return Interval(None, None, None)
    if not len(drawn):
        return Interval(point, None, None)
    low, high = (float(value) for value in np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    if biased_upwards:
        low, high = max(0.0, 2 * point - high), 2 * point - low
    return Interval(point, min(low, point), max(high, point))


def ranking(
    happened: NDArray[np.bool_], scores: NDArray[Any], users: NDArray[np.int64], weights: Weights
) -> dict[str, NDArray[np.float64]]:
    """`auc`, `pr_auc` and `ks` (largest gap between the score distributions of the two outcomes) per resample.

    `happened`, `scores` and `users` (columns of `weights`) are per example `[n]`. With a row of ones they are
    `model.statistics.metrics.roc_auc` and `pr_auc`. NaN where a resample lacks one of the outcomes.
    """
    values = {name: np.full(len(weights), np.nan) for name in ("auc", "pr_auc", "ks")}
    if not len(scores):
        return values
    order = np.argsort(scores, kind="stable")
    ranked, owner, positive = scores[order], users[order], happened[order]
    first_of_tie = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    for block in _blocks(len(weights), len(scores)):
        drawn = weights[block][:, owner]
        of_bad = np.add.reduceat(drawn * positive, first_of_tie, axis=1)
        of_good = np.add.reduceat(drawn, first_of_tie, axis=1) - of_bad
        bad_below, good_below = np.cumsum(of_bad, axis=1), np.cumsum(of_good, axis=1)
        bad, good = bad_below[:, -1:], good_below[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            wins = of_bad * (good_below - of_good / 2)
            values["auc"][block] = wins.sum(1) / (bad * good)[:, 0]
            at_or_above = (bad - bad_below + of_bad) + (good - good_below + of_good)
            precision = (bad - bad_below + of_bad) / np.where(at_or_above > 0, at_or_above, 1.0)
            values["pr_auc"][block] = (precision * of_bad).sum(1) / bad[:, 0]
            gap = np.abs(bad_below / bad - good_below / good)
            values["ks"][block] = np.where((bad * good)[:, 0] > 0, gap.max(1), np.nan)
    return values


def calibration(
    happened: NDArray[np.bool_], probability: NDArray[Any], users: NDArray[np.int64], weights: Weights
) -> dict[str, NDArray[np.float64]]:
    """`brier` and `ece` (expected calibration error over `metrics.BINS` groups of equal weight) per resample.

    Arguments as for `ranking`. With a row of ones they are `model.statistics.metrics.brier` and `calibration_error`,
    but for where groups of a number that cannot be divided end.
    """
    values = {name: np.full(len(weights), np.nan) for name in ("brier", "ece")}
    if not len(probability):
        return values
    order = np.argsort(probability, kind="stable")
    owner = users[order]
    predicted, came = probability[order].astype(np.float64), happened[order].astype(np.float64)
    shares = np.arange(1, BINS + 1) / BINS
    for block in _blocks(len(weights), len(order)):
        drawn = weights[block][:, owner]
        mass = np.cumsum(drawn, axis=1)
        gaps = np.cumsum(drawn * (predicted - came), axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            values["brier"][block] = (drawn @ (predicted - came) ** 2) / mass[:, -1]
            for row, (masses, sums) in enumerate(zip(mass, gaps, strict=True), start=block.start):
                ends = np.searchsorted(masses, shares * masses[-1] * (1 - 1e-12))
                of_group = np.diff(sums[np.minimum(ends, len(sums) - 1)], prepend=0.0)
                values["ece"][row] = np.abs(of_group).sum() / masses[-1]
    return values


def weighted_quantile(values: NDArray[np.float64], weights: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """The value below which `share` of the weight lies, per row of `weights` `[rows, n]`; NaN without weight.

    The midpoint of the two neighbours where the share falls exactly between them, so that a median of unit weights is
    the median.
    """
    if not values.size:
        return np.full(len(weights), np.nan)
    order = np.argsort(values, kind="stable")
    ranked, mass = values[order], np.cumsum(weights[:, order], axis=1)
    total = mass[:, -1:]
    slack = 1e-9 * total
    lower = np.argmax(mass >= share * total - slack, axis=1)
    upper = np.minimum(np.argmax(mass > share * total + slack, axis=1), len(ranked) - 1)
    found = (ranked[lower] + ranked[np.maximum(upper, lower)]) / 2
    return np.where(total[:, 0] > 0, found, np.nan)


def _blocks(resamples: int, examples: int) -> Iterator[slice]:
    size = max(1, CELLS_PER_BLOCK // max(examples, 1))
    for start in range(0, resamples, size):
        yield slice(start, min(start + size, resamples))
