"""Life: the latent process of each simulated borrower, one week at a time.

This is the truth; `repayments` and `behaviour` make events of it, `hazard` computes the probability of default. A
borrower's regime (stable, sliding, in shock, …) sets the target of their stress; stress and the month's cash decide
which bills are paid, and when; that is `accounts`.
"""

from __future__ import annotations

import numpy as np

from model.datasets.simulator.accounts import account
from model.datasets.simulator.calendar import Calendar
from model.datasets.simulator.columns import Floats, Ints
from model.datasets.simulator.portfolio import Traits
from model.datasets.simulator.state import (
    BANK_SWITCH,
    CASH_OUT,
    CASH_PURCHASE,
    EPISODE_NAMES,
    EPISODE_WEEKS,
    GONE,
    INCOME_SWITCH,
    MOVING,
    NEVER,
    NO_SIGN,
    PAYDAY_SHIFT,
    RECOVERY,
    SHOCK,
    SLIDE,
    STABLE,
    TO_CASH,
    TO_EPISODE,
    TO_REGIME,
    TO_STRESS,
    Draws,
    Mind,
    State,
    Week,
)

_PULL = np.array([0.2, 0.075, 0.5, 0.3, 0.8, 0.9, 0.14])
"""Share of the distance to its target by which stress moves in a week, by regime."""
_TARGET = np.array([0.0, 3.1, 2.7, 0.0, 5.5, 4.2, 0.0])
_LEAVES = np.zeros((7, 7))
_LEAVES[STABLE, [SLIDE, SHOCK, CASH_OUT, NO_SIGN]] = (0.0028, 0.001, 0.0004, 0.0005)
_LEAVES[SLIDE, [SHOCK, RECOVERY]] = (0.003, 0.032)
_LEAVES[SHOCK, RECOVERY] = 0.06
_LEAVES[CASH_OUT, GONE] = 0.2
_LEAVES[NO_SIGN, RECOVERY] = 0.05
_LEAVES[RECOVERY, [SLIDE, SHOCK]] = (0.009, 0.003)
_SCARRED = 1.8
"""Factor on the rate of leaving the stable regime for borrowers who declined before."""
_EPISODES = np.array([MOVING, INCOME_SWITCH, BANK_SWITCH, CASH_PURCHASE, PAYDAY_SHIFT, 0])
_EPISODES_BEGIN = np.cumsum([0.0018, 0.0018, 0.001, 0.002, 0.0014])


def step(traits: Traits, state: State, draws: Draws, calendar: Calendar, strain: Floats) -> Week:
    """One week under a `strain` `[n]` or `[1]`; a function of the arguments alone."""
    return account(traits, state, calendar, draws, next_mind(traits, state, draws, calendar, strain), strain)


def next_mind(traits: Traits, state: State, draws: Draws, calendar: Calendar, strain: Floats) -> Mind:
    """The latent side of a week: regime, look-alike, stress and cash."""
    uniform, normal = draws.uniform, draws.normal
    regime, story = _next_regime(traits, state, uniform[TO_REGIME], strain)
    episode, episode_weeks, seen = _next_episode(state, uniform[TO_EPISODE])
    stress = _next_stress(traits, state, regime, episode, normal[TO_STRESS], calendar)
    # The month's cash is known with the salary.
    cash = np.where(calendar.offset_of_dom[traits.payday_dom] >= 0, normal[TO_CASH], state.cash)
    return Mind(regime, story, episode, episode_weeks, seen, stress, cash)


def leaving_rates(traits: Traits, state: State, strain: Floats) -> Floats:
    """Probability of each regime being the next, if it is another than today's, `[n, 7]`."""
    rates = _LEAVES[state.regime]
    stable = state.regime == STABLE
    rates *= np.where(stable, traits.frailty * np.where(state.story == STABLE, 1.0, _SCARRED), 1.0)[:, None]
    rates[:, SHOCK] *= 1.0 + 2.0 * strain * traits.exposed
    rates[:, SLIDE] *= 1.0 + 0.5 * strain
    rates[:, RECOVERY] /= 1.0 + 0.3 * strain
    return rates


def _next_regime(traits: Traits, state: State, draw: Floats, strain: Floats) -> tuple[Ints, Ints]:
    moves = draw[:, None] < leaving_rates(traits, state, strain).cumsum(axis=1)
    regime = np.where(moves[:, -1], moves.argmax(axis=1), state.regime)
    regime = np.where((state.regime == RECOVERY) & (state.stress < 0.3), STABLE, regime)
    begins = (regime != state.regime) & (regime != RECOVERY) & (regime != STABLE) & (regime != GONE)
    return regime, np.where(begins, regime, state.story)


def episode_rate() -> float:
    """Probability that a week brings a look-alike to a borrower who is in none."""
    return float(_EPISODES_BEGIN[-1])


def _next_episode(state: State, draw: Floats) -> tuple[Ints, Ints, Ints]:
    begins = (state.episode == 0) & (draw < _EPISODES_BEGIN[-1])
    episode = np.where(begins, _EPISODES[np.searchsorted(_EPISODES_BEGIN, draw, side="right")], state.episode)
    weeks = np.where(begins, EPISODE_WEEKS, np.maximum(state.episode_weeks - 1, 0))
    episode = np.where(weeks == 0, 0, episode)
    return episode, weeks, state.episodes_seen | episode


def _next_stress(
    traits: Traits, state: State, regime: Ints, episode: Ints, noise: Floats, calendar: Calendar
) -> Floats:
    season = max(0.0, float(np.cos(2 * np.pi * (calendar.year_phase - 0.08))))
    target = _TARGET[regime] * traits.severity
    target = target + np.where(traits.seasonal, 1.1 * season, 0.0) + np.where(episode == INCOME_SWITCH, 0.6, 0.0)
    if calendar.year_phase < 0.1:  # after the expenses of December
        target = target + 0.5 * traits.festive
    stress = state.stress + _PULL[regime] * (target - state.stress) + 0.16 * noise
    return np.clip(stress, -0.6, 6.0)


def scenarios(traits: Traits, state: State) -> list[str]:
    """The latent story of each borrower, by its worst part."""
    declines = {SLIDE: "slow_slide", SHOCK: "shock", CASH_OUT: "cash_out", NO_SIGN: "no_early_sign"}
    habits = [(traits.seasonal, "seasonal")]
    habits += [(state.episodes_seen & episode > 0, name) for episode, name in EPISODE_NAMES.items()]
    habits += [(traits.festive, "holiday_spending")]
    calm = np.select([flags for flags, _ in habits], [name for _, name in habits], "stable")
    recovered = (state.defaulted_day == NEVER) & ((state.regime == RECOVERY) | (state.regime == STABLE))
    return [
        str(quiet) if story == STABLE else ("recovery" if well else declines[int(story)])
        for quiet, story, well in zip(calm, state.story, recovered, strict=True)
    ]
