"""The ensemble: the mean of the logits of the best served model and of a challenger, weights fixed in advance.

It runs no model. It cannot be streamed under the step contract, because the challenger cannot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.comparison.examples import examples_of
from model.comparison.problem import Problem
from model.comparison.trial import Trial
from model.histories.labels import Targets

NAME = "ensemble"
EXTREME = 1e-7


def combine(problem: Problem, first: Trial, second: Trial) -> Trial:
    """Equal weights; slope and intercept of the mean logit are fitted on validation, which changes no ranking."""
    from model.training.calibration import fit_calibration  # loads PyTorch

    logits = (_logits(problem, first) + _logits(problem, second)) / 2
    rows, _, happened = examples_of(problem, problem.parts.validation).of(problem.headline_days)
    asked = Targets(np.ones((len(rows), 1), dtype=np.float32), happened[:, None])
    found = fit_calibration(logits[rows, None].astype(np.float32), asked)
    calibrated = np.clip(found.slope[0] * logits + found.intercept[0], -30, 30)
    return Trial(
        name=NAME,
        kind="challenger",
        is_probability=True,
        scores=(1 / (1 + np.exp(-calibrated))).astype(np.float32),
        horizon_scores=None,
        us_per_event=_sum(first.us_per_event, second.us_per_event),
        state_bytes=None
        if first.state_bytes is None or second.state_bytes is None
        else first.state_bytes + second.state_bytes,
        fit_seconds=first.fit_seconds + second.fit_seconds,
    )


def _logits(problem: Problem, trial: Trial) -> NDArray[np.float64]:
    """Of the probability, or of the share of validation scores that are lower where a score is no probability."""
    scores = trial.scores.astype(np.float64)
    if not trial.is_probability:
        known = np.sort(scores[problem.example_rows(problem.parts.validation)])
        ranks = np.searchsorted(known, scores, side="left") + np.searchsorted(known, scores, side="right") + 1
        scores = np.where(np.isnan(scores), np.nan, ranks / (2 * len(known) + 2))
    scores = np.clip(scores, EXTREME, 1 - EXTREME)
    logits: NDArray[np.float64] = np.log(scores / (1 - scores))
    return logits


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second
