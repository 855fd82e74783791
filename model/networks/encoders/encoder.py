"""The interface of an encoder of one kind of event: the same arithmetic over whole histories and one event at a time.

`sequence` is for training, `step` is exported for serving; their results must be equal up to rounding. An encoder must
not depend on other kinds of event.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from model.networks.features import Features


class Step(nn.Module, ABC):
    """One event per row: `(numeric [n, …], categorical [n, …], state [n, S])` to `(state' [n, S], attention [n])`.

    All zeros is the state before the first event; the first floats of a state are the readout.
    """

    state_width: int

    @abstractmethod
    def forward(self, numeric: Tensor, categorical: Tensor, state: Tensor) -> tuple[Tensor, Tensor]: ...


class Encoder(nn.Module, ABC):
    """Turns one kind's events into a readout after every event. `features` is None where the kind is no input."""

    features: Features | None
    readout_width: int

    @abstractmethod
    def sequence(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """Readouts `[users, events, readout_width]` and attention logits `[users, events]` after every event.

        `numeric` float `[users, events, inputs]`, `categorical` int64 `[users, events, categories]`. Nothing may depend
        on later events: histories are padded at the end.
        """

    @abstractmethod
    def step(self) -> Step:
        """The step with the present weights."""

    def undecayed(self) -> list[nn.Parameter]:
        """Parameters that weight decay must not apply to."""
        return []

    def largest_attention_logit(self) -> float:
        """A bound on the size of the attention logits that the step takes the exponential of."""
        return 0.0
