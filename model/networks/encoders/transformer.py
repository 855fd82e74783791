"""Causal Transformer over a window of the newest events of one kind, with masked mean pooling.

Every layer's attention covers the last `window` events, and so does the pooling. An event's keys and values do not
change once computed, so serving keeps them and the pooled outputs in ring buffers inside the state. That is exact and
costs O(window) per event.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from events.types import Kind
from model.networks.encoders.encoder import Encoder, Step
from model.networks.features import Features

MASKED = -1e9
"""Added to the attention scores of slots without an event: their weight is exactly zero."""


class TransformerLayer(nn.Module):
    """Attention and feed-forward net, each after a layer norm and added to its input (Xiong et al. 2020, "pre-norm").

    Position is a learned bias per head and age in events, so it does not grow with the length of the history.
    """

    def __init__(self, hidden: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.first_norm = nn.LayerNorm(hidden)
        self.second_norm = nn.LayerNorm(hidden)
        self.projection = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)
        self.widen = nn.Linear(hidden, 2 * hidden)
        self.narrow = nn.Linear(2 * hidden, hidden)
        self.age_bias = nn.Parameter(torch.zeros(heads, window))
        self.scale = 1.0 / math.sqrt(hidden // heads)

    def project(self, signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query (scaled), key and value of every event, each `[…, heads, width of a head]`."""
        width = signal.shape[-1] // self.heads
        parts = self.projection(self.first_norm(signal)).reshape(*signal.shape[:-1], 3 * self.heads, width)
        query, key, value = torch.split(parts, self.heads, -2)
        return query * self.scale, key, value

    def finish(self, signal: Tensor, attended: Tensor) -> Tensor:
        """The layer's output from its input and the attended values, both `[…, hidden]`."""
        signal = signal + self.output(attended)
        widened: Tensor = torch.relu(self.widen(self.second_norm(signal)))
        narrowed: Tensor = self.narrow(widened)
        return signal + narrowed


