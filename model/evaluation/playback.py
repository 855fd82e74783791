"""Scores whole histories with a bundle's step graphs, as serving would, without a broker.

Needs only ONNX Runtime, not torch, so that evaluation measures what is served.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from events.types import KINDS, Kind
from model.bundle import Bundle
from model.histories.sequences import Sequences, chunks_of_users

EVENTS_PER_CHUNK = 100_000
ROWS_PER_SCORE = 4_096


def score_sequences(
    bundle: Bundle,
    sequences: Sequences,
    users: NDArray[np.int64] | None = None,
    advance: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Probabilities after each event, float32 `[events, horizons]`, in the order of the users given (default: all).

    `sequences` must be coded in the bundle's vocabularies. `advance` is told how many more events are done.
    """
    chosen = np.arange(sequences.users) if users is None else users
    scores = [np.zeros((0, len(bundle.horizons_days)), dtype=np.float32)]
    for chunk in chunks_of_users(sequences, chosen, EVENTS_PER_CHUNK):
        scores.append(_score_chunk(bundle, sequences, chunk))
        if advance is not None:
            advance(len(scores[-1]))
    return np.concatenate(scores)


def merged_rows(sequences: Sequences, users: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the merged arrays that belong to `users`, user after user."""
    starts, ends = sequences.merged_starts[users], sequences.merged_starts[users + 1]
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(a, b) for a, b in zip(starts, ends, strict=True))])


def _score_chunk(bundle: Bundle, sequences: Sequences, users: NDArray[np.int64]) -> NDArray[np.float32]:
    rows = merged_rows(sequences, users)
    owner = np.repeat(np.arange(len(users)), np.diff(sequences.merged_starts)[users])
    parts: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
    for position, kind in enumerate(KINDS):
        readouts, begin = _readouts(bundle, sequences, users, kind)
        arrived = sequences.latest[rows, position]
        parts.append((readouts, np.where(arrived > 0, begin[owner] + arrived, 0)))
    scores = np.empty((len(rows), len(bundle.horizons_days)), dtype=np.float32)
    for start in range(0, len(rows), ROWS_PER_SCORE):
        piece = slice(start, start + ROWS_PER_SCORE)
        readout = np.concatenate([readouts[index[piece]] for readouts, index in parts], axis=1)
        scores[piece] = bundle.score(readout, sequences.ages_days[rows[piece]])
    return scores


def _readouts(
    bundle: Bundle, sequences: Sequences, users: NDArray[np.int64], kind: Kind
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Readouts after every event of a kind, after a first row of zeros, and the row at which each user's begin."""
    counts = np.diff(sequences.starts[kind])[users]
    begin = np.cumsum(counts) - counts
    part = bundle.state_slices[kind]
    width = bundle.readout_widths[kind]
    readouts = np.zeros((int(counts.sum()) + 1, width), dtype=np.float32)
    # Users in falling order of length, so that those who still have an event are always the first rows.
    order = np.argsort(-counts, kind="stable")
    falling = counts[order]
    first_row = sequences.starts[kind][users[order]]
    state = np.zeros((len(users), part.stop - part.start), dtype=np.float32)
    for step in range(int(falling[0]) if len(falling) else 0):
        active = int(np.searchsorted(-falling, -step, side="left"))
        rows = first_row[:active] + step
        numeric, categorical = sequences.numeric[kind][rows], sequences.categorical[kind][rows]
        state[:active], _ = bundle.step(kind, numeric, categorical, state[:active])
        readouts[begin[order[:active]] + step + 1] = state[:active, :width]
    return readouts, begin
