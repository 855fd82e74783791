"""The network of `model.baselines.convolution`. Needs PyTorch; takes tensors, not events."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

CHANNELS = 48
DILATIONS = (1, 2, 4, 8, 16)
DROPOUT = 0.2


class DilatedNetwork(nn.Module):
    """Residual causal convolutions of kernel 3; a logit after every event."""

    def __init__(self, inputs: int, rate: float) -> None:
        super().__init__()
        self.inputs = nn.Linear(inputs, CHANNELS)
        self.layers = nn.ModuleList(nn.Conv1d(CHANNELS, CHANNELS, 3, dilation=dilation) for dilation in DILATIONS)
        self.dropout = nn.Dropout(DROPOUT)
        self.output = nn.Linear(CHANNELS, 1)
        # Start at the base rate of defaults; otherwise the first epochs only learn that they are rare.
        nn.init.constant_(self.output.bias, float(np.log(rate / (1 - rate))))

    def forward(self, events: Tensor) -> Tensor:
        """Logits `[users, steps]` of events `[users, steps, inputs]`; a step sees none after it."""
        hidden = nn.functional.relu(self.inputs(events)).transpose(1, 2)
        for layer, dilation in zip(self.layers, DILATIONS, strict=True):
            moved = layer(nn.functional.pad(hidden, (2 * dilation, 0)))
            hidden = hidden + self.dropout(nn.functional.relu(moved))
        logits: Tensor = self.output(hidden.transpose(1, 2))[..., 0]
        return logits
