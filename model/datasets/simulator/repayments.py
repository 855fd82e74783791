"""Repayments: the events that a lender would publish about the contracts of a week of `life`. Reads the truth about
bills and payments only, never the latent regime or stress.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from events.types import Event, Repayment
from model.datasets.simulator.columns import Floats, Ints
from model.datasets.simulator.drafts import DAY_S, Draft, named_contracts, with_gaps
from model.datasets.simulator.portfolio import Traits
from model.datasets.simulator.state import Week

_DATES: dict[int, dt.date] = {}
_NO_DAY = -(10**6)


@dataclass(frozen=True)
class _Rows:
    """Repayment events of one kind; `columns` are place, user, day, second of the day, due day, number, days past due,
    balance, amount due, amount paid, amount and term, arrays `[events]`. What the event does not have is NaN, `_NO_DAY`
    or, as a number, -1."""

    kind: str
    columns: tuple[Any, ...]

    @property
    def user(self) -> Ints:
        users: Ints = self.columns[1]
        return users


def draft_repayments(traits: Traits, week: Week, line_balance: Floats, rng: np.random.Generator) -> Draft:
    """Openings, reversals, restructurings (at night), bills (early morning), missed payments (at night), payments (by
    day), and write-offs and ends (late in the evening) of a week. `line_balance` `[n]` is what the line owes whose
    movements are visible."""
    spread = rng.random((3, *week.running.shape))
    rows = (
        _opened(traits, week),
        _reversed(traits, week, spread[0]),
        _restructured(traits, week, spread[2]),
        _billed(traits, week, spread[0]),
        _missed(traits, week, spread[1]),
        _paid(traits, week, spread[2]),
        _written_off(week),
        _closed(traits, week),
    )
    return _draft(traits, week, rows, line_balance, rng)


def _rows(kind: str, place: Ints, user: Ints, day: Ints, second: Ints, **columns: Floats | Ints) -> _Rows:
    """Events without the values that are not given."""
    unknown = np.full(len(user), np.nan)
    others: dict[str, Floats | Ints] = {
        "due_day": np.full(len(user), _NO_DAY),
        "number": np.full(len(user), -1),
        "past_due": unknown,
        "balance": unknown,
        "amount_due": unknown,
        "amount_paid": unknown,
        "amount": unknown,
        "term_months": unknown,
    }
    return _Rows(kind, (place, user, day, second, *(others | columns).values()))


def _opened(traits: Traits, week: Week) -> _Rows:
    place, user = np.nonzero(week.opened)
    at, terms = (place, user), traits.terms
    loan = ~terms.revolving[at]
    return _rows(
        "opened",
        place,
        user,
        np.full(len(user), week.calendar.first_day),
        np.full(len(user), 900),
        balance=np.where(loan, week.pay_principal[at], 0.0),
        amount=np.where(loan, terms.amount[at], np.nan),
        term_months=np.where(loan, terms.term_months[at], np.nan),
    )


def _reversed(traits: Traits, week: Week, spread: Floats) -> _Rows:
    place, user = np.nonzero(week.reversed_no >= 0)
    at = (place, user)
    day = week.calendar.first_day + traits.report_lag_days[user]
    due_day = week.calendar.due_day(week.reversed_month[at], traits.terms.bill_dom[at])
    instalment = traits.terms.instalment[at]
    return _rows(
        "reversed",
        place,
        user,
        day,
        _seconds(spread[at], 1, 1),
        due_day=due_day,
        number=week.reversed_no[at],
        past_due=(day - due_day).astype(np.float64),
        balance=week.pay_principal[at],
        amount_due=instalment,
        amount_paid=np.round(instalment * traits.overpays[user], 2),
    )


def _restructured(traits: Traits, week: Week, spread: Floats) -> _Rows:
    """Arrears that are added to the balance."""
    place, user = np.nonzero(week.restructured & traits.reports_missed)
    at = (place, user)
    return _rows(
        "restructured",
        place,
        user,
        week.calendar.first_day + week.pay_offset[at],
        _seconds(spread[at], 21, 1),
        past_due=np.zeros(len(user)),
        balance=week.pay_principal[at],
    )


def _billed(traits: Traits, week: Week, spread: Floats) -> _Rows:
    place, user = np.nonzero(week.bill_offset >= 0)
    at = (place, user)
    days = week.bill_days_past_due[at].astype(np.float64)
    return _rows(
        "due",
        place,
        user,
        week.calendar.first_day + week.bill_offset[at],
        _seconds(spread[at], 4, 2),
        due_day=week.calendar.due_day(week.state.bill_month[at], traits.terms.bill_dom[at]),
        number=week.bill_no[at],
        past_due=np.where(traits.reports_missed[user], days, np.nan),
        balance=week.bill_principal[at],
        amount_due=traits.terms.instalment[at],
    )


def _missed(traits: Traits, week: Week, spread: Floats) -> _Rows:
    place, user = np.nonzero((week.missed_offset >= 0) & traits.reports_missed)
    at = (place, user)
    return _rows(
        "missed",
        place,
        user,
        week.calendar.first_day + week.missed_offset[at],
        _seconds(spread[at], 2, 2),
        due_day=week.calendar.due_day(week.missed_month[at], traits.terms.bill_dom[at]),
        number=week.missed_no[at],
        past_due=week.missed_days_past_due[at].astype(np.float64),
        balance=week.pay_principal[at],
        amount_due=traits.terms.instalment[at],
    )


def _paid(traits: Traits, week: Week, spread: Floats) -> _Rows:
    """An event for each instalment that a payment settles; lenders who report nothing missed count restructured arrears
    as paid, without an amount."""
    place, user = np.nonzero((week.pay_offset >= 0) & ~(week.restructured & traits.reports_missed))
    entries = np.maximum(week.pay_count[place, user], 1)
    step = np.arange(entries.sum()) - np.repeat(np.cumsum(entries) - entries, entries)
    place, user = np.repeat(place, entries), np.repeat(user, entries)
    at = (place, user)
    due_day = week.calendar.due_day(week.pay_first_month[at] + step, traits.terms.bill_dom[at])
    # For a late report, the days past due are those on the day of the report.
    day = week.calendar.first_day + week.pay_offset[at] + traits.report_lag_days[user]
    instalment, first = traits.terms.instalment[at], step == 0
    # A payment of the amount due says how late it is; what completes part payments, what is past due on the contract.
    completes = first & (week.pay_count[at] > 0) & (week.pay_first_share[at] < 1)
    unpaid = week.state.unpaid[at]
    oldest = week.calendar.due_day(week.state.bill_month[at] - unpaid + 1, traits.terms.bill_dom[at])
    of_contract = np.where(unpaid > 0, np.maximum(day - oldest, 0), 0)
    amount = instalment * np.where(week.pay_count[at] > 0, traits.overpays[user], 1.0)
    amount = amount * np.where(first, week.pay_first_share[at], 1.0)
    amount += np.where(first, week.pay_extra[at], 0.0) * instalment
    return _rows(
        "paid",
        place,
        user,
        day,
        _seconds(spread[at], 7, 14) + step,
        due_day=due_day,
        number=week.pay_first_no[at] + step,
        past_due=np.where(completes, of_contract, day - due_day).astype(np.float64),
        balance=week.pay_principal[at],
        amount_due=instalment,
        amount_paid=np.where(week.restructured[at], np.nan, np.round(amount, 2)),
    )


def _written_off(week: Week) -> _Rows:
    place, user = np.nonzero(week.written_off_days >= 0)
    days = week.written_off_days[place, user].astype(np.float64)
    return _last(week, "written_off", place, user, past_due=days, balance=week.pay_principal[place, user])


def _closed(traits: Traits, week: Week) -> _Rows:
    place, user = np.nonzero(week.closed & traits.reports_end)
    return _last(week, "closed", place, user, balance=np.zeros(len(user)))


def _last(week: Week, kind: str, place: Ints, user: Ints, **columns: Floats) -> _Rows:
    """Events late in the evening of the week's last day."""
    day = np.full(len(user), week.calendar.first_day + 6)
    return _rows(kind, place, user, day, np.full(len(user), 23 * 3600), **columns)


