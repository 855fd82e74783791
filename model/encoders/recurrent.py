"""What the recurrent encoders share: features, a recurrence, and attention without a query over the whole history.

The logit of an event, v · tanh(W h + b), depends on nothing that comes later, and its size is bounded by the sum of
|v|, so the softmax over a growing history can be kept as a running sum.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from events.types import Kind
from model.encoders.encoder import Encoder, Step
from model.features import Features


class RecurrentEncoder(Encoder):
    """A recurrence over one kind's events. Reads out the attention context and the last hidden state, or, where
    `attends` is false, the last hidden state alone."""

    features: Features

    def __init__(
        self, kind: Kind, vocabulary_sizes: list[int], layers: int, hidden: int, *, attends: bool = True
    ) -> None:
        super().__init__()
        self.features = Features(kind, vocabulary_sizes)
        self.layers = layers
        self.hidden = hidden
        self.attends = attends
        self._add_recurrence()
        if attends:
            self.attention = nn.Linear(hidden, hidden)
            self.query = nn.Linear(hidden, 1, bias=False)
        self.readout_width = hidden * (2 if attends else 1)

    @abstractmethod
    def _add_recurrence(self) -> None:
        """Add the layers that take features `[…, features.width]` to hidden states `[…, hidden]`."""

    @abstractmethod
    def recur(self, signal: Tensor, numeric: Tensor) -> Tensor:
        """Hidden states `[users, events, hidden]` from features; `numeric` are the raw inputs."""

    def sequence(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """Readouts and attention logits after every event, see `Encoder.sequence`."""
        hidden = self.recur(self.features.sequence(numeric, categorical), numeric)
        if not self.attends:
            return hidden, torch.zeros_like(hidden[..., 0])
        logits = self.query(torch.tanh(self.attention(hidden))).squeeze(-1)
        # Softmax of every prefix: any constant may be taken off all logits of a row, the maximum keeps exp in range.
        weights = torch.exp(logits - logits.detach().amax(-1, keepdim=True)).unsqueeze(-1)
        context = (weights * hidden).cumsum(1) / weights.cumsum(1)
        return torch.cat([context, hidden], -1), logits

    def largest_attention_logit(self) -> float:
        """The sum of |v|, 0 without attention."""
        return float(self.query.weight.detach().abs().sum()) if self.attends else 0.0


class RecurrentStep(Step):
    """State, in this order: attention context (where there is one), last hidden state (together the readout), memory
    of the recurrence, running maximum m and normaliser Z of the attention, counts and means of the feature norms.

    The softmax over the whole history is kept as a running sum (Milakov & Gimelshein 2018, "Online normalizer
    calculation for softmax"), here with the context already divided by the normaliser:
    m' = max(m, e); Z' = Z·exp(m - m') + exp(e - m'); context' = context + (h - context)·exp(e - m') / Z'.
    """

    def __init__(self, encoder: RecurrentEncoder, memory_width: int) -> None:
        super().__init__()
        self.features = encoder.features
        self.hidden = encoder.hidden
        self.layers = encoder.layers
        self.attends = encoder.attends
        self.memory_width = memory_width
        if encoder.attends:
            self.attention = encoder.attention
            self.query = encoder.query
        self.state_width = encoder.readout_width + memory_width + 2 * encoder.attends + self.features.norms_width

    @abstractmethod
    def recur(self, signal: Tensor, numeric: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden state `[n, hidden]` and the memory `[n, memory_width]` after an event."""

    def forward(self, numeric: Tensor, categorical: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        norms_width = self.features.norms_width
        if not self.attends:
            hidden, memory, norms = torch.split(state, [self.hidden, self.memory_width, norms_width], 1)
            signal, norms = self.features.step(numeric, categorical, norms)
            hidden, memory = self.recur(signal, numeric, hidden, memory)
            return torch.cat([hidden, memory, norms], 1), torch.zeros_like(hidden[:, 0])
        sizes = [self.hidden, self.hidden, self.memory_width, 1, 1, norms_width]
        context, hidden, memory, maximum, normaliser, norms = torch.split(state, sizes, 1)
        signal, norms = self.features.step(numeric, categorical, norms)
        hidden, memory = self.recur(signal, numeric, hidden, memory)
        logit = self.query(torch.tanh(self.attention(hidden)))
        new_maximum = torch.maximum(maximum, logit)
        weight = torch.exp(logit - new_maximum)
        normaliser = normaliser * torch.exp(maximum - new_maximum) + weight
        context = context + (hidden - context) * (weight / normaliser)
        return torch.cat([context, hidden, memory, new_maximum, normaliser, norms], 1), logit.squeeze(-1)
