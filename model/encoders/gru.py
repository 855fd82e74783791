"""GRU over one kind's events, with attention over the whole history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.encoders.recurrent import RecurrentEncoder, RecurrentStep


class GruEncoder(RecurrentEncoder):
    """Layers of gated recurrent units (Cho et al. 2014, in the form with the reset gate behind the product)."""

    def _add_recurrence(self) -> None:
        self.gru = nn.GRU(self.features.width, self.hidden, self.layers, batch_first=True)
        # Update gates that start shut keep what was seen, as the LSTM's open forget gates do.
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
    """One Gemm per layer gives reset and update gate, and apart from each other the two terms of the candidate: the
    reset gate multiplies only the one that comes from the hidden state. Memory: hidden states of the lower layers."""

    def __init__(self, encoder: GruEncoder) -> None:
        super().__init__(encoder, (encoder.layers - 1) * encoder.hidden)
        weights, biases = [], []
        for layer in range(encoder.layers):
            names = [f"{part}_l{layer}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            input_weight, hidden_weight, input_bias, hidden_bias = (
                getattr(encoder.gru, name).detach() for name in names
            )
            weight, bias = _one_gemm(input_weight, hidden_weight, input_bias, hidden_bias, encoder.hidden)
            weights.append(weight)
            biases.append(bias)
        self.weights = nn.ParameterList(weights)
        self.biases = nn.ParameterList(biases)

    def recur(self, signal: Tensor, numeric: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """The hidden state and the memory after an event."""
        before = [*torch.split(memory, [self.hidden] * (self.layers - 1), 1), hidden]
        after: list[Tensor] = []
        for layer, own in enumerate(before):
            signal = self._cell(layer, signal, own)
            after.append(signal)
        return signal, torch.cat(after[:-1], 1) if self.layers > 1 else memory

    def _cell(self, layer: int, signal: Tensor, hidden: Tensor) -> Tensor:
        gates = nn.functional.linear(torch.cat([signal, hidden], 1), self.weights[layer], self.biases[layer])
        width = self.hidden
        opened = torch.sigmoid(gates[:, : 2 * width])
        candidate = torch.tanh(gates[:, 2 * width : 3 * width] + opened[:, :width] * gates[:, 3 * width :])
        return candidate + opened[:, width:] * (hidden - candidate)


def _one_gemm(
    input_weight: Tensor, hidden_weight: Tensor, input_bias: Tensor, hidden_bias: Tensor, hidden: int
) -> tuple[Tensor, Tensor]:
    """Weight `[4 · hidden, input + hidden]` and bias: gates, candidate's input term, candidate's hidden term."""
    gates = 2 * hidden
    nothing_in = torch.zeros_like(input_weight[gates:])
    nothing_kept = torch.zeros_like(hidden_weight[gates:])
    weight = torch.cat(
        [
            torch.cat([input_weight[:gates], hidden_weight[:gates]], 1),
            torch.cat([input_weight[gates:], nothing_kept], 1),
            torch.cat([nothing_in, hidden_weight[gates:]], 1),
        ]
    )
    bias = torch.cat([input_bias[:gates] + hidden_bias[:gates], input_bias[gates:], hidden_bias[gates:]])
    return weight.contiguous(), bias.contiguous()
