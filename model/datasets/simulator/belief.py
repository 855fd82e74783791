"""Belief: the hazard of each borrower given their events. A particle filter estimates regime, stress, look-alike and
hidden dispositions from each week's events, and simulates futures from the estimate.

Apart from the noise of finitely many particles, it bounds from above what a model can reach. It knows the process and
its parameters, the economy, and the borrower's habits (spending, paying and use of the line in ordinary times, the
order in which contracts are paid), which a model has to learn; and it sees payments on their day and the use of the
line without gaps. It does not know the regime, the stress, the month's cash, the frailty beyond the profile, the depth
and the visibility of a decline, or the constant style that looks like stress. For reports only, never an input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.datasets.simulator import BLOCK_USERS, BURN_IN_WEEKS, DAY_MS, Simulator, accounts, economy, life
from model.datasets.simulator import state as states
from model.datasets.simulator.accounts import DELAY_SPREAD_DAYS
from model.datasets.simulator.behaviour import line_is_open
from model.datasets.simulator.calendar import Calendar
from model.datasets.simulator.columns import Flags, Floats, Ints
from model.datasets.simulator.evidence import Known, Seen, account_likelihood, behaviour_log_likelihood, seen_in
from model.datasets.simulator.portfolio import Traits, draw_traits, log_frailty_given_profile
from model.datasets.simulator.state import NEVER, OPEN, Draws, Mind, State, Week

PARTICLES = 400
FUTURES = 200
_STREAM = 7
_MISFIT = -6.0
"""Log weight of a particle whose arrears at the start of the period are not the borrower's."""
_JITTER = 0.05
_EAGER = 4.0


def attainable_hazards(
    simulator: Simulator,
    user_ids: Sequence[str],
    times_ms: NDArray[np.int64],
    horizon_days: int = 90,
    particles: int = PARTICLES,
    progress: Callable[[float], None] | None = None,
) -> Floats:
    """Probability of default within `horizon_days` of the days of `times_ms`, given the events by the end of those
    days, float64 `[n]`.

    NaN where `Simulator.true_hazards` is. Takes about 0.15 s for each user and year of the portfolio. Equal arguments
    give equal results, but a borrower's result depends slightly on the other users, since all particles share one
    stream of random numbers. `progress` is called with the share done, up to 1.
    """
    numbers = np.array([int(user_id[1:]) for user_id in user_ids], dtype=np.int64)
    days = np.asarray(times_ms, dtype=np.int64) // DAY_MS - simulator.first_day
    result = np.full(len(numbers), np.nan)
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
    result: Floats,
) -> None:
    """Filter the borrowers of a block up to the last day needed, and write their hazards into `result` at `places`."""
    rows, user = np.unique(of_row, return_inverse=True)
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((simulator.seed, block, _STREAM))))
    traits = simulator.traits_of(block)
    belief = Belief(traits.take(rows), particles, rng)
    belief.burn_in([(simulator.calendar(n), simulator.strain_in(n)) for n in range(-BURN_IN_WEEKS, 0)])
    used = np.full(len(rows), np.nan)
    whole = np.full(len(rows), 6)
    for number, (before, week, surface, drafts) in enumerate(simulator.drafts_of(block)):
        if number > days.max() // 7:
            return
        state, now, strain = before.take(rows), week.take(rows), simulator.strain_in(number)
        line = line_is_open(traits, week)
        first_day = now.calendar.first_day
        belief.begin(state, now.calendar)
        belief.advance(state, now.calendar, strain)
        for day in range(7):
            asked = np.flatnonzero(days == 7 * number + day)
            defaulted_day = np.where(now.state.defaulted_day == NEVER, first_day + day, now.state.defaulted_day)
            at_risk = state.active & (state.defaulted_day == NEVER) & (defaulted_day >= first_day + day)
            asked = asked[at_risk[user[asked]]]
            if len(asked):
                these, which = np.unique(user[asked], return_inverse=True)
                seen = seen_in(drafts, surface, line, rows[these], used[these], first_day, np.full(len(these), day))
                ahead = belief.days_to_default(these, state, now, seen, strain, horizon_days)
                result[places[asked]] = _share(ahead, np.full(len(these), day), horizon_days)[which]
        belief.weigh(state, now, seen_in(drafts, surface, line, rows, used, first_day, whole), strain)
        used = surface.utilisation[rows].copy()


