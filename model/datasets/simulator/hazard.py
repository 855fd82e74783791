"""Hazard: the probability of onset that a latent state implies, by living many futures from it. For reports and tests
about the best that a model could do; never an input.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.datasets.simulator import economy, life
from model.datasets.simulator.life import NEVER, Calendar, State
from model.datasets.simulator.portfolio import Floats, Ints, Traits

FUTURES = 200
"""Futures per borrower: a probability p comes with a standard error of sqrt(p (1 - p) / FUTURES), at most 0.035."""

NO_ONSET, NOT_AT_RISK = -1, -2


def onset_offsets(
    traits: Traits,
    state: State,
    first_day: int,
    weeks: int,
    strain: float,
    rng: np.random.Generator,
    futures: int = FUTURES,
) -> NDArray[np.int16]:
    """Days from `first_day` to the onset in each future of each borrower, int16 `[n, futures]`.

    `strain` is the economy's in the week before; every future has an economy of its own. `NO_ONSET` where none comes
    within `weeks`; `NOT_AT_RISK` for a borrower who is not active or has had the onset.
    """
    offsets = np.full((len(state.stress), futures), NOT_AT_RISK, dtype=np.int16)
    at_risk = np.flatnonzero(state.active & (state.onset_day == NEVER))
    rows = np.repeat(at_risk, futures)
    future_traits, future = traits.take(rows), state.take(rows)
    strains = np.full(len(rows), strain)
    for week in range(weeks):
        strains = economy.next_strain(strains, rng.random(len(rows)), rng.standard_normal(len(rows)))
        future = life.step(future_traits, future, rng, Calendar.of_week(first_day + 7 * week), strains).state
    days = np.where(future.onset_day == NEVER, NO_ONSET, future.onset_day - first_day)
    offsets[at_risk] = days.reshape(-1, futures)
    return offsets


def onset_shares(offsets: NDArray[np.int16], from_days: Ints, horizon_days: int) -> Floats:
    """Share of the futures `[n, futures]` with the onset in `[from_day, from_day + horizon_days)`, per row `[n]`.

    Futures with an earlier onset do not count, since it is known not to have come; NaN when none are left.
    """
    start = from_days[:, None]
    possible = ((offsets == NO_ONSET) | (offsets >= start)).sum(axis=1)
    hits = ((offsets >= start) & (offsets < start + horizon_days)).sum(axis=1)
    return np.where(possible > 0, hits / np.maximum(possible, 1), np.nan)
