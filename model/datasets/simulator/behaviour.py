"""Behaviour: spending, income, app use and credit inquiries of a week, as a bank would see them.

They depend on the stress times the borrower's visibility, and also on habits, seasons and harmless episodes that look
like stress. Days past due have no influence here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.types import Activity, Event, Transaction
from model.datasets.simulator import state as states
from model.datasets.simulator.accounts import refund_comes
from model.datasets.simulator.calendar import Calendar
from model.datasets.simulator.columns import Flags, Floats, Ints
from model.datasets.simulator.drafts import DAY_S, Draft, labelled, money, named, named_contracts, with_gaps
from model.datasets.simulator.portfolio import Traits
from model.datasets.simulator.profiles import draft_profiles
from model.datasets.simulator.state import Week
from model.datasets.simulator.terms import CARD

CATEGORIES = (
    "groceries", "housing", "utilities", "transport", "leisure", "travel", "health", "shopping", "cash", "transfer",
    "gambling", "loan_repayment", "salary", "benefit", "tax_refund",
)  # fmt: skip
CHANNELS = ("card", "online", "atm", "transfer", "branch")
COUNTERPARTIES = ("merchant", "person", "lender", "employer", "state", "exchange", "own_account")
ACTIVITIES = ("session", "inquiry", "device_change")
_CASH, _SALARY, _BENEFIT, _REFUND = (CATEGORIES.index(name) for name in ("cash", "salary", "benefit", "tax_refund"))
_USUAL, _STRESSED, _CASHING, _MOVING, _FESTIVE = range(5)
_MIX = {
    _USUAL: (22, 5, 9, 12, 13, 5, 6, 16, 6, 4, 1, 1),
    _STRESSED: (15, 4, 5, 7, 7, 2, 4, 10, 19, 11, 8, 8),
    _CASHING: (4, 1, 0, 4, 6, 5, 0, 20, 34, 24, 2, 0),
    _MOVING: (12, 24, 9, 10, 4, 2, 3, 18, 8, 9, 0, 1),
    _FESTIVE: (14, 2, 5, 8, 20, 14, 2, 27, 6, 2, 0, 0),
}
_CHANNEL_MIX = (
    (90, 10, 0, 0, 0), (10, 10, 0, 75, 5), (10, 30, 0, 60, 0), (70, 30, 0, 0, 0), (60, 40, 0, 0, 0), (30, 70, 0, 0, 0),
    (70, 30, 0, 0, 0), (45, 55, 0, 0, 0), (0, 0, 90, 0, 10), (0, 30, 0, 65, 5), (20, 80, 0, 0, 0), (0, 20, 0, 80, 0),
)  # fmt: skip
_PARTY_MIX = (
    (100, 0, 0, 0, 0, 0, 0), (60, 38, 0, 0, 2, 0, 0), (90, 0, 0, 0, 10, 0, 0), (95, 5, 0, 0, 0, 0, 0),
    (95, 5, 0, 0, 0, 0, 0), (100, 0, 0, 0, 0, 0, 0), (85, 0, 0, 0, 15, 0, 0), (97, 3, 0, 0, 0, 0, 0),
    (0, 0, 0, 0, 0, 0, 100), (0, 60, 3, 0, 2, 15, 20), (90, 0, 0, 0, 0, 10, 0), (0, 5, 95, 0, 0, 0, 0),
)  # fmt: skip
_SPREAD_MEAN = 0.2
_LOG_AMOUNT = np.log(np.array([38, 420, 70, 30, 35, 160, 55, 60, 110, 160, 50, 140], dtype=np.float64))
_TABLE = 256
_AMOUNT_SPREAD = 0.9
WEEKLY_SPREAD = 0.4
CASHING_SHARE, MOVING_SHARE, FESTIVE_SHARE = 0.75, 0.5, 0.5
"""Share of a borrower's movements that belong to the cash-out, the move or December's spending while it lasts."""
ELSEWHERE_SHARE = 0.15
"""Share of the movements that stay visible when a borrower moves the daily banking to another bank."""
JUMP_RATE = 0.008
LOG_DURATION_SPREAD = 0.9
_FEED_DELAY_S = 48 * 3600
"""Longest time from a movement to its copy from a second feed."""


def _table(weights: tuple[int, ...]) -> NDArray[np.int64]:
    """Codes repeated by their weights, so that a uniform draw indexes a category."""
    edges = np.rint(np.cumsum(weights) / sum(weights) * _TABLE).astype(np.int64)
    return np.searchsorted(edges, np.arange(_TABLE), side="right")


CATEGORY_TABLE = np.stack([_table(_MIX[mode]) for mode in range(len(_MIX))])
_CHANNEL_TABLE = np.stack([_table(mix) for mix in _CHANNEL_MIX])
_PARTY_TABLE = np.stack([_table(mix) for mix in _PARTY_MIX])


@dataclass
class Surface:
    """State of a borrower's behaviour from week to week, arrays `[n]`; changed in place."""

    utilisation: Floats
    income: Floats
    payday_dom: Ints
    silent_weeks: Ints  # weeks without salary left of an income switch
    outage_weeks: Ints  # weeks left in which the bank's feed delivers nothing
    elsewhere: Flags  # the daily banking moved to another bank, whose movements are not visible
    profiled: Flags

    @classmethod
    def of(cls, traits: Traits) -> Surface:
        zeros = np.zeros(len(traits.income), np.int64)
        none = np.zeros(len(traits.income), np.bool_)
        return cls(
            utilisation=traits.base_utilisation.copy(),
            income=traits.income.copy(),
            payday_dom=traits.payday_dom.copy(),
            silent_weeks=zeros,
            outage_weeks=zeros.copy(),
            elsewhere=none,
            profiled=none.copy(),
        )


