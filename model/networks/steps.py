"""The modules of a model that are exported: one step per kind of event, and one from readouts to probabilities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from events.types import KINDS, Kind
from model.networks.encoders.encoder import Step
from model.networks.risk_model import LONGEST_LOGIT, Fusion, RiskModel, cumulative


class ScoreStep(nn.Module):
    """From readouts `[n, R]` and ages in days `[n, kinds]` to probabilities within each horizon `[n, H]`, both float32.

    The last layer, the linear terms beside it and all that follows run in float64. Most of a score's rounding error
    comes from summing 128 float32 products that cancel, and so few numbers cost almost no time.
    """

    weight: Tensor
    bias: Tensor
    wide: Tensor | None
    slope: Tensor
    intercept: Tensor

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.fusion = fusion
        self.register_buffer("weight", fusion.logits_.weight.detach().double())
        self.register_buffer("bias", fusion.logits_.bias.detach().double())
        wide = None if fusion.wide is None else fusion.wide.weight.detach().double()
        self.register_buffer("wide", wide)
        self.register_buffer("slope", fusion.slope.double())
        self.register_buffer("intercept", fusion.intercept.double())

    def forward(self, readout: Tensor, ages: Tensor) -> Tensor:
        inputs = self.fusion.inputs(readout, ages)
        hidden = torch.relu(self.fusion.hidden(inputs)).double()
        raw = nn.functional.linear(hidden, self.weight, self.bias)
        if self.wide is not None:
            raw = raw + nn.functional.linear(inputs.double(), self.wide)
        logits = raw * self.slope + self.intercept
        return cumulative(torch.clamp(logits, -LONGEST_LOGIT, LONGEST_LOGIT)).float()


def step_of(model: RiskModel, kind: Kind) -> Step:
    """The step of a kind, sharing or copying the model's present weights, in evaluation mode."""
    step = model.encoder(kind).step()
    step.eval()
    return step


def state_widths(model: RiskModel) -> dict[Kind, int]:
    """Floats of state per kind, in the order of `KINDS`."""
    return {kind: step_of(model, kind).state_width for kind in KINDS}
