import math
from dataclasses import replace

import numpy as np
import pytest

from model.datasets.simulator import BLOCK_USERS, Simulator
from model.datasets.simulator import state as states
from model.datasets.simulator.accounts import LATEST_DELAY_DAYS
from model.datasets.simulator.behaviour import line_is_open
from model.datasets.simulator.columns import CONTRACTS
from model.datasets.simulator.evidence import (
    Known,
    _normal_share,
    account_likelihood,
    behaviour_log_likelihood,
    seen_in,
)
from model.datasets.simulator.state import Mind


def test_the_normal_share_is_the_normal_distribution_function():
    values = np.linspace(-5, 5, 101)
    expected = [0.5 * math.erfc(-value / math.sqrt(2)) for value in values]

    np.testing.assert_allclose(_normal_share(values), expected, atol=2e-7)


def mind_of(state):
    return Mind(
        state.regime,
        state.story,
        state.episode,
        state.episode_weeks,
        state.episodes_seen,
        state.stress,
        state.cash,
    )


@pytest.mark.parametrize("days", [2, 6])
@pytest.mark.parametrize("more_stress", [-0.25, 0.25])
def test_the_likelihood_of_another_stress_is_on_average_that_of_the_true_one(more_stress, days):
    """Under the truth, the likelihood of anything else over its own has a mean of 1: so for the process's own law, and
    only for that. Without December, whose habits change the week's use of the line and number of movements at once."""
    simulator = Simulator(users=BLOCK_USERS, months=6, seed=17)
    traits, rows = simulator.traits_of(0), np.arange(BLOCK_USERS)
    plain = ~traits.two_feeds
    ratios = []
    used = np.full(BLOCK_USERS, np.nan)
    for before, week, surface, drafts in simulator.drafts_of(0):
        line = line_is_open(traits, week)
        seen = seen_in(drafts, surface, line, rows, used, week.calendar.first_day, np.full(BLOCK_USERS, days))
        used = surface.utilisation.copy()
        mind = mind_of(week.state)
        other = mind._replace(stress=mind.stress + more_stress)
        likelihoods = [behaviour_log_likelihood(traits, before, week, guess, seen, rows) for guess in (mind, other)]
        calm = plain & before.active & (week.state.episode == 0) & (week.state.regime != states.CASH_OUT)
        ratios.append(np.exp(likelihoods[1] - likelihoods[0])[calm])
    ratio = np.concatenate(ratios)

    assert len(ratio) > 5_000
    assert ratio.std() > 0.05
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(len(ratio))


@pytest.mark.parametrize("days", [3, 6])
@pytest.mark.parametrize(("more_stress", "more_cash"), [(-0.4, 0.0), (0.4, 0.0), (0.0, -1.5), (0.0, 1.5)])
def test_so_is_that_of_payments_on_all_contracts(more_stress, more_cash, days):
    simulator = Simulator(users=BLOCK_USERS, months=10, seed=19)
    traits = simulator.traits_of(0)
    until, whole = np.full(BLOCK_USERS, days), np.full(BLOCK_USERS, 6)
    known = None
    ratios = []
    for number, (before, week) in enumerate(simulator.lives_of(0)):
        strain = simulator.strain_in(number)
        if known is None:
            known = Known.nothing(BLOCK_USERS, BLOCK_USERS)
            known.take_up(before, week.calendar, traits, before)
        stress, cash = week.state.stress, week.state.cash
        own, other = (
            account_likelihood(traits, before, week, until, stress + stressed, cash + rich, known, strain)[0]
            for stressed, rich in ((0.0, 0.0), (more_stress, more_cash))
        )
        _, known = account_likelihood(traits, before, week, whole, stress, cash, known, strain)
        at_risk = before.active & (traits.join_share == 0)
        ratios.append((other / own)[at_risk])
    ratio = np.concatenate(ratios)

    assert len(ratio) > 8_000
    assert ratio.std() > 0.03
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(len(ratio))


def test_what_was_seen_by_a_day_grows_to_what_was_seen_in_the_week():
    simulator = Simulator(users=BLOCK_USERS, months=2, seed=5)
    rows = np.array([3, 40, 300])
    _, week, surface, drafts = next(iter(simulator.drafts_of(0)))
    line = line_is_open(simulator.traits_of(0), week)

    def seen(day):
        unknown = np.full(3, np.nan)
        return seen_in(
            drafts,
            surface,
            line,
            rows,
            unknown,
            week.calendar.first_day,
            np.full(3, day),
        )

    moves = np.stack([seen(day).moves for day in range(7)])
    acts = np.stack([seen(day).acts.sum(axis=0) for day in range(7)])

    assert (np.diff(moves, axis=0) >= 0).all()
    assert (np.diff(acts, axis=0) >= 0).all()
    spent = sum(amount < 0 for user, amount in zip(drafts[1].user, drafts[1].fields[0], strict=True) if user in rows)
    in_week = drafts[1].time_s < (week.calendar.first_day + 7) * 86_400
    assert moves[-1].sum() <= spent
    assert moves[-1].sum() >= sum(
        amount < 0
        for user, amount, kept in zip(drafts[1].user, drafts[1].fields[0], in_week, strict=True)
        if user in rows and kept
    )


def test_known_bills_are_paid_after_the_day_they_were_open_on():
    traits = Simulator(users=BLOCK_USERS, months=1).traits_of(0)
    users = np.arange(BLOCK_USERS)
    shape = (CONTRACTS, BLOCK_USERS)
    known = Known(np.full(shape, 100), np.broadcast_to(np.where(users % 2 == 0, 1.0, 0.0), shape), np.zeros(shape))

    days = known.pay_days(replace(traits), users, users, np.full(BLOCK_USERS, 99), np.random.default_rng(1))

    assert (days[:, 1::2] == states.NEVER).all()
    assert (days[:, ::2] >= 99).all()
    assert (days[:, ::2] <= 100 + LATEST_DELAY_DAYS).all()
