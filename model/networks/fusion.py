"""From the kinds' readouts, and how old each is, to calibrated hazards and to probabilities within each horizon.

Reads no events and no files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LONGEST_LOGIT = 30.0
"""Hazard logits are clipped at ±30, where the hazard differs from 0 or 1 by less than 1e-13."""

LONGEST_AGE_DAYS = 90.0
"""Ages are clipped here: larger ones would grow beyond all ages in training."""
HALF_AGES_DAYS = (3.0, 30.0)
"""Ages at which the bounded features of an age are one half: of the order of days between app sessions, and of weeks
between bills."""
AGE_FEATURES = 1 + len(HALF_AGES_DAYS)


class Fusion(nn.Module):
    """From the kinds' readouts, and how old each of them is, to calibrated hazards of the intervals between horizons.

    A readout does not change until the next event of its kind, while time passes and bills fall due: hence the ages.
    `kinds` are the positions in `KINDS` of those whose ages are inputs. `wide` and the two shares of dropout are as in
    `Architecture`.
    """

    slope: Tensor
    intercept: Tensor
    kinds: Tensor

    def __init__(
        self,
        readout_width: int,
        kinds: list[int],
        hidden: int,
        dropout: float,
        intervals: int,
        *,
        wide: bool = False,
        readout_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("kinds", torch.tensor(kinds), persistent=False)
        width = readout_width + AGE_FEATURES * len(kinds)
        self.hidden = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.logits_ = nn.Linear(hidden, intervals)
        self.wide = nn.Linear(width, intervals, bias=False) if wide else None
        if self.wide is not None:
            nn.init.zeros_(self.wide.weight)
        self.readout_dropout = nn.Dropout(readout_dropout)
        self.register_buffer("slope", torch.ones(intervals))
        self.register_buffer("intercept", torch.zeros(intervals))

    def inputs(self, readout: Tensor, ages: Tensor) -> Tensor:
        """What the hidden layer takes, from readouts `[n, R]` and ages `[n, kinds]`."""
        return torch.cat([readout, *age_features(ages.index_select(1, self.kinds))], 1)

    def logits(self, readout: Tensor, ages: Tensor) -> Tensor:
        """Calibrated hazard logits `[n, intervals]`."""
        inputs = self.inputs(self.readout_dropout(readout), ages)
        raw: Tensor = self.logits_(self.dropout(torch.relu(self.hidden(inputs))))
        if self.wide is not None:
            raw = raw + self.wide(inputs)
        return torch.clamp(raw * self.slope + self.intercept, -LONGEST_LOGIT, LONGEST_LOGIT)


def age_features(ages: Tensor) -> list[Tensor]:
    """Features of ages in days `[n, k]`, each `[n, k]`: age / 90, and age / (age + half) for two halves.

    Quotients, because every runtime rounds them alike. The age of a kind without events (-1) differs from every age.
    """
    told = torch.clamp(ages, max=LONGEST_AGE_DAYS)
    return [told / LONGEST_AGE_DAYS, *(told / (told + half) for half in HALF_AGES_DAYS)]


def cumulative(logits: Tensor) -> Tensor:
    """Probabilities within each horizon from hazard logits, both `[…, intervals]`.

    P_k = P_(k-1) + (1 - P_(k-1)) · hazard_k, which equals 1 - ∏(1 - hazard) but keeps small probabilities precise and
    never decreases, also in floating point. The hazard is written out because a runtime's fast logistic function has
    only absolute precision.
    """
    hazards = 1.0 / (1.0 + torch.exp(-logits))
    probabilities = [hazards[..., :1]]
    for interval in range(1, logits.shape[-1]):
        before = probabilities[-1]
        probabilities.append(before + (1.0 - before) * hazards[..., interval : interval + 1])
    return torch.cat(probabilities, -1)