def visible_stress(traits: Traits, week: Week) -> Floats:
    """The visible stress, 0 and up, array `[n]`; 0 for a decline without early sign."""
    hidden = week.state.regime == states.NO_SIGN
    return np.where(hidden, 0.0, traits.visibility * np.maximum(week.state.stress, 0.0))


def draft_behaviour(traits: Traits, week: Week, surface: Surface, rng: np.random.Generator) -> list[Draft]:
    """Transactions, activity and profiles of a week; moves `surface` on."""
    shown = visible_stress(traits, week)
    _move_surface(traits, week, surface, shown, rng)
    return [
        _transactions(traits, week, surface, shown, rng),
        _activity(traits, week, shown, rng),
        draft_profiles(traits, week, surface.income, surface.profiled, rng),
    ]


def _move_surface(traits: Traits, week: Week, surface: Surface, shown: Floats, rng: np.random.Generator) -> None:
    draws = rng.random((6, len(shown)))
    noise = rng.standard_normal(len(shown))
    state = week.state
    begins = state.episode_weeks == states.EPISODE_WEEKS
    pull, target = utilisation_pull(traits, state.regime, state.episode, shown, is_december(week.calendar))
    surface.utilisation += pull * (target - surface.utilisation) + unsteadiness(traits) * noise
    surface.utilisation += np.where(begins & (state.episode == states.CASH_PURCHASE), 0.25, 0.0)
    # The effect of a large purchase, or of a line paid off at once, decays in a month or two.
    surface.utilisation[:] = np.where(draws[5] < JUMP_RATE, draws[5] / JUMP_RATE, surface.utilisation)
    np.clip(surface.utilisation, 0.0, 1.08, out=surface.utilisation)

    switches = begins & (state.episode == states.INCOME_SWITCH)
    silence = 3 + (draws[0] * 4).astype(np.int64)
    surface.silent_weeks[:] = np.where(switches, silence, np.maximum(surface.silent_weeks - 1, 0))
    surface.income[:] = np.where(switches, traits.income * (0.85 + 0.4 * draws[1]), surface.income)
    shifted = (surface.payday_dom + 4 + (draws[1] * 20).astype(np.int64)) % 28 + 1
    surface.payday_dom[:] = np.where(begins & (state.episode == states.PAYDAY_SHIFT), shifted, surface.payday_dom)
    breaks = (surface.outage_weeks == 0) & (draws[2] < 0.004)
    lasts = 2 + (draws[3] * 9).astype(np.int64)
    surface.outage_weeks[:] = np.where(breaks, lasts, np.maximum(surface.outage_weeks - 1, 0))
    surface.elsewhere |= begins & (state.episode == states.BANK_SWITCH)
    surface.elsewhere &= draws[4] >= 0.02


def utilisation_pull(
    traits: Traits, regime: Ints, episode: Ints, shown: Floats, december: bool
) -> tuple[Floats, Floats]:
    """Share of the distance to its target by which the use of the line moves in a week, and the target, both `[n]`."""
    target = traits.base_utilisation + 0.15 * np.minimum(shown, 3.0) + 0.22 * (episode == states.MOVING)
    target = target + np.where(traits.festive & december, 0.15, 0.0)
    cashing = regime == states.CASH_OUT
    return np.where(cashing, 0.4, 0.17), np.where(cashing | (regime == states.GONE), 1.03, target)


