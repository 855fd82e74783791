"""Belief: how much of the true hazard events can tell at all. A particle filter follows each borrower's regime, stress,
look-alike and hidden dispositions from what shows week by week, and lives futures from what it believes.

It is a bound from above on what a model can reach, but for the noise of finitely many particles: it knows the process
and its parameters, the economy, and the borrower's habits (how they spend, pay and use their line in ordinary times),
which a model has to learn; and it sees payments on their day and the use of the line without gaps. It does not know the
regime, the stress, the frailty beyond what the profile tells, how deep a decline goes, how much of it shows, or the
constant style that looks like stress. For reports only, never an input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.datasets.simulator import BLOCK_USERS, BURN_IN_WEEKS, DAY_MS, Simulator, economy, life
from model.datasets.simulator.evidence import Known, Seen, account_likelihood, behaviour_log_likelihood, seen_in
from model.datasets.simulator.life import DELINQUENCY_DAYS, NEVER, Calendar, Draws, Mind, State, Week
from model.datasets.simulator.portfolio import Flags, Floats, Ints, Traits, draw_traits, log_frailty_given_profile

PARTICLES = 400
FUTURES = 200
_STREAM = 7
_MISFIT = -6.0
"""What a particle loses whose arrears at the start of the period are not the borrower's."""
_JITTER = 0.05
_EAGER = 4.0


class Attainable(NamedTuple):
    """Probabilities of onset, float64 `[n]`: from what was seen before the week of the moment, and from what was seen
    by its end. What events up to the moment tell lies between."""

    before_week: Floats
    after_week: Floats


