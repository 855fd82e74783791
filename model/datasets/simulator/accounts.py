"""Accounts: what becomes of each contract in a week, given the borrower's stress and the cash of the month.

Cash goes to contracts in the borrower's order of preference: the less of the month's payments comes before a contract,
the surer it is paid. Days past due follow from what is unpaid, oldest first. Given stress and cash, contracts do not
depend on each other, which is what lets `evidence` weigh each of them exactly.

All arrays are `[CONTRACTS, n]` but those of borrowers, `[n]`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from model.datasets.simulator.calendar import NOTICE_DAYS, Calendar
from model.datasets.simulator.columns import Flags, Floats, Ints
from model.datasets.simulator.portfolio import Traits
from model.datasets.simulator.state import (
    BEGINNING,
    CLOSED,
    NEVER,
    OPEN,
    TO_BILL,
    TO_BOUNCE,
    TO_CATCH_UP,
    TO_CLOSE,
    TO_COUNT,
    TO_EXTRA,
    TO_LEAVE,
    TO_NOTICE,
    TO_OPEN,
    TO_PART,
    TO_PAY_DAY,
    TO_RELIEF,
    WAITING,
    WRITTEN_OFF,
    Draws,
    Mind,
    State,
    Week,
)
from model.datasets.simulator.terms import shares_paid_first

DELINQUENCY_DAYS = 60
CHARGE_OFF_DAYS = 150
DELAY_SPREAD_DAYS, LATEST_DELAY_DAYS = 1.6, 14
PART_SHARE, EXTRA_RATE, OFFER_RATE = 0.3, 0.05, 0.01
"""Share of those payments that settle less than one instalment."""
_CASH_SPREAD, _OWN_SPREAD = 1.45, 0.5
"""How much of what decides on a bill is the month's cash, common to all contracts, and how much is the bill's own."""
_PREFERENCE = 6.0
"""How much surer, in log-odds, a contract is paid before which nothing has to be paid than one that comes last."""
_OPEN_RATE, _CLOSE_RATE, _LEAVE_RATE = 0.006, 0.002, 0.0016
_PRINCIPAL_SHARE = 0.82


class _Contracts(NamedTuple):
    """The contracts as the week begins."""

    running: Flags
    opened: Flags
    phase: Ints
    instalment_no: Ints
    principal: Floats
    paid_first: Floats


class _Bills(NamedTuple):
    """This week's bills and reversals. `unpaid` and `due_of_oldest` hold before the bill, with the reversal; `relief`
    is what the lender grants: bills to let pass, and with them any arrears are added to the balance."""

    back: Flags
    relief: Ints
    holiday: Ints  # bills to let pass, after this week
    unpaid: Ints
    due_of_oldest: Ints
    offset: Ints
    billed: Flags
    day: Ints
    days_past_due: Ints
    instalment_no: Ints
    month: Ints
    pay_day: Ints


class _Payments(NamedTuple):
    """This week's payments; `unpaid_then` instalments were unpaid just before, `settles` of them are paid."""

    pays: Flags
    offset: Ints
    day: Ints
    bill_before: Flags
    unpaid_then: Ints
    settles: Ints
    part: Floats
    first_share: Floats
    first_no: Ints
    first_month: Ints
    principal: Floats
    extra: Floats
    restructured: Flags
    catch_up_rate: Floats


