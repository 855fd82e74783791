"""One event at a time: the arithmetic of `model.networks` as step functions, in the form that is exported.

State of a recurrent kind, float32, in this order: attention context, last hidden state of the top layer (together the
readout), cell state of the top layer, then hidden and cell state of each lower layer, running maximum m and normaliser
Z of the attention, counts and running means of the feature norms. All zeros is the state before the first event.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from events.types import KINDS, Kind
from model.networks import LONGEST_LOGIT, Fusion, ProfileEncoder, RecurrentEncoder, RiskModel, cumulative


class RecurrentStep(nn.Module):
    """Step of a recurrent kind: `(numeric [n, …], categorical [n, …], state [n, S])` to `(state', attention [n])`.

    The softmax over the whole history is kept as a running sum (Milakov & Gimelshein 2018, "Online normalizer
    calculation for softmax"), here with the context already divided by the normaliser:
    m' = max(m, e); Z' = Z·exp(m - m') + exp(e - m'); context' = context + (h - context)·exp(e - m') / Z'.
    """

    def __init__(self, encoder: RecurrentEncoder) -> None:
        super().__init__()
        self.features = encoder.features
        self.attention = encoder.attention
        self.query = encoder.query
        self.hidden = encoder.hidden
        self.layers = encoder.layers
        order = _sigmoids_first(encoder.hidden)
        weights, biases = [], []
        for layer in range(encoder.layers):
            names = [f"{part}_l{layer}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            input_weight, hidden_weight, input_bias, hidden_bias = (
                getattr(encoder.lstm, name).detach() for name in names
            )
            weights.append(torch.cat([input_weight, hidden_weight], 1)[order].contiguous())
            biases.append((input_bias + hidden_bias)[order].contiguous())
        self.weights = nn.ParameterList(weights)
        self.biases = nn.ParameterList(biases)

    @property
    def state_width(self) -> int:
        """Floats of state."""
        return (1 + 2 * self.layers) * self.hidden + 2 + self.features.norms_width

    def forward(self, numeric: Tensor, categorical: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        sizes = [self.hidden] * (1 + 2 * self.layers) + [1, 1, self.features.norms_width]
        context, top_hidden, top_cell, *rest = torch.split(state, sizes, 1)
        lower, (maximum, normaliser, norms) = rest[:-3], rest[-3:]
        signal, norms = self.features.step(numeric, categorical, norms)
        lower_after: list[Tensor] = []
        for layer in range(self.layers - 1):
            signal, cell = self._cell(layer, signal, lower[2 * layer], lower[2 * layer + 1])
            lower_after += [signal, cell]
        hidden, top_cell = self._cell(self.layers - 1, signal, top_hidden, top_cell)
        logit = self.query(torch.tanh(self.attention(hidden)))
        new_maximum = torch.maximum(maximum, logit)
        weight = torch.exp(logit - new_maximum)
        normaliser = normaliser * torch.exp(maximum - new_maximum) + weight
        context = context + (hidden - context) * (weight / normaliser)
        after = torch.cat([context, hidden, top_cell, *lower_after, new_maximum, normaliser, norms], 1)
        return after, logit.squeeze(-1)

    def _cell(self, layer: int, signal: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        gates = nn.functional.linear(torch.cat([signal, hidden], 1), self.weights[layer], self.biases[layer])
        width = self.hidden
        opened = torch.sigmoid(gates[:, : 3 * width])
        candidate = torch.tanh(gates[:, 3 * width :])
        cell = opened[:, width : 2 * width] * cell + opened[:, :width] * candidate
        return opened[:, 2 * width :] * torch.tanh(cell), cell


class ProfileStep(nn.Module):
    """Step of the profile: the new embedding replaces the state; attention is zero."""

    def __init__(self, encoder: ProfileEncoder) -> None:
        super().__init__()
        self.features = encoder.features
        self.layers_ = encoder.layers_
        embedding = encoder.layers_[2]
        assert isinstance(embedding, nn.Linear)
        self.state_width = embedding.out_features

    def forward(self, numeric: Tensor, categorical: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        signal, _ = self.features.step(numeric, categorical, state[:, :0])
        embedded = self.layers_(signal)
        return embedded, torch.zeros_like(embedded[:, 0])


class ScoreStep(nn.Module):
    """From readouts `[n, R]` to probabilities within each horizon `[n, H]`, both float32.

    The last layer and all after it run in float64: summing 128 float32 products of logits that cancel is where most of
    the rounding error of a score comes from, and these few numbers cost next to nothing.
    """

    weight: Tensor
    bias: Tensor
    slope: Tensor
    intercept: Tensor

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.hidden = fusion.hidden
        self.register_buffer("weight", fusion.logits_.weight.detach().double())
        self.register_buffer("bias", fusion.logits_.bias.detach().double())
        self.register_buffer("slope", fusion.slope.double())
        self.register_buffer("intercept", fusion.intercept.double())

    def forward(self, readout: Tensor) -> Tensor:
        hidden = torch.relu(self.hidden(readout)).double()
        logits = nn.functional.linear(hidden, self.weight, self.bias) * self.slope + self.intercept
        return cumulative(torch.clamp(logits, -LONGEST_LOGIT, LONGEST_LOGIT)).float()


def step_of(model: RiskModel, kind: Kind) -> RecurrentStep | ProfileStep:
    """The step of a kind, sharing or copying the model's present weights, in evaluation mode."""
    encoder = model.encoder(kind)
    step = ProfileStep(encoder) if isinstance(encoder, ProfileEncoder) else RecurrentStep(encoder)
    step.eval()
    return step


def state_widths(model: RiskModel) -> dict[Kind, int]:
    """Floats of state per kind, in the order of `KINDS`."""
    return {kind: step_of(model, kind).state_width for kind in KINDS}


def _sigmoids_first(hidden: int) -> Tensor:
    """Row order that turns torch's gates (input, forget, candidate, output) into (input, forget, output, candidate),
    so that three gates go through one sigmoid."""
    rows = torch.arange(4 * hidden)
    return torch.cat([rows[: 2 * hidden], rows[3 * hidden :], rows[2 * hidden : 3 * hidden]])
