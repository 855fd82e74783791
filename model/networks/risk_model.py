"""The multimodal hazard model: one encoder per kind of event, one fusion head, over whole histories in parallel.

`model.networks.encoders` holds the encoders, each also as the step of one event that serving runs. Reads no events and
no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from events.columns import COLUMNS, NEVER_DAYS, positions
from events.types import KINDS, Kind
from model.architectures import Architecture
from model.networks.boosted import BoostedFusion
from model.networks.encoders import build_encoder
from model.networks.encoders.encoder import Encoder
from model.networks.encoders.tallied import TalliedEncoder
from model.networks.fusion import Fusion
from model.networks.tallies import Tally
from model.networks.trees import Trees

VocabularySizes: TypeAlias = Mapping[Kind, list[int]]
"""Per kind, the number of listed categories of each categorical field, in the order of `events.columns`."""


class RiskModel(nn.Module):
    """The whole model over padded histories. `numeric_inputs` names what it takes of each kind, by default all of
    `events.columns`; `taken` has their positions there, None where they are the same."""

    def __init__(
        self,
        architecture: Architecture,
        vocabulary_sizes: VocabularySizes,
        numeric_inputs: Mapping[Kind, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        self.numeric_inputs: dict[Kind, tuple[str, ...]] = {
            kind: COLUMNS[kind].numeric_inputs if numeric_inputs is None else tuple(numeric_inputs[kind])
            for kind in KINDS
        }
        self.taken = {kind: positions(kind, names) for kind, names in self.numeric_inputs.items()}
        for kind in KINDS:
            expected = len(COLUMNS[kind].categorical)
            if len(vocabulary_sizes[kind]) != expected:
                raise ValueError(f"{kind} has {expected} categorical fields, got sizes {vocabulary_sizes[kind]}")
        self.architecture = architecture
        self.vocabulary_sizes = vocabulary_sizes
        self.repayments, self.transactions, self.activity, self.profiles = (
            self._build(kind, vocabulary_sizes[kind]) for kind in KINDS
        )
        width = sum(self.encoder(kind).readout_width for kind in KINDS)
        read = [number for number, kind in enumerate(KINDS) if self.encoder(kind).readout_width]
        self.fusion: Fusion | BoostedFusion = Fusion(
            width,
            read,
            architecture.fusion,
            architecture.dropout,
            len(architecture.horizons_days),
            wide=architecture.wide,
            readout_dropout=architecture.readout_dropout,
        )
        if architecture.tallies:
            self._boost(architecture, vocabulary_sizes)

    def _boost(self, architecture: Architecture, vocabulary_sizes: VocabularySizes) -> None:
        """Put a tally beside each encoder, and trees beside the fusion."""
        assert isinstance(self.fusion, Fusion)
        widths = {kind: self.encoder(kind).readout_width for kind in KINDS}
        tallies = {
            kind: Tally(kind, self.numeric_inputs[kind], vocabulary_sizes[kind], names)
            for kind, names in zip(KINDS, architecture.tallies, strict=True)
        }
        self.repayments, self.transactions, self.activity, self.profiles = (
            TalliedEncoder(self.encoder(kind), tallies[kind]) for kind in KINDS
        )
        self.fusion = BoostedFusion(
            self.fusion,
            widths,
            tallies,
            Trees(*architecture.trees),
            len(architecture.horizons_days),
        )

    def _build(self, kind: Kind, vocabulary_sizes: list[int]) -> Encoder:
        """A fresh encoder of a kind."""
        return build_encoder(self.architecture, kind, vocabulary_sizes, self.numeric_inputs[kind])

    def encoder(self, kind: Kind) -> Encoder:
        """The encoder of a kind."""
        encoders: dict[Kind, Encoder] = {
            "repayments": self.repayments,
            "transactions": self.transactions,
            "activity": self.activity,
            "profiles": self.profiles,
        }
        return encoders[kind]

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """All parameters in groups as an optimiser takes them; `weight_decay` is of those that bear it."""
        spared = [parameter for kind in KINDS for parameter in self.encoder(kind).undecayed()]
        known = {id(parameter) for parameter in spared}
        decayed = [parameter for parameter in self.parameters() if id(parameter) not in known]
        return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]

    def set_bounds(self, kind: Kind, numeric: NDArray[np.float32], tail: float, *, seasonal: bool) -> None:
        """`Features.set_bounds` of a kind, where the kind is an input; `numeric` has all inputs of `events.columns`."""
        features, taken = self.encoder(kind).features, self.taken[kind]
        if features is not None:
            features.set_bounds(numeric if taken is None else numeric[:, taken], tail, seasonal=seasonal)

    def readouts(
        self,
        numeric: Mapping[Kind, Tensor],
        categorical: Mapping[Kind, Tensor],
        latest: Tensor,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Readouts of all kinds after each selected event, `[selected, readout width]`.

        `numeric` and `categorical` are padded per kind, `[users, events of the kind, …]`, with all inputs of
        `events.columns`. `latest` int64
        `[selected, 1 + kinds]` holds a row in the batch and per kind how many of that user's events have arrived, in
        the order of `KINDS`; none gives zeros. `keep` `[users, kinds]` blanks the kinds with 0, as if never seen.
        """
        parts = []
        for position, kind in enumerate(KINDS):
            taken, values = self.taken[kind], numeric[kind]
            values = values if taken is None else values[..., torch.from_numpy(taken)]
            readouts, _ = self.encoder(kind).sequence(values, categorical[kind])
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
        ages: Tensor,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Calibrated hazard logits `[selected, intervals]`; `ages` `[selected, kinds]` as `events.columns.ages_days`
        gives them, the other arguments as for `readouts`."""
        if keep is not None:
            ages = torch.where(keep.index_select(0, latest[:, 0]) > 0, ages, NEVER_DAYS)
        return self.fusion.logits(self.readouts(numeric, categorical, latest, keep), ages)
