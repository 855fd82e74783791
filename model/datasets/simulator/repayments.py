"""Repayments: the events that a lender would publish about a week of `life`. Reads the truth about bills and payments
only, never the latent regime or stress.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import numpy as np

from events.types import Event, Repayment
from model.datasets.simulator.drafts import DAY_S, Draft, money, with_gaps
from model.datasets.simulator.life import Week
from model.datasets.simulator.portfolio import Floats, Ints, Traits

_NO_AMOUNT = -1.0
_DATES: dict[int, dt.date] = {}


def draft_repayments(traits: Traits, week: Week, rng: np.random.Generator) -> Draft:
    """Reversals (at night), bills (early morning), missed payments (at night) and payments (by day) of a week."""
    first_day, calendar = week.calendar.first_day, week.calendar
    spread = rng.random((3, len(traits.income)))

    reversed_ = np.flatnonzero(week.reversed_no >= 0)
    billed = np.flatnonzero(week.bill_offset >= 0)
    missed = np.flatnonzero((week.missed_offset >= 0) & traits.reports_missed)
    payers = np.flatnonzero(week.pay_offset >= 0)
    entries = np.maximum(week.pay_count[payers], 1)
    paid = np.repeat(payers, entries)
    step = np.arange(len(paid)) - np.repeat(np.cumsum(entries) - entries, entries)
    share = np.where(step == 0, week.pay_first_share[paid], 1.0)

    user = np.concatenate((reversed_, billed, missed, paid))
    months = np.concatenate(
        (
            week.reversed_month[reversed_],
            week.state.bill_month[billed],
            week.missed_month[missed],
            week.pay_first_month[paid] + step,
        )
    )
    due_day = calendar.due_day(months, traits.bill_dom[user])
    day = first_day + np.concatenate(
        (np.zeros_like(reversed_), week.bill_offset[billed], week.missed_offset[missed], week.pay_offset[paid])
    )
    second = np.concatenate(
        (
            _seconds(spread[0][reversed_], 1, 1),
            _seconds(spread[0][billed], 4, 2),
            _seconds(spread[1][missed], 2, 2),
            _seconds(spread[2][paid], 7, 14) + step,
        )
    )
    sizes = (len(reversed_), len(billed), len(missed), len(paid))
    kind = ["reversed"] * sizes[0] + ["due"] * sizes[1] + ["missed"] * sizes[2] + ["paid"] * sizes[3]
    # For a late report, the days past due are those on the day of the report.
    lag = traits.report_lag_days[user]
    lag[sizes[0] : sum(sizes[:3])] = 0
    day += lag
    past_due = day - due_day
    past_due[sizes[0] : sizes[0] + sizes[1]] = week.bill_days_past_due[billed]
    past_due[sizes[0] + sizes[1] : sum(sizes[:3])] = week.missed_days_past_due[missed]
    return _draft(traits, week, rng, user, kind, day * DAY_S + second, due_day, past_due, share, sizes)


def _draft(
    traits: Traits,
    week: Week,
    rng: np.random.Generator,
    user: Ints,
    kind: list[str],
    time_s: Ints,
    due_day: Ints,
    past_due: Ints,
    share: Floats,
    sizes: tuple[int, int, int, int],
) -> Draft:
    """The draft without the values that lenders leave out: days past due on some lenders' bills, balances, numbers."""
    billed_until, paid_from = sizes[0] + sizes[1], sum(sizes[:3])
    instalment = traits.instalment[user]
    amount_paid = np.full(len(user), _NO_AMOUNT)
    whole = instalment * traits.overpays[user]
    amount_paid[: sizes[0]] = whole[: sizes[0]]
    payer, position = user[paid_from:], _position_in_run(user[paid_from:])
    amount_paid[paid_from:] = np.where(week.pay_count[payer] > 0, whole[paid_from:], instalment[paid_from:]) * share
    amount_paid[paid_from:] += np.where(position == 0, week.pay_extra[payer], 0.0) * instalment[paid_from:]
    amount_paid[paid_from:][week.capitalised[payer]] = _NO_AMOUNT
    gaps = rng.random((3, len(user)))
    is_bill = np.zeros(len(user), dtype=np.bool_)
    is_bill[sizes[0] : billed_until] = True
    is_payment = np.zeros(len(user), dtype=np.bool_)
    is_payment[paid_from:] = True
    in_full = np.zeros(len(user), dtype=np.bool_)  # a part payment without an amount would count as in full
    in_full[paid_from:] = week.pay_count[payer] > 0
    balance = np.concatenate((week.pay_principal[user[: sizes[0]]], week.bill_principal[user[sizes[0] : billed_until]]))
    balance = np.concatenate((balance, week.pay_principal[user[billed_until:]]))
    numbers = np.concatenate(
        (
            week.reversed_no[user[: sizes[0]]],
            week.bill_no[user[sizes[0] : billed_until]],
            week.missed_no[user[billed_until:paid_from]],
            week.pay_first_no[payer] + position,
        )
    )
    return Draft(
        user,
        time_s,
        (
            kind,
            money(instalment),
            with_gaps(np.round(amount_paid, 2), (amount_paid == _NO_AMOUNT) | (in_full & (gaps[0] < 0.004))),
            with_gaps(past_due.astype(np.float64), (is_bill & ~traits.reports_missed[user]) | (gaps[1] < 0.02)),
            with_gaps(np.round(balance, 2), ~traits.reports_balance[user]),
            with_gaps(numbers, is_payment & (gaps[2] < 0.01)),
            [_date(day) for day in due_day.tolist()],
        ),
        _typed_repayments,
    )


def _position_in_run(users: Ints) -> Ints:
    """0, 1, 2 … within each run of the same user."""
    starts = np.flatnonzero(np.diff(users, prepend=-1) != 0)
    return np.arange(len(users)) - np.repeat(starts, np.diff(starts, append=len(users)))


def _seconds(spread: Floats, from_hour: int, hours: int) -> Ints:
    return ((from_hour + hours * spread) * 3600).astype(np.int64)


def _date(day: int) -> dt.date:
    date = _DATES.get(day)
    if date is None:
        date = _DATES[day] = dt.date(1970, 1, 1) + dt.timedelta(days=day)
    return date


def _typed_repayments(rows: Iterable[tuple[Any, ...]]) -> list[Event]:
    return [
        Repayment(
            event_id=event_id,
            user_id=user_id,
            occurred_at=occurred_at,
            kind=kind,
            amount_due=amount_due,
            amount_paid=amount_paid,
            days_past_due=days_past_due,
            balance=balance,
            instalment_no=instalment_no,
            due_date=due_date,
        )
        for (
            event_id,
            user_id,
            occurred_at,
            kind,
            amount_due,
            amount_paid,
            days_past_due,
            balance,
            instalment_no,
            due_date,
        ) in rows
    ]
