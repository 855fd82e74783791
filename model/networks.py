"""The multimodal hazard model: one encoder per kind of event, one fusion head, over whole histories in parallel.

`model.steps` holds the same arithmetic one event at a time, which is what serving runs. Reads no events and no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from events.columns import COLUMNS
from events.types import KINDS, Kind
from model.features import Features

LONGEST_LOGIT = 30.0
"""Hazard logits are clipped at ±30, where the hazard is 0 or 1 to the last bit that matters."""

VocabularySizes: TypeAlias = Mapping[Kind, list[int]]
"""Per kind, the number of listed categories of each categorical field, in the order of `events.columns`."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network. `layers` and `hidden` are of the recurrent kinds."""

    layers: tuple[int, int, int] = (2, 2, 1)
    hidden: tuple[int, int, int] = (64, 64, 32)
    profile_hidden: int = 64
    profile_embedding: int = 32
    fusion: int = 128
    dropout: float = 0.3
    horizons_days: tuple[int, ...] = (30, 60, 90, 180)

    def of_kind(self, kind: Kind) -> tuple[int, int]:
        """Layers and hidden width of a recurrent kind."""
        position = KINDS.index(kind)
        return self.layers[position], self.hidden[position]

    def readout_width(self, kind: Kind) -> int:
        """Floats of a kind that the fusion reads: attention context and last hidden state, or the profile embedding."""
        return self.profile_embedding if kind == "profiles" else 2 * self.of_kind(kind)[1]

    def as_manifest(self) -> dict[str, Any]:
        """Plain values for `manifest.json`."""
        return {
            "family": "lstm-attention-hazard",
            **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()},
        }

    @classmethod
    def from_manifest(cls, values: Mapping[str, Any]) -> Architecture:
        """The inverse of `as_manifest`."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        fields.pop("family")
        return cls(**fields)


class RecurrentEncoder(nn.Module):
    """LSTM over one kind's events, pooled by additive attention without a query: logit = v · tanh(W h + b).

    The logit of an event depends on nothing that comes later, and its size is bounded by the sum of |v|, so the softmax
    over a growing history can be kept as a running sum (see `model.steps`).
    """

    def __init__(self, kind: Kind, vocabulary_sizes: list[int], layers: int, hidden: int) -> None:
        super().__init__()
        self.features = Features(kind, vocabulary_sizes)
        self.layers = layers
        self.hidden = hidden
        self.lstm = nn.LSTM(self.features.width, hidden, layers, batch_first=True)
        self.attention = nn.Linear(hidden, hidden)
        self.query = nn.Linear(hidden, 1, bias=False)
        self._open_forget_gates()

    def _open_forget_gates(self) -> None:
        # Forget gates that start open let gradients reach months back from the first step on.
        with torch.no_grad():
            for layer in range(self.layers):
                bias: Tensor = getattr(self.lstm, f"bias_ih_l{layer}")
                bias[self.hidden : 2 * self.hidden].fill_(1.0)

    def sequence(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """Readouts `[users, events, 2 · hidden]` and attention logits `[users, events]` after every event."""
        hidden, _ = self.lstm(self.features.sequence(numeric, categorical))
        logits = self.query(torch.tanh(self.attention(hidden))).squeeze(-1)
        # Softmax of every prefix: any constant may be taken off all logits of a row, the maximum keeps exp in range.
        weights = torch.exp(logits - logits.detach().amax(-1, keepdim=True)).unsqueeze(-1)
        context = (weights * hidden).cumsum(1) / weights.cumsum(1)
        return torch.cat([context, hidden], -1), logits


class ProfileEncoder(nn.Module):
    """A profile replaces the one before, so its encoder has no memory."""

    def __init__(self, vocabulary_sizes: list[int], hidden: int, embedding: int) -> None:
        super().__init__()
        self.features = Features("profiles", vocabulary_sizes)
        self.layers_ = nn.Sequential(
            nn.Linear(self.features.width, hidden), nn.ReLU(), nn.Linear(hidden, embedding), nn.Tanh()
        )

    def sequence(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings `[users, events, embedding]` and zero attention logits `[users, events]`."""
        embedded = self.layers_(self.features.sequence(numeric, categorical))
        return embedded, torch.zeros_like(embedded[..., 0])


