"""Behaviour: spending, income, app use, credit inquiries and profile updates of a week, as a bank would see them.

What shows is the stress times the borrower's visibility, among habits, seasons and harmless episodes that look like it.
The days past due are not read here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.types import Activity, Event, Profile, Transaction
from model.datasets.simulator import life
from model.datasets.simulator import portfolio as names
from model.datasets.simulator.drafts import DAY_S, Draft, money, named, with_gaps
from model.datasets.simulator.life import Week
from model.datasets.simulator.portfolio import Floats, Ints, Traits

CATEGORIES = (
    "groceries", "housing", "utilities", "transport", "leisure", "travel", "health", "shopping", "cash", "transfer",
    "gambling", "loan_repayment", "salary", "benefit",
)  # fmt: skip
CHANNELS = ("card", "online", "atm", "transfer", "branch")
COUNTERPARTIES = ("merchant", "person", "lender", "employer", "state", "exchange", "own_account")
ACTIVITIES = ("session", "inquiry", "device_change")
_SALARY, _BENEFIT = CATEGORIES.index("salary"), CATEGORIES.index("benefit")
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
_LOG_AMOUNT = np.log(np.array([38, 420, 70, 30, 35, 160, 55, 60, 110, 160, 50, 140], dtype=np.float64))
_TABLE = 256


def _table(weights: tuple[int, ...]) -> NDArray[np.int64]:
    """Codes repeated by their weights, so that a uniform draw indexes a category."""
    edges = np.rint(np.cumsum(weights) / sum(weights) * _TABLE).astype(np.int64)
    return np.searchsorted(edges, np.arange(_TABLE), side="right")


_CATEGORY_TABLE = np.stack([_table(_MIX[mode]) for mode in range(len(_MIX))])
_CHANNEL_TABLE = np.stack([_table(mix) for mix in _CHANNEL_MIX])
_PARTY_TABLE = np.stack([_table(mix) for mix in _PARTY_MIX])


@dataclass
class Surface:
    """What of a borrower's behaviour carries over from week to week, arrays `[n]`; changed in place."""

    utilisation: Floats
    income: Floats
    silent_weeks: Ints  # salary-less weeks left of an income switch
    profiled: NDArray[np.bool_]

    @classmethod
    def of(cls, traits: Traits) -> Surface:
        count = len(traits.income)
        return cls(
            traits.base_utilisation.copy(), traits.income.copy(), np.zeros(count, np.int64), np.zeros(count, np.bool_)
        )


def visible_stress(traits: Traits, week: Week) -> Floats:
    """The stress that shows, 0 and up, array `[n]`. None for a decline without early sign."""
    hidden = week.state.regime == life.NO_SIGN
    return np.where(hidden, 0.0, traits.visibility * np.maximum(week.state.stress, 0.0))


def draft_behaviour(traits: Traits, week: Week, surface: Surface, rng: np.random.Generator) -> list[Draft]:
    """Transactions, activity and profiles of a week; moves `surface` on."""
    shown = visible_stress(traits, week)
    _move_surface(traits, week, surface, shown, rng)
    return [
        _transactions(traits, week, surface, shown, rng),
        _activity(traits, week, shown, rng),
        _profiles(traits, week, surface, rng),
    ]


def _move_surface(traits: Traits, week: Week, surface: Surface, shown: Floats, rng: np.random.Generator) -> None:
    draws = rng.random((2, len(shown)))
    noise = rng.standard_normal(len(shown))
    state = week.state
    cashing = state.regime == life.CASH_OUT
    target = traits.base_utilisation + 0.15 * np.minimum(shown, 3.0) + 0.22 * (state.episode == life.MOVING)
    target = target + np.where(traits.festive & _is_december(week), 0.15, 0.0)
    target = np.where(cashing | (state.regime == life.GONE), 1.03, target)
    surface.utilisation += np.where(cashing, 0.4, 0.17) * (target - surface.utilisation) + 0.035 * noise
    np.clip(surface.utilisation, 0.0, 1.08, out=surface.utilisation)
    begins = (state.episode == life.INCOME_SWITCH) & (state.episode_weeks == 7)
    silence = 3 + (draws[0] * 4).astype(np.int64)
    surface.silent_weeks[:] = np.where(begins, silence, np.maximum(surface.silent_weeks - 1, 0))
    surface.income[:] = np.where(begins, traits.income * (0.85 + 0.4 * draws[1]), surface.income)


def _is_december(week: Week) -> bool:
    return week.calendar.year_phase > 0.9