def account(traits: Traits, state: State, calendar: Calendar, draws: Draws, mind: Mind, strain: Floats) -> Week:
    """The week's openings, reversals, bills, payments, missed payments and ends, in this causal order, and the state
    after them."""
    first_day, last_day = calendar.first_day, calendar.first_day + 6
    terms, uniform = traits.terms, draws.of_contract
    contracts = _begin(traits, state, uniform[TO_OPEN])
    bills = _bill(traits, state, calendar, mind, draws, contracts, strain)
    payments = _pay(traits, state, calendar, mind, bills, contracts, uniform)
    unpaid = bills.unpaid + bills.billed - payments.settles
    due_after = calendar.due_day(bills.month - unpaid + 1, terms.bill_dom)

    # The lender notices the latest bill unpaid one to three days after its due date. It looks at night and payments
    # come by day, so a payment of the same day is too late.
    noticed = bills.day + NOTICE_DAYS + 1 + (uniform[TO_NOTICE] * 3).astype(np.int64)
    missed_day = np.where(bills.billed, noticed, state.missed_day)
    looks = contracts.running & (missed_day >= first_day) & (missed_day <= last_day)
    pays_first = payments.pays & (payments.day < missed_day)
    missed = looks & (bills.unpaid + bills.billed > 0) & ~(pays_first & (payments.settles == payments.unpaid_then))
    oldest = np.where(pays_first, due_after, bills.due_of_oldest)

    # A payment of the bill's week may come before the bill.
    cleared = payments.pays & bills.billed & ~payments.bill_before
    left = np.where(unpaid > 1, np.maximum(bills.day - due_after, 0), 0)
    bill_days_past_due = np.where(cleared, left, bills.days_past_due)

    written_off = contracts.running & (unpaid > 0) & (due_after + CHARGE_OFF_DAYS <= last_day)
    closed = _closes(traits, contracts, payments, unpaid, draws)
    phase = np.where(closed, np.where(terms.waits, WAITING, CLOSED), contracts.phase)
    phase = np.where(written_off, WRITTEN_OFF, phase)
    after = _state_after(
        state,
        mind,
        first_day,
        bills,
        payments,
        phase=phase,
        closed=closed,
        unpaid=unpaid,
        missed_day=np.where(looks | closed, NEVER, missed_day),
        bounces=uniform[TO_BOUNCE] < 0.002 + 0.004 * np.clip(mind.stress, 0, 3),
        defaulted_day=_defaulted_day(state, first_day, bills, payments, due_after, unpaid, contracts.running),
    )
    return Week(
        calendar=calendar,
        draws=draws,
        state=after,
        running=contracts.running,
        opened=contracts.opened,
        generation=state.generation,
        paid_first=contracts.paid_first,
        catch_up_rate=payments.catch_up_rate,
        reversed_no=np.where(bills.back, state.instalment_no - state.unpaid, -1),
        reversed_month=state.bill_month - state.unpaid,
        bill_offset=bills.offset,
        bill_no=bills.instalment_no,
        bill_days_past_due=bill_days_past_due,
        bill_principal=np.where(payments.bill_before, contracts.principal, payments.principal),
        pay_offset=payments.offset,
        pay_first_no=payments.first_no,
        pay_first_month=payments.first_month,
        pay_count=payments.settles,
        pay_first_share=payments.first_share,
        pay_extra=payments.extra,
        restructured=payments.restructured,
        pay_principal=payments.principal,
        missed_offset=np.where(missed, missed_day - first_day, -1),
        missed_no=bills.instalment_no,
        missed_month=bills.month,
        missed_days_past_due=np.maximum(missed_day - oldest, 0),
        written_off_days=np.where(written_off, last_day - due_after, -1),
        closed=closed,
    )


def _state_after(
    state: State,
    mind: Mind,
    first_day: int,
    bills: _Bills,
    payments: _Payments,
    *,
    phase: Ints,
    closed: Flags,
    unpaid: Ints,
    missed_day: Ints,
    bounces: Flags,
    defaulted_day: Ints,
) -> State:
    """The state after a week, whose contracts end in `phase`."""
    ends = state.active & ~(phase == OPEN).any(axis=0)
    return State(
        regime=np.where(state.active, mind.regime, state.regime),
        stress=mind.stress,
        cash=mind.cash,
        story=np.where(state.active, mind.story, state.story),
        episode=mind.episode,
        episode_weeks=mind.episode_weeks,
        episodes_seen=np.where(state.active, mind.episodes_seen, state.episodes_seen),
        active=state.active & ~ends,
        defaulted_day=defaulted_day,
        ended_day=np.where(ends, first_day + 7, state.ended_day),
        phase=phase,
        generation=state.generation + closed,
        instalment_no=bills.instalment_no,
        bill_month=bills.month,
        unpaid=unpaid,
        part=payments.part,
        principal=payments.principal,
        pay_day=np.where(payments.pays | (bills.pay_day < first_day), NEVER, bills.pay_day),
        missed_day=missed_day,
        reversal=(payments.settles > 0)
        & (payments.part == 0)
        & bounces
        & ~payments.restructured
        & (payments.extra == 0),
        holiday=np.where(closed, 0, bills.holiday),
    )


