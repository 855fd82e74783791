"""Life: the latent process of each simulated borrower and the accounting of their instalments, one week at a time.

This is the truth; `repayments` and `behaviour` make events of it, `hazard` computes the probability of default. A
borrower's regime (stable, sliding, in shock, …) sets the target of their stress; stress decides whether and when bills
are paid; days past due follow from what is unpaid, oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from model.datasets.simulator.calendar import NOTICE_DAYS, Calendar
from model.datasets.simulator.portfolio import Columns, Flags, Floats, Ints, Traits

STABLE, SLIDE, SHOCK, CASH_OUT, GONE, NO_SIGN, RECOVERY = range(7)
MOVING, INCOME_SWITCH, BANK_SWITCH, CASH_PURCHASE, PAYDAY_SHIFT = 1, 2, 4, 8, 16
EPISODE_NAMES = {
    MOVING: "moving_house",
    INCOME_SWITCH: "income_switch",
    BANK_SWITCH: "bank_switch",
    CASH_PURCHASE: "cash_purchase",
    PAYDAY_SHIFT: "payday_shift",
}
EPISODE_WEEKS = 7
DELINQUENCY_DAYS = 60
CHARGE_OFF_DAYS = 150
DELAY_SPREAD_DAYS, LATEST_DELAY_DAYS = 1.6, 14
PART_SHARE, EXTRA_RATE, OFFER_RATE = 0.3, 0.05, 0.01
"""Share of those payments that settle less than one instalment."""
NEVER = np.int64(-1)
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
TO_REGIME, TO_EPISODE, TO_BILL, TO_CATCH_UP, TO_PAY_DAY, TO_COUNT, TO_PART, TO_EXTRA, TO_NOTICE, TO_RELIEF = range(10)
TO_LEAVE, TO_BOUNCE = 10, 11
UNIFORM_DRAWS = 12
TO_STRESS, TO_DELAY = 0, 1
NORMAL_DRAWS = 2
"""Indices of a week's draws. Their number is fixed, so that the streams of random numbers stay aligned."""


@dataclass(frozen=True)
class State(Columns):
    """Everything about the borrowers that changes, arrays `[n]`; days count from 1970-01-01."""

    regime: Ints
    stress: Floats
    story: Ints  # the latest regime that a decline began with; STABLE if none did
    episode: Ints  # harmless look-alike: 0, or MOVING, INCOME_SWITCH, …
    episode_weeks: Ints  # weeks left of it
    episodes_seen: Ints  # bit mask of look-alikes so far
    active: Flags
    instalment_no: Ints  # of the latest bill
    bill_month: Ints  # of the latest bill
    unpaid: Ints  # instalments billed and not fully paid; always the latest ones
    part: Floats  # share of the oldest unpaid instalment that is paid
    principal: Floats
    pay_day: Ints  # when the latest bill will be paid, NEVER if not decided
    missed_day: Ints  # when the lender will notice the latest bill, NEVER if done
    reversal: Flags  # last week's payment comes back
    holiday: Ints  # bills that the lender still lets pass; nothing is unpaid meanwhile
    defaulted_day: Ints  # first day at DELINQUENCY_DAYS, NEVER if not yet
    ended_day: Ints  # paid off or charged off, NEVER if not yet


@dataclass(frozen=True)
class Week:
    """What happened in a week, from which events are made; arrays `[n]`, offsets are days, -1 is no."""

    calendar: Calendar
    draws: Draws  # the week's random numbers
    state: State  # after the week
    catch_up_rate: Floats  # probability of a payment on arrears in this week
    reversed_no: Ints  # instalment whose payment came back on the week's first day, -1 is no
    reversed_month: Ints
    bill_offset: Ints
    bill_no: Ints
    bill_days_past_due: Ints
    bill_principal: Floats
    pay_offset: Ints
    pay_first_no: Ints
    pay_first_month: Ints
    pay_count: Ints  # instalments settled
    pay_first_share: Floats  # share of an instalment that the first payment is
    pay_extra: Floats  # instalments paid on top, once
    capitalised: Flags  # no payment: the lender adds the arrears to the balance and counts them as settled
    pay_principal: Floats
    missed_offset: Ints
    missed_no: Ints
    missed_month: Ints
    missed_days_past_due: Ints

    def take(self, rows: Ints) -> Week:
        """The week of a selection of borrowers."""
        own: dict[str, Any] = {
            "calendar": self.calendar,
            "draws": self.draws.take(rows),
            "state": self.state.take(rows),
        }
        own |= {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name not in own}
        return Week(**own)


