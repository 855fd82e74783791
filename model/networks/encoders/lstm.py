"""LSTM over one kind's events, with or without attention over the whole history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.networks.encoders.recurrent import RecurrentEncoder, RecurrentStep, linear_parts


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
    """The cell written out, one product per gate over input and hidden state together. Memory: cell state of the top
    layer, then hidden and cell state of each lower layer."""

    def __init__(self, encoder: LstmEncoder) -> None:
        super().__init__(encoder, [encoder.hidden] * (2 * encoder.layers - 1))
        gates = []
        for layer in range(encoder.layers):
            names = [f"{part}_l{layer}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            input_weight, hidden_weight, input_bias, hidden_bias = (getattr(encoder.lstm, name) for name in names)
            gates.append(linear_parts(torch.cat([input_weight, hidden_weight], 1), input_bias + hidden_bias, 4))
        self.gates = nn.ModuleList(gates)

    def recur(
        self,
        features: list[Tensor],
        numeric: Tensor,  # noqa: ARG002
        hidden: Tensor,
        memory: list[Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        """The hidden state and the memory after an event."""
        top_cell, *lower = memory
        lower_after: list[Tensor] = []
        signal = features
        for layer in range(self.layers - 1):
            below, cell = self._cell(layer, signal, lower[2 * layer], lower[2 * layer + 1])
            signal = [below]
            lower_after += [below, cell]
        hidden, top_cell = self._cell(self.layers - 1, signal, hidden, top_cell)
        return hidden, [top_cell, *lower_after]

    def _cell(self, layer: int, signal: list[Tensor], hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        gates = self.gates[layer]
        assert isinstance(gates, nn.ModuleList)
        joined = torch.cat([*signal, hidden], 1)
        # torch's order of the gates.
        entered, kept, candidate, shown = (gate(joined) for gate in gates)
        cell = torch.sigmoid(kept) * cell + torch.sigmoid(entered) * torch.tanh(candidate)
        return torch.sigmoid(shown) * torch.tanh(cell), cell
