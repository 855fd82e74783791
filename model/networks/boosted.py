"""The score of a network and of trees together: trees over tallies and ages.

Per interval the hazard logit is a weighted sum of the network's and of the trees'. Fits nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from events.types import KINDS, Kind
from model.networks.fusion import LONGEST_LOGIT, Fusion
from model.networks.tallies import Tally
from model.networks.trees import Trees


class BoostedFusion(nn.Module):
    """As `Fusion`, from readouts of which each kind's are those of its encoder and then its tally.

    `widths` are of the encoders' readouts, which the trees do not see.
    """

    slope: Tensor
    intercept: Tensor
    weights: Tensor

    def __init__(
        self,
        network: Fusion,
        widths: Mapping[Kind, int],
        tallies: Mapping[Kind, Tally],
        trees: Trees,
        intervals: int,
    ) -> None:
        super().__init__()
        self.network = network
        # They belong to the encoders, which keep their buffers: a plain dictionary registers nothing twice.
        self.tallies = dict(tallies)
        self.trees = trees
        self.sizes = [size for kind in KINDS for size in (widths[kind], tallies[kind].width)]
        self.register_buffer("weights", torch.full((2, intervals), 0.5))
        self.register_buffer("slope", torch.ones(intervals))
        self.register_buffer("intercept", torch.zeros(intervals))

    @property
    def hidden(self) -> nn.Linear:
        """The hidden layer of the network."""
        return self.network.hidden

    def parts(self, readout: Tensor, ages: Tensor) -> tuple[Tensor, Tensor]:
        """What the network reads `[n, …]`, and the inputs of the trees `[n, len(input_names)]`."""
        held = torch.split(readout, self.sizes, 1)
        read = torch.cat(held[::2], 1)
        found = [
            self.tallies[kind].features(tally, ages[:, number : number + 1])
            for number, (kind, tally) in enumerate(zip(KINDS, held[1::2], strict=True))
        ]
        return read, torch.cat([ages, *found], 1)

    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs of the trees, in order."""
        ages = [f"{kind}.age_days" for kind in KINDS]
        tallied = [name for kind in KINDS for name in self.tallies[kind].feature_names]
        return (*ages, *tallied)

    def logits(self, readout: Tensor, ages: Tensor) -> Tensor:
        """Calibrated hazard logits `[n, intervals]`, as `Fusion.logits`."""
        read, inputs = self.parts(readout, ages)
        return self.joined(self.network.logits(read, ages), self.trees(inputs))

    def joined(self, network: Tensor, trees: Tensor) -> Tensor:
        """Calibrated hazard logits from those of the network `[n, intervals]` and of the trees `[n, 1]`."""
        raw = network * self.weights[0] + trees * self.weights[1]
        return torch.clamp(raw * self.slope + self.intercept, -LONGEST_LOGIT, LONGEST_LOGIT)