def unsteadiness(traits: Traits) -> Floats:
    """Standard deviation of the use of the line; it is small for borrowers who use almost nothing or all of it."""
    spread: Floats = 0.01 + 0.1 * np.clip(traits.base_utilisation * (1 - traits.base_utilisation), 0.0, 1.0)
    return spread


def spending_rate(traits: Traits, regime: Ints, episode: Ints, shown: Floats, december: bool) -> Floats:
    """Mean number of movements in a borrower's usual week, `[n]`."""
    rate: Floats = traits.spending_rate * np.maximum(1 - 0.1 * shown, 0.4)
    moods = [regime == states.GONE, regime == states.CASH_OUT, episode == states.MOVING]
    rate = rate * np.select(moods, [0.25, 2.0, 1.4], 1.0)
    return np.where(traits.festive & december, 1.7 * rate, rate)


def stressed_share(traits: Traits, shown: Floats) -> Floats:
    """Share of a borrower's movements that are of the stressed kind, `[n]`."""
    share: Floats = 1 / (1 + np.exp(2.9 - 1.25 * (shown + 0.7 * traits.style)))
    return share


def activity_rates(traits: Traits, regime: Ints, episode: Ints, shown: Floats, december: bool) -> Floats:
    """Sessions, inquiries and changes of device in a week, `[3, n]`."""
    gone, cashing = regime == states.GONE, regime == states.CASH_OUT
    sessions = traits.digital_rate * np.select([gone, shown > 2.2], [0.05, 0.45], 1 + 0.4 * shown)
    inquiries = 0.018 + 0.045 * np.minimum(shown, 2.5) + 0.16 * (episode == states.MOVING) + 0.12 * cashing
    return np.stack((sessions, inquiries, 0.006 + 0.15 * cashing + 0.01 * (traits.festive & december)))


def usual_log_duration(shown: Floats) -> Floats:
    """Mean logarithm of a session's seconds, `[n]`."""
    return 4.2 + 0.25 * shown


def usual_repeats(shown: Floats) -> Floats:
    """Mean of the exponential whose whole part is how often a session is repeated, `[n]`."""
    return 0.7 + 0.5 * np.minimum(shown, 2)


def pay_rate(traits: Traits, regime: Ints) -> tuple[Floats, Floats]:
    """Probability that a salary comes on its day, and that it is a benefit instead if it does, both `[n]`."""
    jobless = (regime == states.SHOCK) & (traits.visibility > 0.6)
    return np.where(regime == states.GONE, 0.3, np.where(jobless, 0.75, 0.97)), np.where(jobless, 0.6, 0.0)


def is_december(calendar: Calendar) -> bool:
    return calendar.year_phase > 0.9


def _winter(week: Week) -> bool:
    return week.calendar.year_phase < 0.2 or week.calendar.year_phase > 0.95


class _Movements(NamedTuple):
    """Movements of a week, arrays `[movements]`; the last three are places in the vocabularies."""

    user: Ints
    time_s: Ints
    amount: Floats
    category: Ints
    channel: Ints
    party: Ints

    def joined(self, others: _Movements) -> _Movements:
        return _Movements(
            np.concatenate((self.user, others.user)),
            np.concatenate((self.time_s, others.time_s)),
            np.concatenate((self.amount, others.amount)),
            np.concatenate((self.category, others.category)),
            np.concatenate((self.channel, others.channel)),
            np.concatenate((self.party, others.party)),
        )

    def of(self, rows: Ints) -> _Movements:
        return _Movements(
            self.user[rows],
            self.time_s[rows],
            self.amount[rows],
            self.category[rows],
            self.channel[rows],
            self.party[rows],
        )


def line_is_open(traits: Traits, week: Week) -> Flags:
    """Whether the line that movements show can be used this week: that of the current account, or of an open contract,
    `[n]`."""
    everyone = np.arange(len(traits.line))
    used = (week.running | week.opened)[traits.line, everyone]
    flags: Flags = (traits.credit_limit > 0) & ((traits.line < 0) | used)
    return flags


