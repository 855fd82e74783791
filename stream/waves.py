"""Waves: a batch cut so that each wave holds at most one event of a user, in the user's order.

A wave is one vectorised call of the model; one wave after the other keeps each user's events in order. Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def wave_numbers(user: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many earlier events of the same user the batch holds, int64 `[n]`, for events in order."""
    order = np.argsort(user, kind="stable")
    in_order = user[order]
    starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]]) if len(user) else np.empty(0, dtype=np.int64)
    lengths = np.diff(np.r_[starts, len(user)])
    numbers = np.empty(len(user), dtype=np.int64)
    numbers[order] = np.arange(len(user)) - np.repeat(starts, lengths)
    return numbers


def waves(numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Positions of the events of each wave, ascending, first wave first."""
    order = np.argsort(numbers, kind="stable")
    bounds = np.flatnonzero(np.diff(numbers[order])) + 1
    return list(np.split(order, bounds)) if len(numbers) else []
