"""GRU over one kind's events, with attention over the whole history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.networks.encoders.recurrent import RecurrentEncoder, RecurrentStep, linear_parts


class GruEncoder(RecurrentEncoder):
    """Layers of gated recurrent units (Cho et al. 2014, in the form with the reset gate behind the product)."""

    def _add_recurrence(self) -> None:
        self.gru = nn.GRU(self.features.width, self.hidden, self.layers, batch_first=True)
        # Update gates that start closed keep the hidden state, as the LSTM's open forget gates do.
        with torch.no_grad():
            for layer in range(self.layers):
                bias: Tensor = getattr(self.gru, f"bias_ih_l{layer}")
                bias[self.hidden : 2 * self.hidden].fill_(1.0)

    def recur(self, signal: Tensor, numeric: Tensor) -> Tensor:  # noqa: ARG002
        """Hidden states of the top layer."""
        hidden: Tensor = self.gru(signal)[0]
        return hidden

    def step(self) -> GruStep:
        """The step with the present weights."""
        return GruStep(self)


class GruStep(RecurrentStep):
    """One product per gate over input and hidden state together, and one for each of the candidate's two terms: the
    reset gate multiplies only the one that comes from the hidden state. Memory: hidden states of the lower layers."""

    def __init__(self, encoder: GruEncoder) -> None:
        super().__init__(encoder, [encoder.hidden] * (encoder.layers - 1))
        gates, candidates = [], []
        split_at = 2 * encoder.hidden
        for layer in range(encoder.layers):
            names = [f"{part}_l{layer}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            input_weight, hidden_weight, input_bias, hidden_bias = (getattr(encoder.gru, name) for name in names)
            joined = torch.cat([input_weight, hidden_weight], 1)
            gates.append(linear_parts(joined[:split_at], (input_bias + hidden_bias)[:split_at], 2))
            of_input = linear_parts(input_weight[split_at:], input_bias[split_at:], 1)
            of_hidden = linear_parts(hidden_weight[split_at:], hidden_bias[split_at:], 1)
            candidates.append(nn.ModuleList([*of_input, *of_hidden]))
        self.gates = nn.ModuleList(gates)
        self.candidates = nn.ModuleList(candidates)

    def recur(
        self,
        features: list[Tensor],
        numeric: Tensor,  # noqa: ARG002
        hidden: Tensor,
        memory: list[Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        """The hidden state and the memory after an event."""
        signal = torch.cat(features, 1)
        after: list[Tensor] = []
        for layer, own in enumerate([*memory, hidden]):
            signal = self._cell(layer, signal, own)
            after.append(signal)
        return signal, after[:-1]

    def _cell(self, layer: int, signal: Tensor, hidden: Tensor) -> Tensor:
        gates, candidates = self.gates[layer], self.candidates[layer]
        assert isinstance(gates, nn.ModuleList)
        assert isinstance(candidates, nn.ModuleList)
        joined = torch.cat([signal, hidden], 1)
        reset, kept = (torch.sigmoid(gate(joined)) for gate in gates)
        of_input, of_hidden = candidates
        candidate = torch.tanh(of_input(signal) + reset * of_hidden(hidden))
        after: Tensor = candidate + kept * (hidden - candidate)
        return after