def _share(ahead: Ints, from_day: Ints, horizon_days: int) -> Floats:
    """Share of futures `[n, futures]`, in days to the default date, with it in the horizon, given none before it
    begins."""
    start = from_day[:, None]
    hits = ((ahead >= start) & (ahead < start + horizon_days)).sum(axis=1)
    share: Floats = hits / np.maximum((ahead >= start).sum(axis=1), 1)
    return share


class _Guess(NamedTuple):
    """Next week's mind of each particle, the random draws that led to it, and the logarithm of its weight."""

    mind: Mind
    draws: Draws
    log_proposal: Floats


def _sample(log_weight: Floats, count: int, rng: np.random.Generator) -> Ints:
    """Indices of `count` particles per borrower, drawn by weight `[n, particles]` with systematic resampling, `[n ×
    count]`."""
    users, particles = log_weight.shape
    edges = np.exp(log_weight - log_weight.max(axis=1, keepdims=True)).cumsum(axis=1)
    edges /= edges[:, -1:]
    at = (np.arange(count) + rng.random((users, 1))) / count
    offset = np.arange(users)[:, None]
    places = np.searchsorted((edges + offset).ravel(), (at + offset).ravel(), side="left")
    first = np.repeat(offset.ravel(), count) * particles
    return np.clip(places, first, first + particles - 1).astype(np.int64)


