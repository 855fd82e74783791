"""Calibration: slope and intercept per interval that turn raw hazards into probabilities, fitted on the validation
part. They become part of the score graph.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from model.bundle import Calibration
from model.histories.labels import Targets
from model.networks.likelihood import hazard_loss

LEAST_DEFAULTS = 20
"""With fewer defaults in an interval its slope stays 1: they do not suffice to estimate two numbers."""


def fit_calibration(logits: NDArray[np.float32], found: Targets) -> Calibration:
    """Platt scaling per interval: slope and intercept of the hazard logit that minimise the censored loss.

    `logits` float32 `[events, intervals]`. An interval without any default keeps slope 1 and intercept 0. The intercept
    adapts the base rate of the training period, which temperature scaling alone would keep.
    """
    slopes, intercepts = [], []
    for interval in range(logits.shape[1]):
        observed_share = torch.from_numpy(found.observed_share[:, interval]).double()
        happened = torch.from_numpy(found.happened[:, interval]).double()
        default_count = int(happened.sum())
        slope, intercept = 1.0, 0.0
        if default_count:
            raw = torch.from_numpy(logits[:, interval]).double()
            slope, intercept = _fit_interval(raw, observed_share, happened, with_slope=default_count >= LEAST_DEFAULTS)
        slopes.append(round(slope, 6))
        intercepts.append(round(intercept, 6))
    return Calibration(slope=slopes, intercept=intercepts)


def _fit_interval(
    logits: torch.Tensor, observed_share: torch.Tensor, happened: torch.Tensor, *, with_slope: bool
) -> tuple[float, float]:
    # The slope is fitted as a logarithm, so it stays positive and the ranking of scores stays as it is.
    log_slope = torch.zeros(1, dtype=torch.float64, requires_grad=with_slope)
    intercept = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    fitted = [log_slope, intercept] if with_slope else [intercept]
    optimiser = torch.optim.LBFGS(fitted, lr=1.0, max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = hazard_loss(logits * torch.exp(log_slope) + intercept, observed_share, happened)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    slope = float(torch.exp(log_slope.detach()))
    return (slope, float(intercept.detach())) if np.isfinite(slope) else (1.0, 0.0)