def _begin(traits: Traits, state: State, draw: Floats) -> _Contracts:
    """Contracts that begin on the week's first day, and those that run. Lenders open none for borrowers in arrears."""
    terms = traits.terms
    calm = state.active & (state.defaulted_day == NEVER) & ~((state.phase == OPEN) & (state.unpaid > 0)).any(axis=0)
    anew = calm & (state.phase == WAITING) & (draw < _OPEN_RATE)
    beginning = state.active & (state.phase == BEGINNING)
    opened = anew | (beginning & (terms.age_months == 0))
    running = state.active & ((state.phase == OPEN) | (beginning & ~opened))
    return _Contracts(
        running=running,
        opened=opened,
        phase=np.where(beginning | anew, OPEN, state.phase),
        instalment_no=np.where(opened, 0, state.instalment_no),
        principal=np.where(anew, np.where(terms.revolving, 0.3 * terms.limit, terms.amount), state.principal),
        paid_first=shares_paid_first(terms, running),
    )


def ask_rate(stress: Floats, strain: Floats) -> Floats:
    """Probability that a borrower without arrears asks in a week for bills to pass, and may, `[n]`; how likely it is of
    one contract goes by its share of the payments."""
    return np.where(stress > 1.0, np.minimum(0.03 * (1.0 + strain), 1.0), 0.0)


def own_shares(paid_first: Floats) -> Floats:
    """Each contract's share of what a borrower has to pay in a month, from `terms.shares_paid_first`."""
    shares: Floats = np.diff(paid_first, axis=0, prepend=0.0)
    return shares


def _relief(
    state: State,
    calendar: Calendar,
    stress: Floats,
    due_of_oldest: Ints,
    contracts: _Contracts,
    strain: Floats,
    draw: Floats,
) -> Ints:
    """Bills that the lender lets pass from this week on: for borrowers under stress who ask in time, for arrears of 30
    days and more, and one in December for any borrower who wants it."""
    settled = (state.unpaid == 0) & (state.pay_day == NEVER)
    share = own_shares(contracts.paid_first)
    asks = settled & (draw < share * ask_rate(stress, strain))
    late_days = np.where(state.unpaid > 0, calendar.first_day - due_of_oldest, 0)
    restructured = (late_days >= 30) & (late_days < 120) & (draw < 0.03)
    offered = settled & (draw < share * (OFFER_RATE if calendar.year_phase > 0.9 else 0.0))
    may = contracts.running & ~state.reversal & (state.holiday == 0)
    return np.where(may, np.select([restructured, asks, offered], [2, 2, 1], 0), 0)


