"""Hazard: the probability of onset that a latent state implies, by living many futures from it. For reports and tests
about the best that a model could do; never an input.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.datasets.simulator import life
from model.datasets.simulator.life import NEVER, Calendar, State
from model.datasets.simulator.portfolio import Traits

FUTURES = 200
"""Futures per borrower: a probability p comes with a standard error of sqrt(p (1 - p) / FUTURES), at most 0.035."""

NO_ONSET, NOT_AT_RISK = -1, -2


def onset_offsets(
    traits: Traits, state: State, first_day: int, weeks: int, rng: np.random.Generator, futures: int = FUTURES
) -> NDArray[np.int16]:
    """Days from `first_day` to the onset in each future of each borrower, int16 `[n, futures]`.

    `NO_ONSET` where none comes within `weeks`; `NOT_AT_RISK` for a borrower who is not active or has had the onset.
    """
    offsets = np.full((len(state.stress), futures), NOT_AT_RISK, dtype=np.int16)
    at_risk = np.flatnonzero(state.active & (state.onset_day == NEVER))
    rows = np.repeat(at_risk, futures)
    future_traits, future = traits.take(rows), state.take(rows)
    for week in range(weeks):
        future = life.step(future_traits, future, rng, Calendar.of_week(first_day + 7 * week)).state
    days = np.where(future.onset_day == NEVER, NO_ONSET, future.onset_day - first_day)
    offsets[at_risk] = days.reshape(-1, futures)
    return offsets


def onset_share(offsets: NDArray[np.int16], from_day: int, horizon_days: int) -> float:
    """Share of one borrower's futures `[futures]` with the onset in `[from_day, from_day + horizon_days)`.

    Futures with an earlier onset do not count, since it is known not to have come; NaN when none are left.
    """
    possible = (offsets == NO_ONSET) | (offsets >= from_day)
    hits = (offsets >= from_day) & (offsets < from_day + horizon_days)
    return float(hits.sum() / possible.sum()) if possible.any() else float("nan")
