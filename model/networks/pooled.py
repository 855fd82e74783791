"""A repayment state per contract, their readouts pooled: the alternative to one state per borrower, to be measured.

It has no step, so no bundle can be made of it; docs/model.md says what it is worth and what it would cost.
"""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor

from events.types import Kind
from model.networks.encoders.encoder import Encoder
from model.networks.risk_model import RiskModel


class PooledEncoder(Encoder):
    """Runs an encoder over each contract's events by themselves. Reads out, after every event, the mean and the maximum
    over the latest readouts of the contracts that have come so far, ended ones among them.

    `numeric` has one column behind the inputs: the number of the event's contract among the user's, 1 and up; 0 is
    padding.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.features = encoder.features
        self.readout_width = 2 * encoder.readout_width

    def sequence(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled readouts `[users, events, 2 * encoder's]` and attention logits, each within its contract."""
        inputs, number = numeric[..., :-1], numeric[..., -1].long()
        contracts = max(1, int(number.max()))
        mine = number[..., None] == torch.arange(1, contracts + 1, device=number.device)
        arrived = mine.long().cumsum(1)
        known = arrived > 0
        # One row for each contract that a user has; its events stand in the order in which they came.
        has = known[:, -1]
        row_of = (has.flatten().long().cumsum(0) - 1).reshape(has.shape)
        rows, length = max(1, int(has.sum())), max(1, int(arrived.max()))
        user, event, contract = torch.nonzero(mine, as_tuple=True)
        row, step = row_of[user, contract], arrived[user, event, contract] - 1
        own = inputs.new_zeros((rows, length, inputs.shape[-1]))
        codes = categorical.new_zeros((rows, length, categorical.shape[-1]))
        own[row, step], codes[row, step] = inputs[user, event], categorical[user, event]
        readouts, own_logits = self.encoder.sequence(own, codes)
        logits = own_logits.new_zeros(number.shape)
        logits[user, event] = own_logits[row, step]
        width = readouts.shape[-1]
        latest = (row_of[:, None] * length + arrived - 1).clamp(min=0).flatten()
        latest_readouts = readouts.reshape(rows * length, width).index_select(0, latest).reshape(*known.shape, width)
        return _pooled(latest_readouts, known.unsqueeze(-1)), logits

    def step(self) -> NoReturn:
        """Raises `NotImplementedError`: there is none."""
        raise NotImplementedError("a network with a state per contract is measured, not served")

    def undecayed(self) -> list[torch.nn.Parameter]:
        """Those of the encoder."""
        return self.encoder.undecayed()


def _pooled(readouts: Tensor, known: Tensor) -> Tensor:
    """Mean and maximum over the known contracts, one behind the other, `[users, events, 2 * width]`; 0 without one.

    `readouts` `[users, events, contracts, width]`, `known` bool `[users, events, contracts, 1]`.
    """
    mean = torch.where(known, readouts, 0.0).sum(2) / known.sum(2).clamp(min=1)
    highest = torch.where(known, readouts, -torch.inf).amax(2)
    return torch.cat([mean, torch.where(known.any(2), highest, 0.0)], -1)


class PooledModel(RiskModel):
    """The whole model, with `PooledEncoder` for repayments, whose numeric inputs have the contracts' numbers behind
    them. Takes all inputs of `events.columns`."""

    def _build(self, kind: Kind, vocabulary_sizes: list[int]) -> Encoder:
        encoder = super()._build(kind, vocabulary_sizes)
        return PooledEncoder(encoder) if kind == "repayments" else encoder