def _bill(
    traits: Traits,
    state: State,
    calendar: Calendar,
    mind: Mind,
    draws: Draws,
    contracts: _Contracts,
    strain: Floats,
) -> _Bills:
    """The reversal of last week's payment, the bill, and the day on which a borrower without arrears intends to pay."""
    dom = traits.terms.bill_dom
    back = state.reversal & contracts.running & (state.part == 0)
    unpaid = np.where(contracts.opened, 0, state.unpaid) + back
    due_of_oldest = calendar.due_day(state.bill_month - unpaid + 1, dom)
    relief = _relief(state, calendar, mind.stress, due_of_oldest, contracts, strain, draws.of_contract[TO_RELIEF])
    holiday = np.maximum(state.holiday, relief)
    offset = np.where(contracts.running, calendar.offset_of_dom[dom], -1)
    passes = (offset >= 0) & (holiday > 0)
    offset = np.where(passes, -1, offset)
    billed = offset >= 0
    day = calendar.first_day + offset
    missing = miss_rate(traits, mind.stress, mind.cash, contracts.paid_first)
    means_to_pay = draws.of_contract[TO_BILL] >= missing
    delay = np.rint(usual_delay_days(traits, mind.stress) + DELAY_SPREAD_DAYS * draws.delay)
    planned = day + NOTICE_DAYS + np.clip(delay, 1 - NOTICE_DAYS, LATEST_DELAY_DAYS).astype(np.int64)
    plans = billed & (unpaid == 0) & means_to_pay
    return _Bills(
        back=back,
        relief=relief,
        holiday=holiday - passes,
        unpaid=unpaid,
        due_of_oldest=due_of_oldest,
        offset=offset,
        billed=billed,
        day=day,
        days_past_due=np.where(unpaid > 0, np.maximum(day - due_of_oldest, 0), 0),
        instalment_no=contracts.instalment_no + billed,
        month=np.where(billed, calendar.month_of_dom[dom], state.bill_month),
        pay_day=np.where(plans, planned, np.where(billed | contracts.opened, NEVER, state.pay_day)),
    )


def _pay(
    traits: Traits,
    state: State,
    calendar: Calendar,
    mind: Mind,
    bills: _Bills,
    contracts: _Contracts,
    draws: Floats,
) -> _Payments:
    """The payment that was planned for this week, or a catch-up on arrears: all, one instalment, or part of one."""
    first_day, stress = calendar.first_day, mind.stress
    planned = (bills.pay_day >= first_day) & (bills.pay_day < first_day + 7)
    restructured = (bills.relief > 0) & (bills.unpaid > 0)
    late = contracts.running & (state.unpaid > 0) & (bills.pay_day == NEVER) & (bills.due_of_oldest < first_day)
    late_days = first_day - bills.due_of_oldest
    rate = catch_up_rate(traits, calendar, stress, mind.cash, contracts.paid_first, late_days)
    catches_up = late & (draws[TO_CATCH_UP] < rate)
    pays = contracts.running & (planned | catches_up | restructured)
    offset = np.where(pays, np.where(planned, bills.pay_day - first_day, (draws[TO_PAY_DAY] * 7).astype(np.int64)), -1)
    bill_before = bills.billed & (bills.offset <= offset)
    unpaid_then = bills.unpaid + bill_before
    one_only = draws[TO_COUNT] < one_only_share(traits, stress)
    partly = catches_up & one_only & (draws[TO_PART] < PART_SHARE) & (state.part < 0.6) & ~restructured
    count = np.where(pays & ~partly, np.where(one_only & ~restructured, 1, unpaid_then), 0)
    # Extra payments come at random: one payment in twenty adds up to three instalments.
    adds = pays & (draws[TO_EXTRA] < EXTRA_RATE) & (stress < 0.5) & ~restructured & ~partly
    extra = np.where(adds, 3.0 * draws[TO_EXTRA] / EXTRA_RATE, 0.0)
    settled = np.where(partly, 0.3, count) * traits.overpays + extra
    settled = traits.terms.instalment * np.where(restructured, -0.18 * count, _PRINCIPAL_SHARE * settled)
    settled = np.where(traits.terms.revolving, 0.0, settled)
    return _Payments(
        pays=pays,
        offset=offset,
        day=first_day + offset,
        bill_before=bill_before,
        unpaid_then=unpaid_then,
        settles=count,
        part=np.where(partly, state.part + 0.3, np.where((count > 0) | contracts.opened, 0.0, state.part)),
        first_share=np.where(partly, 0.3, 1.0 - state.part),
        first_no=contracts.instalment_no + bill_before - unpaid_then + 1,
        first_month=np.where(bill_before, bills.month, state.bill_month) - unpaid_then + 1,
        principal=np.maximum(contracts.principal - settled, 0.0),
        extra=extra,
        restructured=restructured,
        catch_up_rate=np.where(late, rate, 0.0),
    )


