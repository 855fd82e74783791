"""Gated linear recurrence whose memory decays with real time, on many time scales, with attention.

Each channel keeps h' = a·h + i·v with a = forget gate · exp(-days since the previous event / time scale). The gates
depend on the event and not on h, as in the simple recurrent unit (Lei et al. 2018), so the work on the inputs is done
for all events at once and only one multiplication and addition per event is sequential. Training is therefore several
times faster than an LSTM's, and a channel cannot amplify rounding errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from events.types import Kind
from model.networks.encoders.recurrent import RecurrentEncoder, RecurrentStep, linear_parts

SHORTEST_DAYS, LONGEST_DAYS = 1.0, 720.0
"""Time scales of the channels at the start of training, spaced evenly in their logarithm; training moves them."""


class LinearRecurrence(torch.autograd.Function):
    """h_t = a_t · h_(t-1) + b_t for `a` and `b` `[T, …]`, h before the first being zero."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, added: Tensor) -> Tensor:
        """All h, `[T, …]`."""
        memory = added.clone()
        for step in range(1, len(memory)):
            memory[step].addcmul_(decay[step], memory[step - 1])
        ctx.save_for_backward(decay, memory)
        return memory

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of `decay` and `added`: the same recurrence, backwards."""
        decay, memory = ctx.saved_tensors
        carried = gradient.clone()
        for step in range(len(carried) - 2, -1, -1):
            carried[step].addcmul_(decay[step + 1], carried[step + 1])
        of_decay = torch.zeros_like(decay)
        of_decay[1:] = carried[1:] * memory[:-1]
        return of_decay, carried


class TimeDecayLayer(nn.Module):
    """One layer: candidate, input gate, forget gate and output gate from the signal, decay from the gap."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs, 4 * hidden)
        self.hidden = hidden
        scales = torch.linspace(math.log(SHORTEST_DAYS), math.log(LONGEST_DAYS), hidden)
        # Neighbouring channels get scales far apart, so that a gate's scale does not depend on its position.
        self.log_scale = nn.Parameter(scales[torch.randperm(hidden)])
        with torch.no_grad():
            # Forget gates that start between 0.88 and 0.998: a memory from eight events to hundreds.
            self.gates.bias[hidden : 2 * hidden].copy_(torch.linspace(2.0, 6.0, hidden))

    def fading(self, gap_days: Tensor) -> Tensor:
        """Factor by which time decays each channel, `[…, hidden]`; `gap_days` `[…, 1]`."""
        return torch.exp(-gap_days * torch.exp(-self.log_scale))


class TimeDecayEncoder(RecurrentEncoder):
    """Layers of the recurrence, each after the first added to what it reads."""

    def __init__(
        self, kind: Kind, vocabulary_sizes: list[int], names: Sequence[str] | None, layers: int, hidden: int
    ) -> None:
        super().__init__(kind, vocabulary_sizes, names, layers, hidden)
        self.gap_column = self.features.names.index("gap_days")

    def _add_recurrence(self) -> None:
        widths = [self.features.width, *[self.hidden] * (self.layers - 1)]
        self.recurrences = nn.ModuleList(TimeDecayLayer(width, self.hidden) for width in widths)

    def recur(self, signal: Tensor, numeric: Tensor) -> Tensor:
        """Outputs of the last layer."""
        gap_days = known_gap(numeric, self.gap_column)
        for number, layer in enumerate(self.recurrences):
            assert isinstance(layer, TimeDecayLayer)
            entered, kept, shown, candidate = layer.gates(signal).chunk(4, -1)
            decay = torch.sigmoid(kept) * layer.fading(gap_days)
            added = torch.sigmoid(entered) * torch.tanh(candidate)
            # Events first: each step of the recurrence then reads and writes one contiguous piece.
            memory = LinearRecurrence.apply(decay.transpose(0, 1).contiguous(), added.transpose(0, 1).contiguous())  # type: ignore[no-untyped-call]
            out = torch.sigmoid(shown) * torch.tanh(memory.transpose(0, 1))
            signal = out if number == 0 else signal + out
        return signal

    def step(self) -> TimeDecayStep:
        """The step with the present weights."""
        return TimeDecayStep(self)


class TimeDecayStep(RecurrentStep):
    """Memory: h of every layer, from the first to the last."""

    def __init__(self, encoder: TimeDecayEncoder) -> None:
        super().__init__(encoder, [encoder.hidden] * encoder.layers)
        self.recurrences = encoder.recurrences
        self.gap_column = encoder.gap_column
        gates = []
        for layer in encoder.recurrences:
            assert isinstance(layer, TimeDecayLayer)
            gates.append(linear_parts(layer.gates.weight, layer.gates.bias, 4))
        self.gates = nn.ModuleList(gates)

    def recur(
        self,
        features: list[Tensor],
        numeric: Tensor,
        hidden: Tensor,  # noqa: ARG002
        memory: list[Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        """The output of the last layer and the memory after an event."""
        gap_days = known_gap(numeric, self.gap_column)
        signal = torch.cat(features, 1)
        after = []
        for number, layer in enumerate(self.recurrences):
            gates = self.gates[number]
            assert isinstance(layer, TimeDecayLayer)
            assert isinstance(gates, nn.ModuleList)
            entered, kept, shown, candidate = (gate(signal) for gate in gates)
            decay = torch.sigmoid(kept) * layer.fading(gap_days)
            own = decay * memory[number] + torch.sigmoid(entered) * torch.tanh(candidate)
            out = torch.sigmoid(shown) * torch.tanh(own)
            signal = out if number == 0 else signal + out
            after.append(own)
        return signal, after


def known_gap(numeric: Tensor, column: int) -> Tensor:
    """Days since the previous event `[…, 1]`, 0 where there is none."""
    gap = numeric[..., column : column + 1]
    return torch.where(torch.isnan(gap), torch.zeros_like(gap), torch.clamp(gap, min=0.0))
