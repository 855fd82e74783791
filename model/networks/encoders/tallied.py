"""An encoder with a tally of the same events beside it: the readout of both, one behind the other."""

from __future__ import annotations

import torch
from torch import Tensor

from model.networks.encoders.encoder import Encoder, Step
from model.networks.tallies import Tally


class TalliedEncoder(Encoder):
    """Reads out what `encoder` does, then the tally."""

    def __init__(self, encoder: Encoder, tally: Tally) -> None:
        super().__init__()
        self.encoder = encoder
        self.tally = tally
        self.features = encoder.features
        self.readout_width = encoder.readout_width + tally.width

    def sequence(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """Both readouts `[users, events, readout_width]` and the encoder's attention logits."""
        readouts, logits = self.encoder.sequence(numeric, categorical)
        return torch.cat([readouts, self.tally.sequence(numeric, categorical)], -1), logits

    def step(self) -> TalliedStep:
        """The steps of both."""
        return TalliedStep(self)

    def undecayed(self) -> list[torch.nn.Parameter]:
        """Those of the encoder."""
        return self.encoder.undecayed()

    def largest_attention_logit(self) -> float:
        """That of the encoder."""
        return self.encoder.largest_attention_logit()


class TalliedStep(Step):
    """State: the encoder's readout, the tally, and the rest of the encoder's state."""

    def __init__(self, encoder: TalliedEncoder) -> None:
        super().__init__()
        self.inner = encoder.encoder.step()
        self.tally = encoder.tally
        rest = self.inner.state_width - encoder.encoder.readout_width
        self.sizes = [encoder.encoder.readout_width, self.tally.width, rest]
        self.state_width = sum(self.sizes)

    def forward(self, numeric: Tensor, categorical: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        readout, held, rest = torch.split(state, self.sizes, 1)
        after, attention = self.inner(numeric, categorical, torch.cat([readout, rest], 1))
        readout, rest = torch.split(after, [self.sizes[0], self.sizes[2]], 1)
        return torch.cat([readout, self.tally.after(*self.tally.told(numeric, categorical), held), rest], 1), attention