def _closes(traits: Traits, contracts: _Contracts, payments: _Payments, unpaid: Ints, draws: Draws) -> Flags:
    """Contracts that end on the week's last day: loans that are paid off, single contracts given up, and all of a
    borrower who goes to another lender."""
    quiet = (unpaid == 0) & ~payments.pays
    may = contracts.running & quiet
    paid_off = ~traits.terms.revolving & (payments.principal < 0.5 * traits.terms.instalment)
    others = contracts.running.sum(axis=0) > 1
    leaves = (draws.uniform[TO_LEAVE] < _LEAVE_RATE) & (quiet | ~contracts.running).all(axis=0)
    leaves &= ~contracts.opened.any(axis=0)
    flags: Flags = may & (paid_off | leaves | (others & (draws.of_contract[TO_CLOSE] < _CLOSE_RATE)))
    return flags


def _logistic(values: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-values))


def miss_rate(traits: Traits, stress: Floats, cash: Floats, paid_first: Floats) -> Floats:
    """Probability that a borrower without arrears on a contract does not intend to pay its bill: the month's cash does
    not reach to it. `paid_first` is from `terms.shares_paid_first`."""
    habit = 0.9 * traits.forgetful + 2.2 * (traits.rolls_at_days > 0)
    lacking = -4.7 + 1.75 * stress + habit - _CASH_SPREAD * cash
    return _logistic((lacking - _PREFERENCE * (1.0 - paid_first)) / _OWN_SPREAD)


def usual_delay_days(traits: Traits, stress: Floats) -> Floats:
    """Mean days from the due date to an intended payment; their spread is `DELAY_SPREAD_DAYS`."""
    return traits.pay_delay_days + 1.5 * np.maximum(stress, 0)


def one_only_share(traits: Traits, stress: Floats) -> Floats:
    """Probability that a payment on arrears settles at most one instalment, `[n]`."""
    return np.clip(0.25 + 0.2 * stress + 0.5 * (traits.rolls_at_days > 0), 0.1, 0.85)


def catch_up_rate(
    traits: Traits, calendar: Calendar, stress: Floats, cash: Floats, paid_first: Floats, late_days: Ints
) -> Floats:
    """Probability that a borrower in arrears on a contract pays on it this week: higher with cash, a tax refund or once
    the lender insists, and for contracts that are paid first; lower for borrowers who roll their arrears, until these
    reach the age at which they pay."""
    lacking = 1.65 * stress - 0.6 * cash - 0.5 * (late_days >= 30) - _PREFERENCE / 2 * (1.0 - paid_first)
    rate = 0.6 * _logistic(2.3 - lacking)
    rate = rate * np.where(late_days < traits.rolls_at_days, 0.2, 1.0)
    return np.where(refund_comes(traits, calendar), np.maximum(rate, 0.5), rate)


def refund_comes(traits: Traits, calendar: Calendar) -> Flags:
    """Whether this week brings the tax refund, `[n]`."""
    phase = calendar.year_phase
    return (traits.refund_phase >= phase) & (traits.refund_phase < phase + 7 / 365.25)


def _defaulted_day(
    state: State,
    first_day: int,
    bills: _Bills,
    payments: _Payments,
    due_after: Ints,
    unpaid: Ints,
    running: Flags,
) -> Ints:
    """First day on which any contract is at `DELINQUENCY_DAYS`, by what was unpaid before the week's payment or by what
    is unpaid after it, `[n]`."""
    beyond = first_day + 7
    before = np.where(bills.unpaid > 0, np.maximum(bills.due_of_oldest + DELINQUENCY_DAYS, first_day), beyond)
    before = np.where((payments.settles > 0) & (before > payments.day), beyond, before)
    after = np.where(unpaid > 0, np.maximum(due_after + DELINQUENCY_DAYS, first_day), beyond)
    defaulted_day = np.where(running, np.minimum(before, after), beyond).min(axis=0)
    return np.where(
        (state.defaulted_day == NEVER) & state.active & (defaulted_day < beyond), defaulted_day, state.defaulted_day
    )
