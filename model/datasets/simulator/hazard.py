"""Hazard: the probability of onset that a latent state implies, by living many futures from it. For reports and tests
about the best that a model could do; never an input.
"""

from __future__ import annotations

import numpy as np

from model.datasets.simulator import life
from model.datasets.simulator.life import NEVER, Calendar, State
from model.datasets.simulator.portfolio import Floats, Traits

FUTURES = 200
"""Futures per borrower: a probability p comes with a standard error of sqrt(p (1 - p) / FUTURES), at most 0.035."""


def onset_shares(
    traits: Traits, state: State, first_day: int, horizon_days: int, rng: np.random.Generator, futures: int = FUTURES
) -> Floats:
    """Share of futures with an onset in `[first_day, first_day + horizon_days)`, float64 `[n]`.

    NaN where the borrower is not active or has had the onset.
    """
    shares = np.full(len(state.stress), np.nan)
    at_risk = np.flatnonzero(state.active & (state.onset_day == NEVER))
    rows = np.repeat(at_risk, futures)
    future_traits, future = traits.take(rows), state.take(rows)
    for week in range(-(-horizon_days // 7)):
        future = life.step(future_traits, future, rng, Calendar.of_week(first_day + 7 * week)).state
    hits = (future.onset_day != NEVER) & (future.onset_day < first_day + horizon_days)
    shares[at_risk] = hits.reshape(-1, futures).mean(axis=1)
    return shares
