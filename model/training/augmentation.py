"""Augmentation: random changes of a training batch, so that the model tolerates noise and missing kinds of event.

Works on the padded tensors of a batch, in training only; validation, calibration and serving use unchanged events. All
random numbers come from torch's CPU generator, so a seed fixes them on any device; an option that is off draws none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from events.columns import COLUMNS, FIRST_CATEGORY_CODE, UNSEEN_CODE
from events.types import KINDS, Kind
from model.training.batches import Batch

SIZES: dict[Kind, tuple[str, ...]] = {
    "repayments": ("amount_due", "amount_paid", "balance", "exposure"),
    "transactions": ("amount", "balance_after", "credit_limit"),
    "activity": ("count", "duration_s"),
    "profiles": ("income", "credit_limit"),
}
"""Inputs that jitter scales. One factor per event, so that ratios such as paid to due stay what they were."""
GAPS = frozenset({"gap_days", "contract_gap_days"})
"""Inputs that a time warp stretches."""
KNOTS = 4
"""Points of a history between which its pace changes linearly."""


@dataclass(frozen=True)
class Augmentation:
    """How much is changed. All that is 0 is off.

    `jitter` is the standard deviation of the logarithm of the factor on an event's amounts. `time_warp` is that of the
    pace of a user's history: gaps between events are stretched and squeezed by a factor that drifts along the history
    and is the same for all kinds. Only the past is warped: the time from an event to its outcome stays what it was.
    `unseen_rate` is the share of known categories shown as unseen, so that the model learns the unseen code's meaning.
    `blank_rate` is the share of (user, kind) shown as without events: the model then scores users without a kind, and
    contributions of a kind can be computed.
    """

    jitter: float = 0.0
    time_warp: float = 0.0
    unseen_rate: float = 0.01
    blank_rate: float = 0.1

    def __post_init__(self) -> None:
        for name, limit in (("jitter", 2.0), ("time_warp", 2.0), ("unseen_rate", 0.9), ("blank_rate", 0.9)):
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} is {getattr(self, name)}; take a number from 0 to {limit}")

    def numeric(self, batch: Batch) -> dict[Kind, Tensor]:
        """The batch's numeric inputs, `[B, T_k, inputs]` per kind, with jitter and time warp; missing stays missing."""
        if not (self.jitter or self.time_warp):
            return batch.numeric
        users = next(iter(batch.numeric.values())).shape[0]
        knots = torch.randn(users, KNOTS) * self.time_warp if self.time_warp else None
        return {kind: self._changed(kind, values, knots) for kind, values in batch.numeric.items()}

    def categorical(self, batch: Batch) -> dict[Kind, Tensor]:
        """The batch's category codes, `[B, T_k, categories]` per kind, some of the known ones turned into unseen."""
        corrupted = {}
        for kind, codes in batch.categorical.items():
            hide = (torch.rand(codes.shape) < self.unseen_rate).to(codes.device) & (codes >= FIRST_CATEGORY_CODE)
            corrupted[kind] = torch.where(hide, UNSEEN_CODE, codes)
        return corrupted

    def keep(self, users: int) -> Tensor:
        """Which kinds of which users are shown, `[users, kinds]`, 0.0 for those that are blanked."""
        return (torch.rand(users, len(KINDS)) >= self.blank_rate).float()

    def _changed(self, kind: Kind, values: Tensor, knots: Tensor | None) -> Tensor:
        names = COLUMNS[kind].numeric_inputs
        factors = torch.ones(*values.shape[:2], len(names), dtype=values.dtype)
        if self.jitter:
            scaled = [names.index(name) for name in SIZES[kind]]
            factors[..., scaled] = torch.exp(torch.randn(*values.shape[:2], 1) * self.jitter).to(values.dtype)
        if knots is not None:
            gaps = [place for place, name in enumerate(names) if name in GAPS]
            factors[..., gaps] = pace(knots, values.shape[1])[..., None].to(values.dtype)
        return values * factors.to(values.device)


def pace(knots: Tensor, events: int) -> Tensor:
    """Factors on the gaps of `events` events, `[users, events]`: exp of the line through `knots` `[users, K]`."""
    place = torch.linspace(0, knots.shape[1] - 1, events)
    before = place.floor().long().clamp(max=knots.shape[1] - 2)
    share = place - before
    return torch.exp(knots[:, before] * (1 - share) + knots[:, before + 1] * share)