def fresh_state(traits: Traits) -> State:
    """Borrowers who have just begun: stable, nothing billed."""
    count = len(traits.frailty)
    zeros = np.zeros(count, dtype=np.int64)
    none = np.zeros(count, dtype=np.bool_)
    never = np.full(count, NEVER)
    return State(
        regime=zeros,
        stress=np.zeros(count),
        story=zeros,
        episode=zeros,
        episode_weeks=zeros,
        episodes_seen=zeros,
        active=~none,
        instalment_no=traits.first_instalment.copy(),
        bill_month=zeros,
        unpaid=zeros,
        part=np.zeros(count),
        principal=traits.principal.copy(),
        pay_day=never,
        missed_day=never,
        reversal=none,
        holiday=zeros,
        defaulted_day=never,
        ended_day=never,
    )


def replaced(state: State, fresh: State, rows: Flags, active: Flags) -> State:
    """`state` with some rows begun anew, and who is active set."""
    names = [field.name for field in fields(state)]
    merged = {name: np.where(rows, getattr(fresh, name), getattr(state, name)) for name in names}
    return State(**{**merged, "active": active})


class Draws(NamedTuple):
    """Random numbers of `n` borrowers for a week: uniform `[12, n]` by the constants below, normal `[2, n]` for the
    stress and for the day of payment."""

    uniform: Floats
    normal: Floats

    @classmethod
    def of(cls, rng: np.random.Generator, count: int) -> Draws:
        return cls(rng.random((UNIFORM_DRAWS, count)), rng.standard_normal((NORMAL_DRAWS, count)))

    def take(self, rows: Ints) -> Draws:
        """The draws of a selection of borrowers."""
        return Draws(self.uniform[:, rows], self.normal[:, rows])


def step(traits: Traits, state: State, draws: Draws, calendar: Calendar, strain: Floats) -> Week:
    """One week under a `strain` `[n]` or `[1]`; a function of the arguments alone."""
    return _account(traits, state, calendar, draws, next_mind(traits, state, draws, calendar, strain), strain)


def next_mind(traits: Traits, state: State, draws: Draws, calendar: Calendar, strain: Floats) -> Mind:
    """The latent side of a week: regime, look-alike and stress."""
    uniform, normal = draws
    regime, story = _next_regime(traits, state, uniform[TO_REGIME], strain)
    episode, episode_weeks, seen = _next_episode(state, uniform[TO_EPISODE])
    stress = _next_stress(traits, state, regime, episode, normal[TO_STRESS], calendar)
    return Mind(regime, story, episode, episode_weeks, seen, stress)


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


def _logistic(values: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-values))


class Mind(NamedTuple):
    """The latent side of the week that the accounting of the same week follows."""

    regime: Ints
    story: Ints
    episode: Ints
    episode_weeks: Ints
    episodes_seen: Ints
    stress: Floats

    def take(self, rows: Ints) -> Mind:
        """The minds of a selection of borrowers."""
        return Mind(
            self.regime[rows],
            self.story[rows],
            self.episode[rows],
            self.episode_weeks[rows],
            self.episodes_seen[rows],
            self.stress[rows],
        )


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
    capitalised: Flags
    catch_up_rate: Floats


def ask_rate(stress: Floats, strain: Floats) -> Floats:
    """Probability that a borrower without arrears asks in a week for bills to pass, and may, `[n]`."""
    return np.where(stress > 1.0, np.minimum(0.03 * (1.0 + strain), 1.0), 0.0)


def _relief(
    state: State, calendar: Calendar, stress: Floats, due_of_oldest: Ints, strain: Floats, draw: Floats
) -> Ints:
    """Bills that the lender lets pass from this week on: for borrowers under stress who ask in time, for arrears of 30
    days and more, and one in December for any borrower who wants it."""
    settled = (state.unpaid == 0) & (state.pay_day == NEVER)
    asks = settled & (draw < ask_rate(stress, strain))
    late_days = np.where(state.unpaid > 0, calendar.first_day - due_of_oldest, 0)
    restructured = (late_days >= 30) & (late_days < 120) & (draw < 0.03)
    offered = settled & (draw < (OFFER_RATE if calendar.year_phase > 0.9 else 0.0))
    may = state.active & ~state.reversal & (state.holiday == 0)
    return np.where(may, np.select([restructured, asks, offered], [2, 2, 1], 0), 0)