def _winter(week: Week) -> bool:
    return week.calendar.year_phase < 0.2 or week.calendar.year_phase > 0.95


def _transactions(
    traits: Traits, week: Week, surface: Surface, shown: Floats, rng: np.random.Generator
) -> Draft:
    state = week.state
    acting = state.active & traits.has_transactions
    cashing, gone = state.regime == life.CASH_OUT, state.regime == life.GONE
    moving, festive = state.episode == life.MOVING, traits.festive & _is_december(week)
    rate = traits.spending_rate * np.maximum(1 - 0.1 * shown, 0.4)
    rate = rate * np.select([gone, cashing, moving], [0.25, 2.0, 1.4], 1.0)
    spent = np.repeat(np.arange(len(shown)), rng.poisson(np.where(acting, rate * np.where(festive, 1.7, 1.0), 0.0)))
    draws = rng.random((7, len(spent)))
    noise = rng.standard_normal((2, len(spent)))
    stressed = draws[0] < 1 / (1 + np.exp(2.9 - 1.25 * (shown + 0.7 * traits.style)[spent]))
    mode = np.select(
        [draws[1] < 0.75 * cashing[spent], draws[1] < 0.5 * moving[spent], stressed, draws[1] < 0.5 * festive[spent]],
        [_CASHING, _MOVING, _STRESSED, _FESTIVE],
        _USUAL,
    )
    category = _CATEGORY_TABLE[mode, (draws[2] * _TABLE).astype(np.int64)]
    scale = np.sqrt(traits.income / 2300.0)[spent] * np.where(mode == _CASHING, 2.2, 1.0)
    amount = -np.exp(_LOG_AMOUNT[category] + 0.65 * noise[0]) * scale
    channel = _CHANNEL_TABLE[category, (draws[3] * _TABLE).astype(np.int64)]
    party = _PARTY_TABLE[category, (draws[4] * _TABLE).astype(np.int64)]

    earner, income, benefit = _incomes(traits, week, surface, acting, rng)
    payday = week.calendar.first_day + week.calendar.offset_of_dom[traits.payday_dom[earner]]
    user = np.concatenate((spent, earner))
    time_s = np.concatenate(
        (
            week.calendar.first_day * DAY_S + _waking_second(draws[5], draws[6]),
            payday * DAY_S + 5 * 3600 + (rng.random(len(earner)) * 4 * 3600).astype(np.int64),
        )
    )
    amount = np.concatenate((amount, income))
    category = np.concatenate((category, np.where(benefit, _BENEFIT, _SALARY)))
    channel = np.concatenate((channel, np.full(len(earner), CHANNELS.index("transfer"))))
    party = np.concatenate((party, np.where(benefit, COUNTERPARTIES.index("state"), COUNTERPARTIES.index("employer"))))

    limit = traits.credit_limit[user]
    days_since_payday = (time_s // DAY_S - traits.payday_dom[user]) % 30
    used = surface.utilisation[user] + 0.006 * (days_since_payday - 15) + 0.03 * rng.standard_normal(len(user))
    gaps = rng.random((3, len(user)))
    return Draft(
        user,
        time_s,
        (
            money(amount),
            _labels(category, CATEGORIES, gaps[0] < 0.03),
            _labels(channel, CHANNELS, gaps[0] > 0.98),
            with_gaps(np.round(limit * np.clip(used, -0.1, 1.1), 2), (limit == 0) | (gaps[1] < 0.05)),
            with_gaps(limit, (limit == 0) | (gaps[2] < 0.05)),
            _labels(party, COUNTERPARTIES, gaps[2] > 0.92),
        ),
        _typed_transactions,
    )


def _incomes(
    traits: Traits, week: Week, surface: Surface, acting: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Ints, Floats, NDArray[np.bool_]]:
    """Who is paid this week, how much, and whether by the state. A job lost in a shock shows as benefits or nothing."""
    draws = rng.random((3, len(acting)))
    noise = rng.standard_normal(len(acting))
    state = week.state
    jobless = (state.regime == life.SHOCK) & (traits.visibility > 0.6)
    paid = acting & (week.calendar.offset_of_dom[traits.payday_dom] >= 0) & (surface.silent_weeks == 0)
    paid &= draws[0] < np.where(state.regime == life.GONE, 0.3, np.where(jobless, 0.75, 0.97))
    benefit = paid & jobless & (draws[1] < 0.6)
    amount = surface.income * np.exp(0.06 * noise) * np.where(benefit, 0.45, 1.0)
    amount *= np.where(traits.seasonal & _winter(week), 0.6, 1.0) * np.where(draws[2] < 0.04, 1.6, 1.0)
    earner = np.flatnonzero(paid)
    return earner, amount[earner], benefit[earner]


def _activity(traits: Traits, week: Week, shown: Floats, rng: np.random.Generator) -> Draft:
    state = week.state
    acting = state.active & traits.has_activity
    gone, cashing = state.regime == life.GONE, state.regime == life.CASH_OUT
    sessions = traits.digital_rate * np.select([gone, shown > 2.2], [0.05, 0.45], 1 + 0.4 * shown)
    inquiries = 0.018 + 0.045 * np.minimum(shown, 2.5) + 0.16 * (state.episode == life.MOVING) + 0.12 * cashing
    devices = 0.006 + 0.15 * cashing + 0.01 * traits.festive * _is_december(week)
    rates = np.where(acting, np.stack((sessions, inquiries, devices)), 0.0)
    kind, user = np.divmod(np.repeat(np.arange(rates.size), rng.poisson(rates).ravel()), len(shown))
    draws = rng.random((3, len(user)))
    duration = np.exp(4.2 + 0.9 * rng.standard_normal(len(user)) + 0.25 * shown[user])
    times = 1 + np.floor(-np.log1p(-draws[0]) * (0.7 + 0.5 * np.minimum(shown[user], 2)))
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


def _profiles(traits: Traits, week: Week, surface: Surface, rng: np.random.Generator) -> Draft:
    """The first profile in a borrower's first week, an updated one now and then and after an income switch."""
    state = week.state
    settled_in = (state.episode == life.INCOME_SWITCH) & (state.episode_weeks == 2)
    update = rng.random(len(traits.income)) < np.where(settled_in, 0.5, 0.004)
    first = ~surface.profiled
    wanted = state.active & traits.has_profile & (first | update)
    user = np.flatnonzero(wanted)
    surface.profiled |= state.active
    second = np.where(first[user], 0, (9 * 3600 + rng.random(len(user)) * 6.5 * DAY_S).astype(np.int64))
    gaps = rng.random((8, len(user))) < 0.08
    known = traits.take(user)
    return Draft(
        user,
        week.calendar.first_day * DAY_S + second,
        (
            named(known.age_band, names.AGE_BANDS),
            named(known.sex, names.SEXES),
            with_gaps(np.round(surface.income[user], -1), gaps[0]),
            _labels(known.employment, names.EMPLOYMENTS, gaps[1]),
            _labels(known.education, names.EDUCATIONS, gaps[2]),
            _labels(known.marital_status, names.MARITAL_STATUSES, gaps[3]),
            named(known.region, names.REGIONS),
            named(known.product, names.PRODUCTS),
            with_gaps(known.tenure_months, gaps[4]),
            with_gaps(known.credit_limit, (known.credit_limit == 0) | gaps[5]),
            with_gaps(known.origination_pd, gaps[6]),
            with_gaps(known.bureau_score, gaps[7]),
            known.interest_rate.tolist(),
            np.round(known.instalment / known.income, 4).tolist(),
            known.term_months.tolist(),
        ),
        _typed_profiles,
    )


def _labels(codes: Ints, labels: tuple[str, ...], missing: NDArray[np.bool_]) -> list[str | None]:
    listed: list[str | None] = named(codes, labels)
    for position in np.flatnonzero(missing).tolist():
        listed[position] = None
    return listed


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


def _typed_profiles(rows: Iterable[tuple[Any, ...]]) -> list[Event]:
    return [
        Profile(
            event_id=event_id,
            user_id=user_id,
            occurred_at=occurred_at,
            age_band=age_band,
            sex=sex,
            income=income,
            employment=employment,
            education=education,
            marital_status=marital_status,
            region=region,
            product=product,
            tenure_months=tenure_months,
            credit_limit=credit_limit,
            origination_pd=origination_pd,
            bureau_score=bureau_score,
            interest_rate=interest_rate,
            payment_to_income=payment_to_income,
            term_months=term_months,
        )
        for (
            event_id,
            user_id,
            occurred_at,
            age_band,
            sex,
            income,
            employment,
            education,
            marital_status,
            region,
            product,
            tenure_months,
            credit_limit,
            origination_pd,
            bureau_score,
            interest_rate,
            payment_to_income,
            term_months,
        ) in rows
    ]
