"""Ranking measures under weights, and bootstrap intervals by user: drawing users keeps a user's rows together.

Pure numpy. The measures equal those of `model.statistics.metrics` when every weight is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 300
CONFIDENCE = 0.95

Weights = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate with its bootstrap interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


class Ranking:
    """Rows sorted by falling score once, so that each measure under other weights is one pass of cumulative sums.

    `happened` bool `[n]`, `score` `[n]`. Weights are float64 `[n]` in the order of the arguments.
    """

    def __init__(self, happened: NDArray[np.bool_], score: NDArray[Any]) -> None:
        self._order = np.argsort(-score.astype(np.float64), kind="stable")
        ranked = score[self._order]
        self._last_of_tie = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])
        self._happened = happened[self._order].astype(np.float64)

    def measures(self, weights: Weights | None = None) -> dict[str, float | None]:
        """`auc` (ties half), `pr_auc` (average precision) and `ks` (largest distance between the two groups'
        distributions of the score); None without both outcomes, `pr_auc` without a positive."""
        weight = np.ones(len(self._happened)) if weights is None else weights[self._order]
        hits = np.cumsum(weight * self._happened)[self._last_of_tie]
        taken = np.cumsum(weight)[self._last_of_tie]
        positives, negatives = (hits[-1], taken[-1] - hits[-1]) if len(taken) else (0.0, 0.0)
        measures: dict[str, float | None] = {"auc": None, "pr_auc": None, "ks": None}
        if positives <= 0:
            return measures
        gained = np.diff(hits, prepend=0.0)
        precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
        measures["pr_auc"] = float((precision * gained).sum() / positives)
        if negatives <= 0:
            return measures
        misses = taken - hits
        passed = np.diff(misses, prepend=0.0)
        below = negatives - misses + passed / 2
        measures["auc"] = float((gained * below).sum() / (positives * negatives))
        measures["ks"] = float(np.max(np.abs(hits / positives - misses / negatives)))
        return measures


def draws(users: NDArray[np.int64], resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Weights]:
    """Weights float64 `[n]` of as many bootstrap samples of users: each row weighs how often its user was drawn."""
    random = np.random.default_rng(seed)
    present, position = np.unique(users, return_inverse=True)
    for _ in range(resamples):
        drawn = np.bincount(random.integers(0, len(present), len(present)), minlength=len(present))
        yield drawn[position].astype(np.float64)


def intervals(
    measure: Callable[[Weights | None], dict[str, float | None]],
    users: NDArray[np.int64],
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, Interval]:
    """Each figure of `measure` with its percentile bootstrap interval (Efron 1979), users drawn with replacement.

    `measure` takes weights float64 `[n]` of the rows whose users are `users` int64 `[n]`, or None for the estimate.
    Samples in which a figure is not defined are left out; the interval is None if that was more than half of them.
    """
    found = measure(None)
    if not len(users):
        return {name: Interval(value, None, None) for name, value in found.items()}
    sampled: dict[str, list[float]] = {name: [] for name in found}
    for weights in draws(users, resamples, seed):
        for name, value in measure(weights).items():
            if value is not None:
                sampled[name].append(value)
    edges = (50 - 50 * confidence, 50 + 50 * confidence)
    result = {}
    for name, value in found.items():
        enough = value is not None and 2 * len(sampled[name]) > resamples
        low, high = np.percentile(sampled[name], edges) if enough else (None, None)
        result[name] = Interval(value, None if low is None else float(low), None if high is None else float(high))
    return result
