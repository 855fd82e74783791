"""Padded tensors of users' histories, as `model.networks.risk_model` takes them. Padding is at the end, where no event
depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from events.types import KINDS, Kind
from model.histories.sequences import Sequences

MOST_EVENTS = 40_000
"""Padded events per batch that keep a training step of the default network below about 1 GB."""


@dataclass(frozen=True)
class Batch:
    """Histories of B users, and those of their events that are to be scored.

    `numeric[k]` float `[B, T_k, inputs]`, `categorical[k]` int64 `[B, T_k, categories]`, `latest` int64
    `[events, 1 + kinds]` as `RiskModel.readouts` takes it, `ages` float `[events, kinds]` in days, `rows` int64
    `[events]`: where those events stand in the merged arrays of the sequences.
    """

    numeric: dict[Kind, Tensor]
    categorical: dict[Kind, Tensor]
    latest: Tensor
    ages: Tensor
    rows: NDArray[np.int64]

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on a device."""
        if device.type == "cpu":
            return self
        return Batch(
            {kind: values.to(device) for kind, values in self.numeric.items()},
            {kind: codes.to(device) for kind, codes in self.categorical.items()},
            self.latest.to(device),
            self.ages.to(device),
            self.rows,
        )


def pad(
    sequences: Sequences,
    users: NDArray[np.int64],
    counts: NDArray[np.int64],
    skip: NDArray[np.int64] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Batch:
    """The first `counts[i]` events of each of `users`; all but the first `skip[i]` of them are to be scored."""
    skipped = np.zeros_like(counts) if skip is None else np.minimum(skip, counts)
    starts = sequences.merged_starts[users]
    last = np.maximum(starts + counts - 1, 0)
    numeric, categorical = {}, {}
    for position, kind in enumerate(KINDS):
        lengths = np.where(counts > 0, sequences.latest[last, position], 0)
        numeric[kind], categorical[kind] = _pad_kind(sequences, kind, sequences.starts[kind][users], lengths, dtype)
    scored = counts - skipped
    within = np.arange(int(scored.sum())) - np.repeat(np.cumsum(scored) - scored, scored)
    rows = np.repeat(starts + skipped, scored) + within
    owner = np.repeat(np.arange(len(users)), scored)
    latest = np.concatenate([owner[:, None], sequences.latest[rows]], axis=1)
    ages = torch.from_numpy(sequences.ages_days[rows]).to(dtype)
    return Batch(numeric, categorical, torch.from_numpy(latest), ages, rows)


def _pad_kind(
    sequences: Sequences, kind: Kind, begin: NDArray[np.int64], lengths: NDArray[np.int64], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    steps = np.arange(max(1, int(lengths.max(initial=0))))
    present = steps < lengths[:, None]
    rows = (begin[:, None] + steps)[present]
    values, codes = sequences.numeric[kind], sequences.categorical[kind]
    numeric = np.zeros((*present.shape, values.shape[1]), dtype=np.float32)
    categorical = np.zeros((*present.shape, codes.shape[1]), dtype=np.int64)
    numeric[present] = values[rows]
    categorical[present] = codes[rows]
    return torch.from_numpy(numeric).to(dtype), torch.from_numpy(categorical)


def by_length(
    counts: NDArray[np.int64],
    batch_users: int,
    random: np.random.Generator | None = None,
    most_events: int = MOST_EVENTS,
) -> Iterator[NDArray[np.int64]]:
    """Positions into `counts` in batches of similar length, so that little of a batch is padding.

    A batch has at most `batch_users` users and, padded, about `most_events` events, or one user. With `random`, lengths
    are varied by up to a tenth and batches are in random order, so that epochs have different batches.
    """
    lengths = counts.astype(np.float64)
    if random is not None:
        lengths = lengths * random.uniform(0.9, 1.1, len(counts))
    order = np.argsort(lengths, kind="stable")
    order = order[counts[order] > 0]
    ends, size = [], 0
    for position, length in enumerate(counts[order]):
        if size and (size == batch_users or (size + 1) * length > most_events):
            ends.append(position)
            size = 0
        size += 1
    batches = np.split(order, ends)
    for index in random.permutation(len(batches)) if random is not None else range(len(batches)):
        if len(batches[index]):
            yield batches[index]
