"""Encoder of profiles: a small MLP over the newest profile."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.networks.encoders.encoder import Encoder, Step
from model.networks.features import Features


class ProfileEncoder(Encoder):
    """A profile replaces the one before, so its encoder has no memory."""

    features: Features

    def __init__(self, vocabulary_sizes: list[int], names: Sequence[str] | None, hidden: int, embedding: int) -> None:
        super().__init__()
        self.features = Features("profiles", vocabulary_sizes, names)
        self.layers_ = nn.Sequential(
            nn.Linear(self.features.width, hidden), nn.ReLU(), nn.Linear(hidden, embedding), nn.Tanh()
        )
        self.readout_width = embedding

    def sequence(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings `[users, events, embedding]` and zero attention logits `[users, events]`."""
        embedded = self.layers_(self.features.sequence(numeric, categorical))
        return embedded, torch.zeros_like(embedded[..., 0])

    def step(self) -> ProfileStep:
        """The step with the present weights."""
        return ProfileStep(self)


class ProfileStep(Step):
    """The new embedding replaces the state; attention is zero."""

    def __init__(self, encoder: ProfileEncoder) -> None:
        super().__init__()
        self.features = encoder.features
        self.layers_ = encoder.layers_
        self.state_width = encoder.readout_width

    def forward(self, numeric: Tensor, categorical: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        parts, _ = self.features.step(numeric, categorical, [])
        embedded = self.layers_(torch.cat(parts, 1))
        return embedded, torch.zeros_like(embedded[:, 0])