class TransformerEncoder(Encoder):
    """Reads out the mean of the outputs of the last `window` events and the output of the newest."""

    features: Features

    def __init__(
        self,
        kind: Kind,
        vocabulary_sizes: list[int],
        names: Sequence[str] | None,
        layers: int,
        hidden: int,
        heads: int,
        window: int,
    ) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"a width of {hidden} cannot be split into {heads} heads of equal width")
        self.features = Features(kind, vocabulary_sizes, names)
        self.hidden = hidden
        self.window = window
        self.embed = nn.Linear(self.features.width, hidden)
        self.blocks = nn.ModuleList(TransformerLayer(hidden, heads, window) for _ in range(layers))
        self.last_norm = nn.LayerNorm(hidden)
        self.readout_width = 2 * hidden

    def sequence(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """Readouts after every event, see `Encoder.sequence`. The attention logits are zero, since attention here is
        per layer and head, not one weight per event."""
        signal = self.embed(self.features.sequence(numeric, categorical))
        for layer in self.blocks:
            assert isinstance(layer, TransformerLayer)
            query, key, value = layer.project(signal)
            signal = layer.finish(signal, _windowed(query, key, value, layer.age_bias))
        out = self.last_norm(signal)
        events = out.shape[1]
        # float64: the difference of two float32 sums over thousands of events would be off by far more than a rounding.
        total = nn.functional.pad(out.cumsum(1, dtype=torch.float64), (0, 0, self.window, 0))
        held = torch.arange(1, events + 1, device=out.device).clamp(max=self.window)
        mean = ((total[:, self.window :] - total[:, :events]) / held[:, None]).to(out.dtype)
        return torch.cat([mean, out], -1), torch.zeros_like(out[..., 0])

    def step(self) -> TransformerStep:
        """The step with the present weights."""
        return TransformerStep(self)


def _windowed(query: Tensor, key: Tensor, value: Tensor, age_bias: Tensor) -> Tensor:
    """Attended values `[users, events, heads · width]` where each event sees itself and the `window` - 1 before it.

    Works on blocks of `window` events, each of which sees itself and the block before: memory grows with events times
    window, not with the square of the events.
    """
    users, events, heads, width = query.shape
    window = age_bias.shape[1]
    blocks = -(-events // window)
    fill = blocks * window - events

    def blocked(part: Tensor) -> Tensor:
        padded = nn.functional.pad(part, (0, 0, 0, 0, 0, fill))
        return padded.reshape(users, blocks, window, heads, width).transpose(2, 3)

    def with_previous(part: Tensor) -> Tensor:
        before = nn.functional.pad(part, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1]
        return torch.cat([before, part], 3)

    queries, keys, values = blocked(query), with_previous(blocked(key)), with_previous(blocked(value))
    place = torch.arange(window, device=query.device)
    age = place[:, None] + window - torch.arange(2 * window, device=query.device)
    inside = (age >= 0) & (age < window)
    bias = age_bias[:, age.clamp(0, window - 1)].masked_fill(~inside, MASKED)
    scores = queries @ keys.transpose(-1, -2) + bias
    # The first block has no block before it.
    absent = torch.zeros(blocks, 1, 1, 2 * window, dtype=torch.bool, device=query.device)
    absent[0, :, :, :window] = True
    weights = torch.softmax(scores.masked_fill(absent, MASKED), -1)
    attended = (weights @ values).transpose(2, 3).reshape(users, blocks * window, heads * width)
    return attended[:, :events]


class TransformerStep(Step):
    """State: mean output, newest output (together the readout), events held (at most `window`), per layer the ring of
    keys and of values `[heads, window, width]`, the ring of outputs `[window, hidden]`, feature norms.

    A ring stands in order of age, the oldest first; taking an event drops the first slot and appends one.
    """

    def __init__(self, encoder: TransformerEncoder) -> None:
        super().__init__()
        self.features = encoder.features
        self.embed = encoder.embed
        self.blocks = encoder.blocks
        self.last_norm = encoder.last_norm
        self.hidden = encoder.hidden
        self.window = encoder.window
        self.ring = encoder.window * encoder.hidden
        rings = 2 * len(encoder.blocks) + 1
        self.sizes = [encoder.readout_width, 1, *[self.ring] * rings, *self.features.norms_sizes]
        self.state_width = sum(self.sizes)

    def forward(self, numeric: Tensor, categorical: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        _, held, *rest = torch.split(state, self.sizes, 1)
        rings, outputs = rest[: 2 * len(self.blocks)], rest[2 * len(self.blocks)]
        features, norms = self.features.step(numeric, categorical, rest[2 * len(self.blocks) + 1 :])
        held = torch.clamp(held + 1.0, max=float(self.window))
        age = torch.arange(self.window - 1, -1, -1, device=state.device).to(state.dtype)
        mask = (age >= held).to(state.dtype) * MASKED
        signal = self.embed(torch.cat(features, 1))
        after: list[Tensor] = []
        for number, layer in enumerate(self.blocks):
            assert isinstance(layer, TransformerLayer)
            query, key, value = layer.project(signal)
            keys = self._push(rings[2 * number], key, layer.heads)
            values = self._push(rings[2 * number + 1], value, layer.heads)
            scores = (keys @ query.unsqueeze(-1)).squeeze(-1) + layer.age_bias.flip(1) + mask.unsqueeze(1)
            attended = (torch.softmax(scores, -1).unsqueeze(-2) @ values).flatten(1)
            signal = layer.finish(signal, attended)
            after += [keys.flatten(1), values.flatten(1)]
        out = self.last_norm(signal)
        outputs = torch.cat([outputs[:, self.hidden :], out], 1)
        mean = outputs.reshape(-1, self.window, self.hidden).sum(1) / held
        return torch.cat([mean, out, held, *after, outputs, *norms], 1), torch.zeros_like(out[:, 0])

    def _push(self, ring: Tensor, newest: Tensor, heads: int) -> Tensor:
        """The ring `[n, heads, window, width]` after `newest` `[n, heads, width]`."""
        slots = ring.reshape(-1, heads, self.window, self.hidden // heads)
        return torch.cat([slots[:, :, 1:], newest.unsqueeze(2)], 2)
