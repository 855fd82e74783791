"""Splits events into training, validation and test parts. No event is an example in two of them.

By time: train before T1, validate from T1 to T2, test after T2 on clients that no other part has. Each part's outcomes
end with the part (the embargo), so no label of an earlier part uses time of a later one. By client: held-out clients
are the test part, a share of the others the validation part.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from model.datasets.dataset import Dataset
from model.histories.labels import NEVER_MS, Truth, known_by
from model.histories.sequences import Sequences

TRAIN_UNTIL = 0.5
VALIDATE_UNTIL = 0.72
"""T1 and T2 as shares of the time between the first and the last event."""
VALIDATION_SHARE = 0.15
"""Share of the clients that are not held out, where the split is by client."""
SPLIT_BY_TIME = frozenset({"simulator"})
"""Sources with long, overlapping histories. The real sources are cohorts that were observed once."""


@dataclass(frozen=True)
class Part:
    """Events of some users: the first `counts[i]` of each of `users`, without the first `skips[i]` of them.

    The model reads the skipped events as history; only the others are examples. `truth` is of all users of the
    sequences, as it was known when the part ended.
    """

    users: NDArray[np.int64]
    counts: NDArray[np.int64]
    skips: NDArray[np.int64]
    truth: Truth


@dataclass(frozen=True)
class Split:
    """The three parts; `by` says how they were made, `from_ms` and `until_ms` are T1 and T2 (0 and `NEVER_MS` by
    client)."""

    by: str
    train: Part
    validation: Part
    test: Part
    from_ms: int
    until_ms: int


@runtime_checkable
class ChoosesSplit(Protocol):
    """A data set that says itself how it is to be split."""

    @property
    def split_by(self) -> Literal["client", "time"]:
        """By time suits long, overlapping histories; by client suits cohorts that were observed once."""
        ...


def split(sequences: Sequences, dataset: Dataset, truth: Truth) -> Split:
    """Split a source the way that suits it."""
    held_out = np.array([dataset.held_out(user_id) for user_id in sequences.user_ids], dtype=bool)
    chosen = dataset.split_by if isinstance(dataset, ChoosesSplit) else "client"
    if dataset.name in SPLIT_BY_TIME or chosen == "time":
        return split_by_time(sequences, held_out, truth)
    return split_by_client(sequences, held_out, truth)


def split_by_time(sequences: Sequences, held_out: NDArray[np.bool_], truth: Truth) -> Split:
    """Train before T1, validate until T2, both on clients that are not held out; test after T2 on those that are."""
    first, last = int(sequences.times_ms.min()), int(sequences.times_ms.max())
    from_ms = first + int((last - first) * TRAIN_UNTIL)
    until_ms = first + int((last - first) * VALIDATE_UNTIL)
    before, between = sequences.events_before(from_ms), sequences.events_before(until_ms)
    everything = np.diff(sequences.merged_starts)
    known, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return Split(
        by="time",
        train=Part(known, before[known], np.zeros(len(known), np.int64), known_by(truth, from_ms)),
        validation=Part(known, between[known], before[known], known_by(truth, until_ms)),
        test=Part(test, everything[test], between[test], truth),
        from_ms=from_ms,
        until_ms=until_ms,
    )


def split_by_client(sequences: Sequences, held_out: NDArray[np.bool_], truth: Truth) -> Split:
    """Test on held-out clients; of the others a share, fixed per client id, validates and the rest trains."""
    validates = np.array([_validates(user_id) for user_id in sequences.user_ids], dtype=bool)
    counts = np.diff(sequences.merged_starts)

    def part(chosen: NDArray[np.bool_]) -> Part:
        users = np.flatnonzero(chosen)
        return Part(users, counts[users], np.zeros(len(users), np.int64), truth)

    return Split(
        by="client",
        train=part(~held_out & ~validates),
        validation=part(~held_out & validates),
        test=part(held_out),
        from_ms=0,
        until_ms=NEVER_MS,
    )


def _validates(user_id: str) -> bool:
    digest = hashlib.sha256(b"foreshock validation split\x1f" + user_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") < VALIDATION_SHARE * 2**64