def _bill(traits: Traits, state: State, calendar: Calendar, stress: Floats, draws: Draws, strain: Floats) -> _Bills:
    """The reversal of last week's payment, the bill, and the day on which a borrower without arrears intends to pay."""
    back = state.reversal & state.active & (state.part == 0)
    unpaid = state.unpaid + back
    due_of_oldest = calendar.due_day(state.bill_month - unpaid + 1, traits.bill_dom)
    relief = _relief(state, calendar, stress, due_of_oldest, strain, draws.uniform[TO_RELIEF])
    holiday = np.maximum(state.holiday, relief)
    offset = np.where(state.active, calendar.offset_of_dom[traits.bill_dom], -1)
    passes = (offset >= 0) & (holiday > 0)
    offset = np.where(passes, -1, offset)
    billed = offset >= 0
    day = calendar.first_day + offset
    means_to_pay = draws.uniform[TO_BILL] >= miss_rate(traits, stress)
    delay = np.rint(usual_delay_days(traits, stress) + DELAY_SPREAD_DAYS * draws.normal[TO_DELAY])
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
        instalment_no=state.instalment_no + billed,
        month=np.where(billed, calendar.month_of_dom[traits.bill_dom], state.bill_month),
        pay_day=np.where(plans, planned, np.where(billed, NEVER, state.pay_day)),
    )


def _pay(traits: Traits, state: State, calendar: Calendar, stress: Floats, bills: _Bills, draws: Floats) -> _Payments:
    """The payment that was planned for this week, or a catch-up on arrears: all, one instalment, or part of one."""
    first_day = calendar.first_day
    planned = (bills.pay_day >= first_day) & (bills.pay_day < first_day + 7)
    capitalised = (bills.relief > 0) & (bills.unpaid > 0)
    late = state.active & (state.unpaid > 0) & (bills.pay_day == NEVER) & (bills.due_of_oldest < first_day)
    late_days = first_day - bills.due_of_oldest
    rate = catch_up_rate(traits, calendar, stress, late_days)
    catches_up = late & (draws[TO_CATCH_UP] < rate)
    pays = state.active & (planned | catches_up | capitalised)
    offset = np.where(pays, np.where(planned, bills.pay_day - first_day, (draws[TO_PAY_DAY] * 7).astype(np.int64)), -1)
    bill_before = bills.billed & (bills.offset <= offset)
    unpaid_then = bills.unpaid + bill_before
    one_only = draws[TO_COUNT] < one_only_share(traits, stress)
    partly = catches_up & one_only & (draws[TO_PART] < PART_SHARE) & (state.part < 0.6) & ~capitalised
    count = np.where(pays & ~partly, np.where(one_only & ~capitalised, 1, unpaid_then), 0)
    # Extra payments come at random: one payment in twenty adds up to three instalments.
    extra = np.where(
        pays & (draws[TO_EXTRA] < EXTRA_RATE) & (stress < 0.5) & ~capitalised, 3.0 * draws[TO_EXTRA] / EXTRA_RATE, 0.0
    )
    settled = np.where(partly, 0.3, count) * traits.overpays + extra
    settled = traits.instalment * np.where(capitalised, -0.18 * count, 0.82 * settled)
    return _Payments(
        pays=pays,
        offset=offset,
        day=first_day + offset,
        bill_before=bill_before,
        unpaid_then=unpaid_then,
        settles=count,
        part=np.where(partly, state.part + 0.3, np.where(count > 0, 0.0, state.part)),
        first_share=np.where(partly, 0.3, 1.0 - state.part),
        first_no=state.instalment_no + bill_before - unpaid_then + 1,
        first_month=np.where(bill_before, bills.month, state.bill_month) - unpaid_then + 1,
        principal=np.maximum(state.principal - settled, 0.0),
        extra=extra,
        capitalised=capitalised,
        catch_up_rate=np.where(late, rate, 0.0),
    )


def miss_rate(traits: Traits, stress: Floats) -> Floats:
    """Probability that a borrower without arrears does not intend to pay a bill, `[n]`."""
    return _logistic(-4.8 + 1.75 * stress + 0.9 * traits.forgetful + 2.2 * (traits.rolls_at_days > 0))


def usual_delay_days(traits: Traits, stress: Floats) -> Floats:
    """Mean days from the due date to an intended payment, `[n]`; their spread is `DELAY_SPREAD_DAYS`."""
    return traits.pay_delay_days + 1.5 * np.maximum(stress, 0)


def one_only_share(traits: Traits, stress: Floats) -> Floats:
    """Probability that a payment on arrears settles at most one instalment, `[n]`."""
    return np.clip(0.25 + 0.2 * stress + 0.5 * (traits.rolls_at_days > 0), 0.1, 0.85)


def catch_up_rate(traits: Traits, calendar: Calendar, stress: Floats, late_days: Ints) -> Floats:
    """Probability that a borrower in arrears pays this week: higher with a tax refund or once the lender insists, lower
    for borrowers who roll their arrears, until these reach the age at which they pay."""
    rate = 0.6 * _logistic(2.3 - 1.65 * stress + 0.5 * (late_days >= 30))
    rate = rate * np.where(late_days < traits.rolls_at_days, 0.2, 1.0)
    return np.where(refund_comes(traits, calendar), np.maximum(rate, 0.5), rate)