class Fusion(nn.Module):
    """From the kinds' readouts to calibrated hazards of the intervals between horizons."""

    slope: Tensor
    intercept: Tensor

    def __init__(self, readout_width: int, hidden: int, dropout: float, intervals: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(readout_width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.logits_ = nn.Linear(hidden, intervals)
        self.register_buffer("slope", torch.ones(intervals))
        self.register_buffer("intercept", torch.zeros(intervals))

    def logits(self, readout: Tensor) -> Tensor:
        """Calibrated hazard logits `[…, intervals]`."""
        raw: Tensor = self.logits_(self.dropout(torch.relu(self.hidden(readout))))
        return torch.clamp(raw * self.slope + self.intercept, -LONGEST_LOGIT, LONGEST_LOGIT)


def cumulative(logits: Tensor) -> Tensor:
    """Probabilities within each horizon from hazard logits, both `[…, intervals]`.

    P_k = P_(k-1) + (1 - P_(k-1)) · hazard_k, which equals 1 - ∏(1 - hazard) but keeps small probabilities precise and
    never decreases, also in floating point. The hazard is written out because a runtime's fast logistic function has
    only absolute precision.
    """
    hazards = 1.0 / (1.0 + torch.exp(-logits))
    probabilities = [hazards[..., :1]]
    for interval in range(1, logits.shape[-1]):
        before = probabilities[-1]
        probabilities.append(before + (1.0 - before) * hazards[..., interval : interval + 1])
    return torch.cat(probabilities, -1)


class RiskModel(nn.Module):
    """The whole model over padded histories."""

    def __init__(self, architecture: Architecture, vocabulary_sizes: VocabularySizes) -> None:
        super().__init__()
        for kind in KINDS:
            expected = len(COLUMNS[kind].categorical)
            if len(vocabulary_sizes[kind]) != expected:
                raise ValueError(f"{kind} has {expected} categorical fields, got sizes {vocabulary_sizes[kind]}")
        self.architecture = architecture
        self.repayments = RecurrentEncoder(
            "repayments", vocabulary_sizes["repayments"], *architecture.of_kind("repayments")
        )
        self.transactions = RecurrentEncoder(
            "transactions", vocabulary_sizes["transactions"], *architecture.of_kind("transactions")
        )
        self.activity = RecurrentEncoder("activity", vocabulary_sizes["activity"], *architecture.of_kind("activity"))
        self.profiles = ProfileEncoder(
            vocabulary_sizes["profiles"], architecture.profile_hidden, architecture.profile_embedding
        )
        width = sum(architecture.readout_width(kind) for kind in KINDS)
        self.fusion = Fusion(width, architecture.fusion, architecture.dropout, len(architecture.horizons_days))

    def encoder(self, kind: Kind) -> RecurrentEncoder | ProfileEncoder:
        """The encoder of a kind."""
        encoders: dict[Kind, RecurrentEncoder | ProfileEncoder] = {
            "repayments": self.repayments,
            "transactions": self.transactions,
            "activity": self.activity,
            "profiles": self.profiles,
        }
        return encoders[kind]

    def readouts(
        self,
        numeric: Mapping[Kind, Tensor],
        categorical: Mapping[Kind, Tensor],
        latest: Tensor,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Readouts of all kinds after each selected event, `[selected, readout width]`.

        `numeric` and `categorical` are padded per kind, `[users, events of the kind, …]`. `latest` int64
        `[selected, 1 + kinds]` holds a row in the batch and per kind how many of that user's events have arrived, in
        the order of `KINDS`; none gives zeros. `keep` `[users, kinds]` blanks the kinds with 0, as if never seen.
        """
        parts = []
        for position, kind in enumerate(KINDS):
            readouts, _ = self.encoder(kind).sequence(numeric[kind], categorical[kind])
            if keep is not None:
                readouts = readouts * keep[:, position, None, None]
            users, events, width = readouts.shape
            nothing = readouts.new_zeros((users, 1, width))
            rows = torch.cat([nothing, readouts], 1).reshape(users * (events + 1), width)
            parts.append(rows.index_select(0, latest[:, 0] * (events + 1) + latest[:, 1 + position]))
        return torch.cat(parts, -1)

    def forward(
        self,
        numeric: Mapping[Kind, Tensor],
        categorical: Mapping[Kind, Tensor],
        latest: Tensor,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Calibrated hazard logits `[selected, intervals]`; arguments as for `readouts`."""
        return self.fusion.logits(self.readouts(numeric, categorical, latest, keep))
