"""Encoder of a kind that a family does not read: no features, no state, no readout."""

from __future__ import annotations

from torch import Tensor

from model.networks.encoders.encoder import Encoder, Step


class IgnoredEncoder(Encoder):
    """Gives an empty readout after every event."""

    def __init__(self) -> None:
        super().__init__()
        self.features = None
        self.readout_width = 0

    def sequence(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Empty readouts `[users, events, 0]` and zero attention logits `[users, events]`."""
        nothing = numeric.new_zeros(numeric.shape[:-1])
        return nothing.unsqueeze(-1)[..., :0], nothing

    def step(self) -> IgnoredStep:
        """The step, which has no weights."""
        return IgnoredStep()


class IgnoredStep(Step):
    """Keeps its state, which has no floats; attention is zero."""

    state_width = 0

    def forward(self, numeric: Tensor, categorical: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        # Not the input itself: an exported graph needs a node that makes its output.
        return state * 1.0, numeric.new_zeros(numeric.shape[0])
