"""The loss of discrete-time hazards under censoring, for training and for calibration. Depends on no network."""

from __future__ import annotations

import torch
from torch import Tensor


def hazard_loss(logits: Tensor, observed_share: Tensor, happened: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean negative log-likelihood over the interval examples that were observed; all arguments `[events, intervals]`.

    With hazard λ of a whole interval and a constant rate within it, the chance of a default in an observed share f is
    1 - (1 - λ)^f (the usual treatment of partial exposure in actuarial life tables). With s = -log(1 - λ), which is the
    softplus of the logit, an interval without default costs f·s and one with default costs -log(1 - exp(-f·s)).
    `observed_share` is f (0 for an interval that was not observed), `happened` 1 where the default date is in the
    interval. With `weight` `[events]`, an event's intervals count so often.
    """
    observed = observed_share > 0
    accrued = observed_share * torch.nn.functional.softplus(logits)
    # Unobserved cells get a constant before the logarithm: an infinity gives NaN gradients even where it is masked.
    accrued = torch.where(observed, accrued, torch.ones_like(accrued)).clamp(min=1e-12)
    cost = torch.where(happened > 0, -torch.log(-torch.expm1(-accrued)), accrued)
    if weight is None:
        return (cost * observed).sum() / observed.sum().clamp(min=1)
    counted = observed * weight[:, None]
    return (cost * counted).sum() / counted.sum().clamp(min=1)