def _draft(
    traits: Traits, week: Week, parts: tuple[_Rows, ...], line_balance: Floats, rng: np.random.Generator
) -> Draft:
    """The draft without the values that lenders leave out: balances, now and then days past due, what was paid and of
    which instalment."""
    place, user, day, second, due_day, number, past_due, balance, due, paid, amount, term = (
        np.concatenate(columns) for columns in zip(*(part.columns for part in parts), strict=True)
    )
    kind = [part.kind for part in parts for _ in range(len(part.user))]
    is_payment = np.repeat([part.kind == "paid" for part in parts], [len(part.user) for part in parts])
    # A part payment without an amount would count as in full.
    in_full = is_payment & (week.pay_count[place, user] > 0)
    # One that completes part payments replaces what they reported.
    short = is_payment & (paid < due)
    of_line = (place == traits.line[user]) & (balance > 0)
    balance = np.where(of_line, line_balance[user], balance)
    gaps = rng.random((3, len(user)))
    return Draft(
        user,
        day * DAY_S + second,
        (
            kind,
            _known(due),
            _known(np.where(in_full & (gaps[0] < 0.004), np.nan, paid)),
            _known(np.where((gaps[1] < 0.02) & ~short, np.nan, past_due)),
            _known(np.where(traits.reports_balance[user], np.round(balance, 2), np.nan)),
            with_gaps(number, (number < 0) | (is_payment & (gaps[2] < 0.01))),
            [_date(each) for each in due_day.tolist()],
            *named_contracts(traits, place, user, week.generation, np.ones(len(user), dtype=np.bool_)),
            _known(amount),
            _known(term),
        ),
        _typed_repayments,
    )


def _known(values: Floats) -> list[Any]:
    """Values as Python objects, None for NaN."""
    return with_gaps(values, np.isnan(values))


def _seconds(spread: Floats, from_hour: int, hours: int) -> Ints:
    return ((from_hour + hours * spread) * 3600).astype(np.int64)


def _date(day: int) -> dt.date | None:
    if day == _NO_DAY:
        return None
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
            contract_id=contract_id,
            currency=currency,
            amount=amount,
            term_months=term_months,
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
            contract_id,
            currency,
            amount,
            term_months,
        ) in rows
    ]