def attainable_hazards(
    simulator: Simulator,
    user_ids: Sequence[str],
    times_ms: NDArray[np.int64],
    horizon_days: int = 90,
    particles: int = PARTICLES,
    progress: Callable[[float], None] | None = None,
) -> Attainable:
    """Probability of onset within `horizon_days` of the days of `times_ms` (`[n]`), as events can tell it.

    NaN where `Simulator.true_hazards` is. Takes about 0.1 s for each user and year of the portfolio; `progress` is
    called with the share done, up to 1.
    """
    numbers = np.array([int(user_id[1:]) for user_id in user_ids], dtype=np.int64)
    days = np.asarray(times_ms, dtype=np.int64) // DAY_MS - simulator.first_day
    result = Attainable(np.full(len(numbers), np.nan), np.full(len(numbers), np.nan))
    blocks = np.unique(numbers // BLOCK_USERS).tolist()
    for done, block in enumerate(blocks):
        asked = np.flatnonzero(numbers // BLOCK_USERS == block)
        _follow(simulator, block, numbers[asked] % BLOCK_USERS, days[asked], horizon_days, particles, asked, result)
        if progress is not None:
            progress((done + 1) / len(blocks))
    return result


def _follow(
    simulator: Simulator,
    block: int,
    of_row: Ints,
    days: Ints,
    horizon_days: int,
    particles: int,
    places: Ints,
    result: Attainable,
) -> None:
    """Follow a block's asked borrowers to the last day asked, and write what is believed into `result` at `places`."""
    rows, user = np.unique(of_row, return_inverse=True)
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((simulator.seed, block, _STREAM))))
    belief = Belief(simulator.traits_of(block).take(rows), particles, rng)
    belief.burn_in([(simulator.calendar(n), simulator.strain_in(n)) for n in range(-BURN_IN_WEEKS, 0)])
    used = None
    for number, (before, week, surface, drafts) in enumerate(simulator.drafts_of(block)):
        if number > days.max() // 7:
            return
        state, now, strain = before.take(rows), week.take(rows), simulator.strain_in(number)
        seen = seen_in(drafts, surface, rows, used)
        used = surface.utilisation[rows].copy()
        belief.begin(state, now.calendar)
        asked = np.flatnonzero(days // 7 == number)
        if len(asked):
            who, day = user[asked], days[asked] % 7
            at_risk = state.active[who] & (state.onset_day[who] == NEVER)
            onset = np.where(now.state.onset_day == NEVER, np.iinfo(np.int64).max, now.state.onset_day)[who]
            at_risk &= onset >= now.calendar.first_day + day
            these, which = np.unique(who, return_inverse=True)
            ahead = belief.onset_days(these, state, now.calendar.first_day, strain, horizon_days)
            believed = _share(ahead[which], day, horizon_days)
            result.before_week[places[asked]] = np.where(at_risk, believed, np.nan)
        belief.weigh(state, now, seen, strain)
        if len(asked):
            ahead = belief.onset_days(these, now.state, now.calendar.first_day + 7, strain, horizon_days)
            believed = _share(ahead[which], day - 7, horizon_days)
            believed = np.where(onset < now.calendar.first_day + 7, 1.0, np.where(now.state.active[who], believed, 0.0))
            result.after_week[places[asked]] = np.where(at_risk, believed, np.nan)


def _share(ahead: Ints, from_day: Ints, horizon_days: int) -> Floats:
    """Share of futures `[n, futures]`, in days to the onset, with it in the horizon, given none before it begins."""
    start = from_day[:, None]
    hits = ((ahead >= start) & (ahead < start + horizon_days)).sum(axis=1)
    share: Floats = hits / np.maximum((ahead >= start).sum(axis=1), 1)
    return share


class Belief:
    """Weighted guesses at the latent side of `n` borrowers, `particles` of each, row by row."""

    def __init__(self, traits: Traits, particles: int, rng: np.random.Generator) -> None:
        self._users, self._particles, self._rng = len(traits.income), particles, rng
        self._habits = traits
        self._rows = np.repeat(np.arange(self._users), particles)
        count = len(self._rows)
        guess = draw_traits(rng, count)
        mean, spread = log_frailty_given_profile(traits)
        told = np.exp(mean[self._rows] + spread[self._rows] * rng.standard_normal(count))
        self._traits = replace(
            traits.take(self._rows),
            frailty=np.where(traits.has_profile[self._rows], told, guess.frailty),
            severity=guess.severity,
            visibility=guess.visibility,
            style=guess.style,
        )
        self._mind = life.fresh_state(self._traits)
        self._known = Known.nothing(self._users, count)
        self._log_weight = np.zeros((self._users, particles))
        self._present = np.zeros(self._users, dtype=np.bool_)
        self._started = False

    def burn_in(self, weeks: Sequence[tuple[Calendar, Floats]]) -> None:
        """Live the weeks before the period, so that the first guesses are those of a portfolio on its way."""
        fresh = state = self._mind
        for calendar, strain in weeks:
            state = life.step(self._traits, state, self._draws(), calendar, strain).state
        lost = (state.onset_day != NEVER) | (state.ended_day != NEVER)
        self._mind = life.replaced(state, fresh, lost, np.ones_like(lost))

    def begin(self, before: State, calendar: Calendar) -> None:
        """Meet those who are new this week: the first time with the arrears they bring, later without a past."""
        new = before.active & ~self._present
        self._present |= new
        if not new.any():
            return
        if self._started:
            fresh = life.fresh_state(self._traits)
            rows = new[self._rows]
            self._mind = life.replaced(self._mind, fresh, rows, self._mind.active)
            self._known.forget(new, rows)
        else:
            misfit = np.minimum(before.unpaid, 3)[self._rows] != np.minimum(self._mind.unpaid, 3)
            self._log_weight = np.where(misfit, _MISFIT, 0.0).reshape(self._users, -1)
            self._known.take_up(before, calendar, self._habits, self._mind)
        self._started = True

    def weigh(self, before: State, week: Week, seen: Seen, strain: Floats) -> None:
        """Move the guesses on by a week and weigh them by what was seen in it."""
        state = self._latent(before)
        mind, log_proposal = self._eager_mind(state, week.calendar, strain)
        likelihood = account_likelihood(self._traits, self._habits, before, week, mind.stress, self._known, strain)
        log_likelihood = behaviour_log_likelihood(self._traits, before, week, mind, seen, self._rows)
        log_likelihood += np.log(np.maximum(likelihood, 1e-12)) + log_proposal
        active = before.active[self._rows]
        self._log_weight += np.where(active, log_likelihood, 0.0).reshape(self._users, -1)
        self._log_weight -= self._log_weight.max(axis=1, keepdims=True)
        self._mind = replace(
            state,
            regime=mind.regime,
            stress=mind.stress,
            story=mind.story,
            episode=mind.episode,
            episode_weeks=mind.episode_weeks,
        )
        self._resample()

    def onset_days(self, these: Ints, state: State, first_day: int, strain: Floats, horizon_days: int) -> Ints:
        """Days from `first_day` to the onset in futures of these borrowers, `[n, FUTURES]`; far off if none comes.

        The accounts are those of `state` (of all borrowers), which show; the rest is drawn from what is believed.
        """
        chosen = self._sample(FUTURES).reshape(self._users, FUTURES)[these].ravel()
        users = np.repeat(these, FUTURES)
        traits, mind = self._traits.take(chosen), self._mind.take(chosen)
        future = replace(
            state.take(users),
            regime=mind.regime,
            stress=mind.stress,
            story=mind.story,
            episode=mind.episode,
            episode_weeks=mind.episode_weeks,
            pay_day=self._known.pay_days(traits, users, chosen, first_day, self._rng),
            reversal=np.zeros(len(users), dtype=np.bool_),
        )
        weeks = -(-(horizon_days + 6) // 7)
        strains = np.full(len(users), strain[0])
        for number in range(weeks):
            if number:
                strains = economy.next_strain(strains, self._rng.random(len(users)), self._normal(len(users)))
            draws = Draws.of(self._rng, len(users))
            future = life.step(traits, future, draws, Calendar.of_week(first_day + 7 * number), strains).state
        days = np.where(
            future.onset_day == NEVER, horizon_days + 7 * weeks + DELINQUENCY_DAYS, future.onset_day - first_day
        )
        return days.reshape(len(these), FUTURES)

    def _normal(self, count: int) -> Floats:
        return self._rng.standard_normal(count)

    def _draws(self) -> Draws:
        return Draws.of(self._rng, len(self._rows))

    def _eager_mind(self, state: State, calendar: Calendar, strain: Floats) -> tuple[Mind, Floats]:
        """Next week's minds, in which declines and look-alikes begin `_EAGER` times as often as they do, and the
        logarithm of the weights that make up for it: a few hundred particles would hardly ever try the rare ones."""
        count = len(self._rows)
        draws = Draws(np.zeros((life.UNIFORM_DRAWS, count)), np.zeros((life.NORMAL_DRAWS, count)))
        stable, calm = state.regime == life.STABLE, state.episode == 0
        draws.uniform[life.TO_REGIME] = self._rng.random(count) / np.where(stable, _EAGER, 1.0)
        draws.uniform[life.TO_EPISODE] = self._rng.random(count) / np.where(calm, _EAGER, 1.0)
        draws.normal[life.TO_STRESS] = self._normal(count)
        mind = life.next_mind(self._traits, state, draws, calendar, strain)
        leaving = np.minimum(life.leaving_rates(self._traits, state, strain).sum(axis=1), 0.9 / _EAGER)
        stays = np.log1p(-leaving) - np.log1p(-_EAGER * leaving)
        weight = np.where(stable, np.where(mind.regime != life.STABLE, -np.log(_EAGER), stays), 0.0)
        rate = life.episode_rate()
        waits = np.log1p(-rate) - np.log1p(-_EAGER * rate)
        return mind, weight + np.where(calm, np.where(mind.episode != 0, -np.log(_EAGER), waits), 0.0)

    def _latent(self, before: State) -> State:
        """The guesses with the accounts that show."""
        mind = self._mind
        return replace(
            before.take(self._rows),
            regime=mind.regime,
            stress=mind.stress,
            story=mind.story,
            episode=mind.episode,
            episode_weeks=mind.episode_weeks,
        )

    def _weights(self) -> Floats:
        weight = np.exp(self._log_weight - self._log_weight.max(axis=1, keepdims=True))
        normalised: Floats = weight / weight.sum(axis=1, keepdims=True)
        return normalised

    def _sample(self, count: int) -> Ints:
        """Rows of so many particles of each borrower, by weight, spread evenly (systematic resampling)."""
        edges = self._weights().cumsum(axis=1)
        edges /= edges[:, -1:]
        at = (np.arange(count) + self._rng.random((self._users, 1))) / count
        offset = np.arange(self._users)[:, None]
        rows = np.searchsorted((edges + offset).ravel(), (at + offset).ravel(), side="left")
        return np.clip(rows, np.repeat(offset.ravel(), count) * self._particles, None).astype(np.int64)

    def _resample(self) -> None:
        """Take particles anew where few of them carry the weight, and stir what is fixed about them a little."""
        worn = 1 / (self._weights() ** 2).sum(axis=1) < self._particles / 2
        if not worn.any():
            return
        stirred: Flags = worn[self._rows]
        chosen = np.where(stirred, self._sample(self._particles), np.arange(len(self._rows)))
        traits = self._traits.take(chosen)
        noise = _JITTER * self._rng.standard_normal((3, len(chosen))) * stirred
        shows = traits.visibility > 0
        self._traits = replace(
            traits,
            severity=np.clip(traits.severity * np.exp(noise[0]), 0.35, 2.2),
            visibility=np.where(shows, np.clip(traits.visibility + 0.5 * noise[1], 0.3, 1.3), 0.0),
            style=traits.style + noise[2],
        )
        self._mind = self._mind.take(chosen)
        self._known.rearrange(chosen)
        self._log_weight[worn] = 0.0
