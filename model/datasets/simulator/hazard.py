"""Hazard: the probability of default given a latent state, by simulating many futures from it. For reports and tests on
the best that a model could reach; never an input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.datasets.simulator import economy, life
from model.datasets.simulator import state as states
from model.datasets.simulator.calendar import Calendar
from model.datasets.simulator.columns import Floats, Ints
from model.datasets.simulator.portfolio import Traits
from model.datasets.simulator.state import NEVER, Draws, State, Week

FUTURES = 200
"""Futures per borrower: a probability p comes with a standard error of sqrt(p (1 - p) / FUTURES), at most 0.035."""

_ALWAYS_KNOWN = [states.TO_REGIME, states.TO_EPISODE]
_SETTLED_AT_ONCE = [states.TO_RELIEF, states.TO_OPEN]
_OF_PAYMENT = [states.TO_CATCH_UP, states.TO_PAY_DAY, states.TO_COUNT, states.TO_PART, states.TO_EXTRA]


class Chances:
    """Random draws for the futures of borrowers at moments, each from a stream of its own, so that a hazard does not
    depend on the others that are computed with it."""

    def __init__(self, seeds: Sequence[tuple[int, ...]], futures: int = FUTURES) -> None:
        self._streams = [np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed))) for seed in seeds]
        self.futures = futures

    def draws(self) -> Draws:
        """A week's draws for `n × futures`, borrower by borrower."""
        each = [Draws.of(stream, self.futures) for stream in self._streams]
        return Draws(*(np.concatenate(values, axis=-1) for values in zip(*each, strict=True)))

    def strains(self, strain: Floats) -> Floats:
        """Next week's strain of every future, `[n × futures]`: each has an economy of its own."""
        uniform = np.concatenate([stream.random(self.futures) for stream in self._streams])
        normal = np.concatenate([stream.standard_normal(self.futures) for stream in self._streams])
        return economy.next_strain(strain, uniform, normal)


def defaulted_shares(
    traits: Traits, state: State, week: Week, strain: float, days: Ints, horizon_days: int, chances: Chances
) -> Floats:
    """Share of futures with default within `horizon_days` of a day of the week (`days`, 0 to 6), `[n]`.

    `state` is before the week, `week` is what happened in it, `strain` the economy's in it. Futures share with it
    what was settled by the end of the day: the regime, the stress, a bill and the intention to pay it, a payment. NaN
    for a borrower who is not active or defaulted before that day.
    """
    first_day = week.calendar.first_day
    weeks = -(-(horizon_days + 6) // 7)
    rows = np.repeat(np.arange(len(days)), chances.futures)
    future_traits, future, when = traits.take(rows), state.take(rows), days[rows]
    draws = _given(traits, week, days, rows, chances.draws())
    strains = np.full(len(rows), strain)
    for number in range(weeks):
        future = life.step(future_traits, future, draws, Calendar.of_week(first_day + 7 * number), strains).state
        draws, strains = chances.draws(), chances.strains(strains)
    offset = np.where(future.defaulted_day == NEVER, horizon_days + 7 * weeks, future.defaulted_day - first_day)
    hits = ((offset >= when) & (offset < when + horizon_days)).reshape(-1, chances.futures).mean(axis=1)
    earlier = (week.state.defaulted_day != NEVER) & (week.state.defaulted_day < first_day + days)
    return np.where(state.active & ~earlier, hits, np.nan)


def _given(traits: Traits, week: Week, days: Ints, rows: Ints, fresh: Draws) -> Draws:
    """The first week's draws: what really came as far as it was settled by the end of the day, new ones for the rest.

    Where no payment had come, the new ones are drawn given that none had: with a payment in the week at a rate r, on
    any of its days alike, and a share q of the week gone, the rate for the rest is r (1 - q) / (1 - r q).
    """
    actual, of_contract = week.draws, fresh.of_contract
    fresh.uniform[_ALWAYS_KNOWN] = actual.uniform[_ALWAYS_KNOWN][:, rows]
    fresh.normal[:] = actual.normal[:, rows]
    of_contract[_SETTLED_AT_ONCE] = actual.of_contract[_SETTLED_AT_ONCE][..., rows]
    billed = (week.calendar.offset_of_dom[traits.terms.bill_dom] <= days)[..., rows]
    bill = states.TO_BILL
    of_contract[bill] = np.where(billed, actual.of_contract[bill][:, rows], of_contract[bill])
    fresh.delay[:] = np.where(billed, actual.delay[:, rows], fresh.delay)

    gone = ((days + 1) / 7)[rows]
    rate = week.catch_up_rate[:, rows]
    left = (1 - gone) / (1 - np.minimum(rate * gone, 1 - 1e-9))
    catch_up, pay_day = states.TO_CATCH_UP, states.TO_PAY_DAY
    of_contract[catch_up] = np.where(left > 0, of_contract[catch_up] / np.maximum(left, 1e-9), 1.0)
    of_contract[pay_day] = gone + (1 - gone) * of_contract[pay_day]
    paid = ((week.pay_offset >= 0) & (week.pay_offset <= days))[:, rows]
    of_contract[_OF_PAYMENT] = np.where(paid, actual.of_contract[_OF_PAYMENT][..., rows], of_contract[_OF_PAYMENT])
    return fresh