def _transactions(traits: Traits, week: Week, surface: Surface, shown: Floats, rng: np.random.Generator) -> Draft:
    acting = week.state.active & traits.has_transactions & (surface.outage_weeks == 0)
    moved = _spending(traits, week, surface, shown, acting, rng).joined(_incomes(traits, week, surface, acting, rng))
    again = np.flatnonzero(traits.two_feeds[moved.user])
    delay = (rng.random(len(again)) * _FEED_DELAY_S).astype(np.int64)
    moved = moved.joined(moved.of(again)._replace(time_s=moved.time_s[again] + delay))
    copied = np.arange(len(moved.user)) >= len(moved.user) - len(again)
    user, time_s = moved.user, moved.time_s

    limit = traits.credit_limit[user]
    place = traits.line[user]
    # A card has its own movements, an overdraft all of the account.
    by_card = (moved.amount < 0) & (moved.channel <= CHANNELS.index("online"))
    of_line = line_is_open(traits, week)[user]
    of_line &= by_card | (place < 0) | (traits.terms.product[place, user] != CARD)
    of_contract = of_line & (place >= 0)
    days_since_payday = (time_s // DAY_S - surface.payday_dom[user]) % 30
    swing = np.clip(4 * traits.base_utilisation * (1 - traits.base_utilisation), 0.1, 1.0)[user]
    used = surface.utilisation[user]
    used = used + swing * (0.006 * (days_since_payday - 15) + 0.03 * rng.standard_normal(len(user)))
    gaps = rng.random((3, len(user)))
    return Draft(
        user,
        time_s,
        (
            money(moved.amount),
            labelled(moved.category, CATEGORIES, (gaps[0] < 0.03) | copied | ~traits.labels_spending[user]),
            labelled(moved.channel, CHANNELS, gaps[0] > 0.98),
            with_gaps(np.round(limit * np.clip(used, -0.1, 1.1), 2), ~of_line | (gaps[1] < 0.05)),
            with_gaps(limit, ~of_line | (gaps[2] < 0.05)),
            labelled(moved.party, COUNTERPARTIES, gaps[2] > 0.92),
            *named_contracts(traits, place, user, week.generation, of_contract),
        ),
        _typed_transactions,
    )


def _spending(
    traits: Traits, week: Week, surface: Surface, shown: Floats, acting: Flags, rng: np.random.Generator
) -> _Movements:
    """Movements out: number, category and amount, by habit, season, look-alike and visible stress."""
    state = week.state
    cashing = state.regime == states.CASH_OUT
    moving, festive = state.episode == states.MOVING, traits.festive & is_december(week.calendar)
    purchase = (state.episode == states.CASH_PURCHASE) & (state.episode_weeks == states.EPISODE_WEEKS)
    # Some weeks have far more movements than others, whatever the stress.
    rate = spending_rate(traits, state.regime, state.episode, shown, is_december(week.calendar))
    rate *= np.exp(WEEKLY_SPREAD * rng.standard_normal(len(shown)) - 0.5 * WEEKLY_SPREAD**2)
    rate *= np.where(surface.elsewhere, ELSEWHERE_SHARE, 1.0)
    count = rng.poisson(np.where(acting, rate, 0.0)) + 2 * (acting & purchase)
    spent = np.repeat(np.arange(len(shown)), count)
    draws = rng.random((7, len(spent)))
    noise = rng.standard_normal((2, len(spent)))
    stressed = draws[0] < stressed_share(traits, shown)[spent]
    mode = np.select(
        [
            draws[1] < CASHING_SHARE * cashing[spent],
            draws[1] < MOVING_SHARE * moving[spent],
            stressed,
            draws[1] < FESTIVE_SHARE * festive[spent],
        ],
        [_CASHING, _MOVING, _STRESSED, _FESTIVE],
        _USUAL,
    )
    category = CATEGORY_TABLE[mode, (draws[2] * _TABLE).astype(np.int64)]
    category = np.where(purchase[spent], _CASH, category)
    scale = np.sqrt(traits.income / 2300.0)[spent] * np.where(mode == _CASHING, 2.2, 1.0)
    scale *= np.where(purchase[spent], 6.0, 1.0)
    amount = -np.exp(_LOG_AMOUNT[category] + _AMOUNT_SPREAD * noise[0] - _SPREAD_MEAN) * scale
    channel = _CHANNEL_TABLE[category, (draws[3] * _TABLE).astype(np.int64)]
    party = _PARTY_TABLE[category, (draws[4] * _TABLE).astype(np.int64)]
    # A quarter of the week's movements fall on one day of errands.
    day_draw = np.where(noise[1] < -0.67, rng.random(len(shown))[spent], draws[5])
    time_s = week.calendar.first_day * DAY_S + _waking_second(day_draw, draws[6])
    return _Movements(spent, time_s, amount, category, channel, party)


def _incomes(traits: Traits, week: Week, surface: Surface, acting: Flags, rng: np.random.Generator) -> _Movements:
    """Movements in: salaries and tax refunds. A job lost in a shock shows as benefits or nothing."""
    draws = rng.random((4, len(acting)))
    noise = rng.standard_normal(len(acting))
    state = week.state
    comes, from_state = pay_rate(traits, state.regime)
    offset = week.calendar.offset_of_dom[surface.payday_dom]
    paid = acting & (offset >= 0) & (surface.silent_weeks == 0) & ~surface.elsewhere
    paid &= draws[0] < comes
    benefit = paid & (draws[1] < from_state)
    amount = surface.income * np.exp(0.06 * noise) * np.where(benefit, 0.45, 1.0)
    amount *= np.where(traits.seasonal & _winter(week), 0.6, 1.0) * np.where(draws[2] < 0.04, 1.6, 1.0)
    earner = np.flatnonzero(paid)
    refunded = np.flatnonzero(acting & refund_comes(traits, week.calendar))
    user = np.concatenate((earner, refunded))
    day = week.calendar.first_day + np.concatenate((offset[earner], (draws[1, refunded] * 7).astype(np.int64)))
    source = np.concatenate((np.where(benefit[earner], _BENEFIT, _SALARY), np.full(len(refunded), _REFUND)))
    return _Movements(
        user,
        day * DAY_S + ((5 + 4 * draws[3, user]) * 3600).astype(np.int64),
        np.concatenate((amount[earner], (0.2 + 0.9 * draws[2, refunded]) * traits.income[refunded])),
        source,
        np.full(len(user), CHANNELS.index("transfer")),
        np.where(source == _SALARY, COUNTERPARTIES.index("employer"), COUNTERPARTIES.index("state")),
    )


def _activity(traits: Traits, week: Week, shown: Floats, rng: np.random.Generator) -> Draft:
    state = week.state
    acting = state.active & traits.has_activity
    rates = activity_rates(traits, state.regime, state.episode, shown, is_december(week.calendar)) * acting
    kind, user = np.divmod(np.repeat(np.arange(rates.size), rng.poisson(rates).ravel()), len(shown))
    draws = rng.random((3, len(user)))
    duration = np.exp(usual_log_duration(shown[user]) + LOG_DURATION_SPREAD * rng.standard_normal(len(user)))
    times = 1 + np.floor(-np.log1p(-draws[0]) * usual_repeats(shown[user]))
    is_session = kind == 0
    return Draft(
        user,
        week.calendar.first_day * DAY_S + _waking_second(draws[1], draws[2]),
        (
            named(kind, ACTIVITIES),
            np.where(is_session, times, 1.0).tolist(),
            with_gaps(np.round(duration), ~is_session | (draws[0] > 0.9)),
        ),
        _typed_activity,
    )


def _waking_second(day_draw: Floats, hour_draw: Floats) -> Ints:
    """Seconds from the start of the week, between seven and midnight of any day."""
    return (np.floor(day_draw * 7) * DAY_S + (7 + 16.9 * hour_draw) * 3600).astype(np.int64)


def _typed_transactions(rows: Iterable[tuple[Any, ...]]) -> list[Event]:
    return [
        Transaction(
            event_id=event_id,
            user_id=user_id,
            occurred_at=occurred_at,
            amount=amount,
            category=category,
            channel=channel,
            balance_after=balance_after,
            credit_limit=credit_limit,
            counterparty_type=counterparty_type,
            contract_id=contract_id,
            currency=currency,
        )
        for (
            event_id,
            user_id,
            occurred_at,
            amount,
            category,
            channel,
            balance_after,
            credit_limit,
            counterparty_type,
            contract_id,
            currency,
        ) in rows
    ]


def _typed_activity(rows: Iterable[tuple[Any, ...]]) -> list[Event]:
    return [
        Activity(
            event_id=event_id,
            user_id=user_id,
            occurred_at=occurred_at,
            kind=kind,
            count=count,
            duration_s=duration_s,
        )
        for event_id, user_id, occurred_at, kind, count, duration_s in rows
    ]
