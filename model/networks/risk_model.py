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
from model.networks.encoders import build_encoder
from model.networks.encoders.encoder import Encoder

LONGEST_LOGIT = 30.0
"""Hazard logits are clipped at ±30, where the hazard differs from 0 or 1 by less than 1e-13."""

LONGEST_AGE_DAYS = 90.0
"""Ages are clipped here: larger ones would grow beyond all ages in training."""
HALF_AGES_DAYS = (3.0, 30.0)
"""Ages at which the bounded features of an age are one half: of the order of days between app sessions, and of weeks
between bills."""
AGE_FEATURES = 1 + len(HALF_AGES_DAYS)

VocabularySizes: TypeAlias = Mapping[Kind, list[int]]
"""Per kind, the number of listed categories of each categorical field, in the order of `events.columns`."""


class Fusion(nn.Module):
    """From the kinds' readouts, and how old each of them is, to calibrated hazards of the intervals between horizons.

    A readout does not change until the next event of its kind, while time passes and bills fall due: hence the ages.
    `kinds` are the positions in `KINDS` of those whose ages are inputs. `wide` and the two shares of dropout are as in
    `Architecture`.
    """

    slope: Tensor
    intercept: Tensor
    kinds: Tensor

    def __init__(
        self,
        readout_width: int,
        kinds: list[int],
        hidden: int,
        dropout: float,
        intervals: int,
        *,
        wide: bool = False,
        readout_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("kinds", torch.tensor(kinds), persistent=False)
        width = readout_width + AGE_FEATURES * len(kinds)
        self.hidden = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.logits_ = nn.Linear(hidden, intervals)
        self.wide = nn.Linear(width, intervals, bias=False) if wide else None
        if self.wide is not None:
            nn.init.zeros_(self.wide.weight)
        self.readout_dropout = nn.Dropout(readout_dropout)
        self.register_buffer("slope", torch.ones(intervals))
        self.register_buffer("intercept", torch.zeros(intervals))

    def inputs(self, readout: Tensor, ages: Tensor) -> Tensor:
        """What the hidden layer takes, from readouts `[n, R]` and ages `[n, kinds]`."""
        return torch.cat([readout, *age_features(ages.index_select(1, self.kinds))], 1)

    def logits(self, readout: Tensor, ages: Tensor) -> Tensor:
        """Calibrated hazard logits `[n, intervals]`."""
        inputs = self.inputs(self.readout_dropout(readout), ages)
        raw: Tensor = self.logits_(self.dropout(torch.relu(self.hidden(inputs))))
        if self.wide is not None:
            raw = raw + self.wide(inputs)
        return torch.clamp(raw * self.slope + self.intercept, -LONGEST_LOGIT, LONGEST_LOGIT)


def age_features(ages: Tensor) -> list[Tensor]:
    """Features of ages in days `[n, k]`, each `[n, k]`: age / 90, and age / (age + half) for two halves.

    Quotients, because every runtime rounds them alike. The age of a kind without events (-1) differs from every age.
    """
    told = torch.clamp(ages, max=LONGEST_AGE_DAYS)
    return [told / LONGEST_AGE_DAYS, *(told / (told + half) for half in HALF_AGES_DAYS)]


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
        self.repayments, self.transactions, self.activity, self.profiles = (
            self._build(kind, vocabulary_sizes[kind]) for kind in KINDS
        )
        width = sum(self.encoder(kind).readout_width for kind in KINDS)
        read = [number for number, kind in enumerate(KINDS) if self.encoder(kind).readout_width]
        intervals = len(architecture.horizons_days)
        self.fusion = Fusion(
            width,
            read,
            architecture.fusion,
            architecture.dropout,
            intervals,
            wide=architecture.wide,
            readout_dropout=architecture.readout_dropout,
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
