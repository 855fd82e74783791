"""LSTM over one kind's events, with or without attention over the whole history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.encoders.recurrent import RecurrentEncoder, RecurrentStep


class LstmEncoder(RecurrentEncoder):
    """Layers of LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000)."""

    def _add_recurrence(self) -> None:
        self.lstm = nn.LSTM(self.features.width, self.hidden, self.layers, batch_first=True)
        # Forget gates that start open let gradients reach months back from the first step on.
        with torch.no_grad():
            for layer in range(self.layers):
                bias: Tensor = getattr(self.lstm, f"bias_ih_l{layer}")
                bias[self.hidden : 2 * self.hidden].fill_(1.0)

    def recur(self, signal: Tensor, numeric: Tensor) -> Tensor:  # noqa: ARG002
        """Hidden states of the top layer."""
        hidden: Tensor = self.lstm(signal)[0]
        return hidden

    def step(self) -> LstmStep:
        """The step with the present weights."""
        return LstmStep(self)


class LstmStep(RecurrentStep):
    """The cell written out with one Gemm per layer. Memory: cell state of the top layer, then hidden and cell state of
    each lower layer."""

    def __init__(self, encoder: LstmEncoder) -> None:
        super().__init__(encoder, (2 * encoder.layers - 1) * encoder.hidden)
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

    def recur(self, signal: Tensor, numeric: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """The hidden state and the memory after an event."""
        top_cell, *lower = torch.split(memory, [self.hidden] * (2 * self.layers - 1), 1)
        lower_after: list[Tensor] = []
        for layer in range(self.layers - 1):
            signal, cell = self._cell(layer, signal, lower[2 * layer], lower[2 * layer + 1])
            lower_after += [signal, cell]
        hidden, top_cell = self._cell(self.layers - 1, signal, hidden, top_cell)
        return hidden, torch.cat([top_cell, *lower_after], 1)

    def _cell(self, layer: int, signal: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        gates = nn.functional.linear(torch.cat([signal, hidden], 1), self.weights[layer], self.biases[layer])
        width = self.hidden
        opened = torch.sigmoid(gates[:, : 3 * width])
        candidate = torch.tanh(gates[:, 3 * width :])
        cell = opened[:, width : 2 * width] * cell + opened[:, :width] * candidate
        return opened[:, 2 * width :] * torch.tanh(cell), cell


def _sigmoids_first(hidden: int) -> Tensor:
    """Row order that turns torch's gates (input, forget, candidate, output) into (input, forget, output, candidate),
    so that three gates go through one sigmoid."""
    rows = torch.arange(4 * hidden)
    return torch.cat([rows[: 2 * hidden], rows[3 * hidden :], rows[2 * hidden : 3 * hidden]])
