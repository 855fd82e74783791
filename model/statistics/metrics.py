"""Measures of scores against outcomes: ranking, precision and calibration. Needs numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
DRAWS = 200
"""Sets of random outcomes of which `calibration_error_by_chance` takes the mean."""


def roc_auc(happened: NDArray[np.bool_], score: NDArray[Any]) -> float | None:
    """Area under the ROC curve, ties counted half (Mann-Whitney U); None unless both outcomes occur."""
    positives = int(happened.sum())
    negatives = len(happened) - positives
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(counts)
    mean_rank = last_rank - (counts - 1) / 2
    rank_sum = float(mean_rank[inverse][happened].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def pr_auc(happened: NDArray[np.bool_], score: NDArray[Any]) -> float | None:
    """Average precision: the mean, over positives, of the precision at their score; None without a positive."""
    positives = int(happened.sum())
    if not positives:
        return None
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    hits = np.cumsum(happened[order])
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    precision = hits[last_of_tie] / (np.flatnonzero(last_of_tie) + 1)
    gained = np.diff(hits[last_of_tie], prepend=0)
    return float((precision * gained).sum() / positives)


def brier(happened: NDArray[np.bool_], probability: NDArray[Any]) -> float | None:
    """Mean squared difference between probability and outcome; None without examples."""
    return float(np.mean((probability.astype(np.float64) - happened) ** 2)) if len(happened) else None


def log_loss(happened: NDArray[np.bool_], probability: NDArray[Any]) -> float | None:
    """Mean negative logarithm of the probability of what happened, which is taken to be at least 1e-12; None without
    examples."""
    told = np.where(happened, probability.astype(np.float64), 1 - probability.astype(np.float64))
    return float(-np.log(np.maximum(told, 1e-12)).mean()) if len(happened) else None


def calibration_error(happened: NDArray[np.bool_], probability: NDArray[Any], bins: int = BINS) -> float | None:
    """Expected calibration error over `bins` groups of equal size (most scores are small, so equal width would put
    nearly all of them into one group); None without examples."""
    if not len(happened):
        return None
    groups = np.array_split(np.argsort(probability, kind="stable"), min(bins, len(happened)))
    gaps = [abs(float(probability[group].mean()) - float(happened[group].mean())) * len(group) for group in groups]
    return sum(gaps) / len(happened)


def calibration_error_by_chance(probability: NDArray[Any], bins: int = BINS, draws: int = DRAWS) -> float | None:
    """`calibration_error` that these scores have on average if they are right: the mean over sets of independent
    outcomes drawn with these probabilities; None without examples.

    The least error to expect of a sample of this size; dependent outcomes of one user give more.
    """
    if not len(probability):
        return None
    random = np.random.default_rng(0)
    ranked = np.sort(probability.astype(np.float64))
    starts = [int(group[0]) for group in np.array_split(np.arange(len(ranked)), min(bins, len(ranked)))]
    gaps = [np.add.reduceat(ranked - (random.random(len(ranked)) < ranked), starts) for _ in range(draws)]
    return float(np.abs(gaps).sum(axis=1).mean() / len(ranked))


def summary(happened: NDArray[np.bool_], probability: NDArray[Any]) -> dict[str, float | int | None]:
    """All measures of one horizon, rounded to 5 digits, with the counts that they rest on."""
    measures: dict[str, float | None] = {
        "auc": roc_auc(happened, probability),
        "pr_auc": pr_auc(happened, probability),
        "brier": brier(happened, probability),
        "ece": calibration_error(happened, probability),
    }
    rounded = {name: None if value is None else round(value, 5) for name, value in measures.items()}
    return {**rounded, "examples": len(happened), "positives": int(happened.sum())}