def refund_comes(traits: Traits, calendar: Calendar) -> Flags:
    """Whether this week brings the tax refund, `[n]`."""
    phase = calendar.year_phase
    return (traits.refund_phase >= phase) & (traits.refund_phase < phase + 7 / 365.25)


def _defaulted_day(
    state: State, first_day: int, bills: _Bills, payments: _Payments, due_after: Ints, unpaid: Ints
) -> Ints:
    """First day at `DELINQUENCY_DAYS`, by what was unpaid before the week's payment or by what is unpaid after it."""
    beyond = first_day + 7
    before = np.where(bills.unpaid > 0, np.maximum(bills.due_of_oldest + DELINQUENCY_DAYS, first_day), beyond)
    before = np.where((payments.settles > 0) & (before > payments.day), beyond, before)
    after = np.where(unpaid > 0, np.maximum(due_after + DELINQUENCY_DAYS, first_day), beyond)
    defaulted_day = np.minimum(before, after)
    return np.where(
        (state.defaulted_day == NEVER) & state.active & (defaulted_day < beyond), defaulted_day, state.defaulted_day
    )


def _account(traits: Traits, state: State, calendar: Calendar, draws: Draws, mind: Mind, strain: Floats) -> Week:
    """The week's reversal, bill, payment and missed payment, in this causal order, and the state after them."""
    first_day, last_day = calendar.first_day, calendar.first_day + 6
    bills = _bill(traits, state, calendar, mind.stress, draws, strain)
    payments = _pay(traits, state, calendar, mind.stress, bills, draws.uniform)
    unpaid = bills.unpaid + bills.billed - payments.settles
    due_after = calendar.due_day(bills.month - unpaid + 1, traits.bill_dom)

    # The lender notices the latest bill unpaid one to three days after its due date. It looks at night and payments
    # come by day, so a payment of the same day is too late.
    noticed = bills.day + NOTICE_DAYS + 1 + (draws.uniform[TO_NOTICE] * 3).astype(np.int64)
    missed_day = np.where(bills.billed, noticed, state.missed_day)
    looks = state.active & (missed_day >= first_day) & (missed_day <= last_day)
    pays_first = payments.pays & (payments.day < missed_day)
    missed = looks & (bills.unpaid + bills.billed > 0) & ~(pays_first & (payments.settles == payments.unpaid_then))
    oldest = np.where(pays_first, due_after, bills.due_of_oldest)

    # Paid off and left, or charged off.
    charged_off = (unpaid > 0) & (due_after + CHARGE_OFF_DAYS <= last_day)
    leaves = (unpaid == 0) & (draws.uniform[TO_LEAVE] < 0.0016) & ~payments.pays
    ends = state.active & (charged_off | leaves)
    bounces = draws.uniform[TO_BOUNCE] < 0.002 + 0.004 * np.clip(mind.stress, 0, 3)
    after = State(
        regime=np.where(state.active, mind.regime, state.regime),
        stress=mind.stress,
        story=np.where(state.active, mind.story, state.story),
        episode=mind.episode,
        episode_weeks=mind.episode_weeks,
        episodes_seen=np.where(state.active, mind.episodes_seen, state.episodes_seen),
        active=state.active & ~ends,
        instalment_no=bills.instalment_no,
        bill_month=bills.month,
        unpaid=unpaid,
        part=payments.part,
        principal=payments.principal,
        pay_day=np.where(payments.pays | (bills.pay_day < first_day), NEVER, bills.pay_day),
        missed_day=np.where(looks, NEVER, missed_day),
        reversal=(payments.settles > 0)
        & (payments.part == 0)
        & bounces
        & ~payments.capitalised
        & (payments.extra == 0),
        holiday=bills.holiday,
        defaulted_day=_defaulted_day(state, first_day, bills, payments, due_after, unpaid),
        ended_day=np.where(ends, last_day + 1, state.ended_day),
    )
    return Week(
        calendar=calendar,
        draws=draws,
        state=after,
        catch_up_rate=payments.catch_up_rate,
        reversed_no=np.where(bills.back, state.instalment_no - state.unpaid, -1),
        reversed_month=state.bill_month - state.unpaid,
        bill_offset=bills.offset,
        bill_no=bills.instalment_no,
        bill_days_past_due=bills.days_past_due,
        bill_principal=np.where(payments.bill_before, state.principal, payments.principal),
        pay_offset=payments.offset,
        pay_first_no=payments.first_no,
        pay_first_month=payments.first_month,
        pay_count=payments.settles,
        pay_first_share=payments.first_share,
        pay_extra=payments.extra,
        capitalised=payments.capitalised,
        pay_principal=payments.principal,
        missed_offset=np.where(missed, missed_day - first_day, -1),
        missed_no=bills.instalment_no,
        missed_month=bills.month,
        missed_days_past_due=np.maximum(missed_day - oldest, 0),
    )


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