class Belief:
    """Weighted particles for the latent state of `n` borrowers, `particles` of each, row by row."""

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
        self._mind = states.fresh_state(self._traits)
        self._known = Known.nothing(self._users, count)
        self._log_weight = np.zeros((self._users, particles))
        self._present = np.zeros(self._users, dtype=np.bool_)
        self._started = False

    def burn_in(self, weeks: Sequence[tuple[Calendar, Floats]]) -> None:
        """Simulate the weeks before the period, so that the first particles are those of a running portfolio."""
        fresh = state = self._mind
        for calendar, strain in weeks:
            state = life.step(self._traits, state, self._draws(), calendar, strain).state
        lost = (state.defaulted_day != NEVER) | (state.ended_day != NEVER)
        self._mind = states.replaced(state, fresh, lost, np.ones_like(lost))

    def begin(self, before: State, calendar: Calendar) -> None:
        """Initialise borrowers who are new this week: in the first week with their arrears, later without a past."""
        new = before.active & ~self._present
        self._present |= new
        if not new.any():
            return
        if self._started:
            fresh = states.fresh_state(self._traits)
            rows = new[self._rows]
            self._mind = states.replaced(self._mind, fresh, rows, self._mind.active)
            self._known.forget(new, rows)
        else:
            owes, guessed = (
                np.where(state.phase == OPEN, np.minimum(state.unpaid, 3), 0) for state in (before, self._mind)
            )
            misfit = (owes[:, self._rows] != guessed).any(axis=0)
            self._log_weight = np.where(misfit, _MISFIT, 0.0).reshape(self._users, -1)
            self._known.take_up(before, calendar, self._habits, self._mind)
        self._started = True

    def advance(self, before: State, calendar: Calendar, strain: Floats) -> None:
        """Draw the week's minds; the events of the week weigh them later."""
        self._before = self._latent(before)
        self._next = self._eager_mind(self._before, calendar, strain)

    def weigh(self, before: State, week: Week, seen: Seen, strain: Floats) -> None:
        """Advance the particles by the week, given all that was seen in it."""
        everyone = np.arange(self._users)
        self._log_weight, self._known = self._given(everyone, self._rows_of(everyone), before, week, seen, strain)
        mind = self._next.mind
        self._mind = replace(
            self._before,
            regime=mind.regime,
            stress=mind.stress,
            cash=mind.cash,
            story=mind.story,
            episode=mind.episode,
            episode_weeks=mind.episode_weeks,
        )
        self._resample()

    def days_to_default(
        self, these: Ints, before: State, week: Week, seen: Seen, strain: Floats, horizon_days: int
    ) -> Ints:
        """Days from the week's first to the default date in futures of these borrowers, `[n, FUTURES]`, given what was
        seen by the end of `seen.days`; far off if none comes.

        The accounts are those of `before` and, until then, of `week`, which are visible; the rest is drawn from the
        particles.
        """
        rows = self._rows_of(these)
        state, now = before.take(these), week.take(these)
        log_weight, known = self._given(these, rows, state, now, seen, strain)
        sampled = _sample(log_weight, FUTURES, self._rng)
        chosen, users = rows[sampled], np.repeat(np.arange(len(these)), FUTURES)
        traits, mind = self._traits.take(chosen), self._before.take(chosen)
        first_day = week.calendar.first_day
        paid = (now.pay_offset >= 0) & (now.pay_offset <= seen.days)
        meant = known.pay_days(traits, users, sampled, first_day + seen.days[users] + 1, self._rng)
        was_open = self._known.due_day[:, these] != NEVER
        as_meant = np.where(was_open, first_day + now.pay_offset, NEVER)
        pay_day = np.where(paid[:, users], as_meant[:, users], meant)
        future = replace(mind, pay_day=pay_day)
        draws = self._first_draws(traits, now.take(users), seen.days[users], chosen, future)
        weeks = -(-(horizon_days + 6) // 7)
        strains = np.full(len(users), strain[0])
        for number in range(weeks):
            future = life.step(traits, future, draws, Calendar.of_week(first_day + 7 * number), strains).state
            draws = Draws.of(self._rng, len(users))
            strains = economy.next_strain(strains, self._rng.random(len(users)), self._normal(len(users)))
        never = horizon_days + 7 * weeks
        days = np.where(future.defaulted_day == NEVER, never, future.defaulted_day - first_day)
        return days.reshape(len(these), FUTURES)

    def _first_draws(self, traits: Traits, week: Week, days: Ints, chosen: Ints, state: State) -> Draws:
        """Random draws of the current week: the particle's own for its mind, draws that give the payment that was seen,
        and new ones for the rest, given that nothing else came by the end of `days` (see `hazard`)."""
        draws, own = Draws.of(self._rng, len(chosen)), self._next
        uniform, normal, of_contract = draws.uniform, draws.normal, draws.of_contract
        for place in (states.TO_REGIME, states.TO_EPISODE):
            uniform[place] = own.draws.uniform[place, chosen]
        normal[:] = own.draws.normal[:, chosen]
        for place in (states.TO_RELIEF, states.TO_OPEN):
            of_contract[place] = week.draws.of_contract[place]
        calendar, mind, dom = week.calendar, own.mind, traits.terms.bill_dom
        stress = mind.stress[chosen]

        paid = (week.pay_offset >= 0) & (week.pay_offset <= days)
        late_days = calendar.first_day - calendar.due_day(state.bill_month - state.unpaid + 1, dom)
        rate = accounts.catch_up_rate(traits, calendar, stress, mind.cash[chosen], week.paid_first, late_days)
        gone = (days + 1) / 7
        left = np.maximum((1 - gone) / (1 - np.minimum(rate * gone, 0.999)), 1e-9)
        catch_up, pay_day = of_contract[states.TO_CATCH_UP], of_contract[states.TO_PAY_DAY]
        catch_up[:] = np.where(paid, 0.0, np.where(gone < 1, catch_up / left, 1.0))
        pay_day[:] = np.where(paid, (week.pay_offset + 0.5) / 7, gone + (1 - gone) * pay_day)
        settles_all = week.pay_count > 1
        only_one = (week.pay_count == 1) & (week.state.unpaid > 0)
        new_count = np.where(only_one | (week.pay_count == 0), 0.0, 1.0)
        settles = np.where(settles_all, 1.0, new_count)
        of_contract[states.TO_COUNT] = np.where(paid, settles, of_contract[states.TO_COUNT])
        part = np.where(week.pay_count == 0, 0.0, 1.0)
        of_contract[states.TO_PART] = np.where(paid, part, of_contract[states.TO_PART])

        # A bill of this week that was paid by then was intended to be paid on that day.
        due = calendar.due_day(week.state.bill_month, dom)
        at_once = paid & (week.bill_offset >= 0) & (week.bill_offset < week.pay_offset) & (state.unpaid == 0)
        usual = accounts.usual_delay_days(traits, stress)
        delay = (calendar.first_day + week.pay_offset - due - usual) / DELAY_SPREAD_DAYS
        draws.delay[:] = np.where(at_once, delay, draws.delay)
        of_contract[states.TO_BILL] = np.where(at_once, 1.0, of_contract[states.TO_BILL])
        return draws

    def _given(
        self, these: Ints, rows: Ints, before: State, week: Week, seen: Seen, strain: Floats
    ) -> tuple[Floats, Known]:
        """Logarithms of the weights `[n, particles]` of the guesses at these borrowers, whose accounts and week these
        are, given what was seen, and what is known of their latest bills then."""
        everyone = len(these) == self._users
        traits = self._traits if everyone else self._traits.take(rows)
        mind = self._next.mind if everyone else self._next.mind.take(rows)
        known = self._known.take(these, rows)
        likelihood, known = account_likelihood(traits, before, week, seen.days, mind.stress, mind.cash, known, strain)
        user = np.repeat(np.arange(len(these)), self._particles)
        evidence = behaviour_log_likelihood(traits, before, week, mind, seen, user)
        evidence += np.log(np.maximum(likelihood, 1e-12))
        evidence = np.where(before.active[user], evidence, 0.0) + self._next.log_proposal[rows]
        log_weight = self._log_weight[these] + evidence.reshape(len(these), -1)
        return log_weight - log_weight.max(axis=1, keepdims=True), known

    def _rows_of(self, these: Ints) -> Ints:
        rows: Ints = (these[:, None] * self._particles + np.arange(self._particles)).ravel()
        return rows

    def _normal(self, count: int) -> Floats:
        return self._rng.standard_normal(count)

    def _draws(self) -> Draws:
        return Draws.of(self._rng, len(self._rows))

    def _eager_mind(self, state: State, calendar: Calendar, strain: Floats) -> _Guess:
        """Next week's minds, in which declines and look-alikes begin `_EAGER` times as often as they do, and the
        logarithm of the weights that correct for it: few of some hundred particles would take the rare paths."""
        count = len(self._rows)
        draws = Draws.none(count)
        stable, calm = state.regime == states.STABLE, state.episode == 0
        draws.uniform[states.TO_REGIME] = self._rng.random(count) / np.where(stable, _EAGER, 1.0)
        draws.uniform[states.TO_EPISODE] = self._rng.random(count) / np.where(calm, _EAGER, 1.0)
        draws.normal[:] = self._rng.standard_normal(draws.normal.shape)
        mind = life.next_mind(self._traits, state, draws, calendar, strain)
        leaving = np.minimum(life.leaving_rates(self._traits, state, strain).sum(axis=1), 0.9 / _EAGER)
        stays = np.log1p(-leaving) - np.log1p(-_EAGER * leaving)
        weight = np.where(stable, np.where(mind.regime != states.STABLE, -np.log(_EAGER), stays), 0.0)
        rate = life.episode_rate()
        waits = np.log1p(-rate) - np.log1p(-_EAGER * rate)
        weight += np.where(calm, np.where(mind.episode != 0, -np.log(_EAGER), waits), 0.0)
        return _Guess(mind, draws, weight)

    def _latent(self, before: State) -> State:
        """The particles with the visible accounts."""
        mind = self._mind
        return replace(
            before.take(self._rows),
            regime=mind.regime,
            stress=mind.stress,
            cash=mind.cash,
            story=mind.story,
            episode=mind.episode,
            episode_weeks=mind.episode_weeks,
        )

    def _weights(self) -> Floats:
        weight = np.exp(self._log_weight - self._log_weight.max(axis=1, keepdims=True))
        normalised: Floats = weight / weight.sum(axis=1, keepdims=True)
        return normalised

    def _resample(self) -> None:
        """Resample where few particles have most of the weight, and perturb their fixed dispositions slightly."""
        worn = 1 / (self._weights() ** 2).sum(axis=1) < self._particles / 2
        if not worn.any():
            return
        stirred: Flags = worn[self._rows]
        chosen = np.where(stirred, _sample(self._log_weight, self._particles, self._rng), np.arange(len(self._rows)))
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
        self._known = self._known.take(np.arange(self._users), chosen)
        self._log_weight[worn] = 0.0
