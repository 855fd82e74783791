"""The modules of a model that are exported: one step per kind of event, and one from readouts to probabilities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from events.types import KINDS, Kind
from model.networks.boosted import BoostedFusion
from model.networks.encoders.encoder import Step
from model.networks.fusion import LONGEST_LOGIT, Fusion, cumulative
from model.networks.risk_model import RiskModel


class HazardStep(nn.Module):
    """From readouts `[n, R]` and ages in days `[n, kinds]` to the network's hazard logits, float64 `[n, intervals]`.

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
        return torch.clamp(raw * self.slope + self.intercept, -LONGEST_LOGIT, LONGEST_LOGIT)


class ScoreStep(nn.Module):
    """From readouts and ages to probabilities within each horizon `[n, H]`, all float32."""

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.hazards = HazardStep(fusion)

    def forward(self, readout: Tensor, ages: Tensor) -> Tensor:
        return cumulative(self.hazards(readout, ages)).float()


class BeforeTrees(nn.Module):
    """From readouts and ages to the inputs of the trees, float32, and the network's hazard logits, float64."""

    def __init__(self, fusion: BoostedFusion) -> None:
        super().__init__()
        self.fusion = fusion
        self.hazards = HazardStep(fusion.network)

    def forward(self, readout: Tensor, ages: Tensor) -> tuple[Tensor, Tensor]:
        read, inputs = self.fusion.parts(readout, ages)
        return inputs, self.hazards(read, ages)


class AfterTrees(nn.Module):
    """From the network's hazard logits and the sum of the trees `[n, 1]`, float32, to probabilities."""

    weights: Tensor
    slope: Tensor
    intercept: Tensor

    def __init__(self, fusion: BoostedFusion) -> None:
        super().__init__()
        for name in ("weights", "slope", "intercept"):
            self.register_buffer(name, getattr(fusion, name).double())

    def forward(self, network: Tensor, trees: Tensor) -> Tensor:
        raw = network * self.weights[0] + trees.double() * self.weights[1]
        logits = torch.clamp(raw * self.slope + self.intercept, -LONGEST_LOGIT, LONGEST_LOGIT)
        return cumulative(logits).float()


def step_of(model: RiskModel, kind: Kind) -> Step:
    """The step of a kind, sharing or copying the model's present weights, in evaluation mode."""
    step = model.encoder(kind).step()
    step.eval()
    return step


def state_widths(model: RiskModel) -> dict[Kind, int]:
    """Floats of state per kind, in the order of `KINDS`."""
    return {kind: step_of(model, kind).state_width for kind in KINDS}
