"""Life: the latent process of each simulated borrower and the accounting of their instalments, one week at a time.

The truth lives here. What others may see of it is `repayments` and `behaviour`; what it implies is `hazard`. A
borrower's regime (stable, sliding, in shock, …) pulls their stress; stress decides whether and when bills are paid;
days past due follow from what is unpaid, oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from model.datasets.simulator.portfolio import Columns, Flags, Floats, Ints, Traits

STABLE, SLIDE, SHOCK, CASH_OUT, GONE, NO_SIGN, RECOVERY = range(7)
MOVING, INCOME_SWITCH = 1, 2
DELINQUENCY_DAYS = 60
CHARGE_OFF_DAYS = 150
NOTICE_DAYS = 6
"""Days from the bill to the due date."""
NEVER = np.int64(-1)
_PULL = np.array([0.2, 0.075, 0.5, 0.3, 0.8, 0.9, 0.14])
"""Share of the way to its target that stress goes in a week, by regime."""
_TARGET = np.array([0.0, 3.1, 2.7, 0.0, 5.5, 4.2, 0.0])
_LEAVES = np.zeros((7, 7))
_LEAVES[STABLE, [SLIDE, SHOCK, CASH_OUT, NO_SIGN]] = (0.004, 0.0018, 0.0004, 0.0005)
_LEAVES[SLIDE, [SHOCK, RECOVERY]] = (0.003, 0.032)
_LEAVES[SHOCK, RECOVERY] = 0.06
_LEAVES[CASH_OUT, GONE] = 0.2
_LEAVES[NO_SIGN, RECOVERY] = 0.05
_LEAVES[RECOVERY, [SLIDE, SHOCK]] = (0.005, 0.003)
_LEAVES_CUMULATED = _LEAVES.cumsum(axis=1)
_DRAWS = 12


@dataclass(frozen=True)
class Calendar:
    """Where a week stands among the months. Days count from 1970-01-01, months from 1970-01."""

    first_day: int
    offset_of_dom: Ints  # [32] day offset in this week of a day of month, -1 if not in it
    month_of_dom: Ints  # [32] month of that day
    month_start: Ints  # day on which a month starts, by month; index 0 is `month_base`
    month_base: int
    year_phase: float  # 0 on 1 January, 1 a year later

    @classmethod
    def of_week(cls, first_day: int) -> Calendar:
        days = (first_day + np.arange(7)).astype("datetime64[D]")
        months = days.astype("datetime64[M]")
        dom = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
        offset = np.full(32, -1, dtype=np.int64)
        offset[dom] = np.arange(7)
        month = np.zeros(32, dtype=np.int64)
        month[dom] = months.astype(np.int64)
        base = int(months[0].astype(np.int64)) - 24
        starts = np.arange(base, base + 30).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        year = days[0].astype("datetime64[Y]").astype("datetime64[D]")
        return cls(first_day, offset, month, starts, base, float((days[0] - year).astype(np.int64)) / 365.25)

    def bill_day(self, months: Ints, bill_dom: Ints) -> Ints:
        """Day of the bill of a month."""
        return self.month_start[np.clip(months - self.month_base, 0, len(self.month_start) - 1)] + bill_dom - 1

    def due_day(self, months: Ints, bill_dom: Ints) -> Ints:
        """Due date, as a day, of the bill of a month."""
        return self.bill_day(months, bill_dom) + NOTICE_DAYS


@dataclass(frozen=True)
class State(Columns):
    """Everything about the borrowers that changes, arrays `[n]`; days count from 1970-01-01."""

    regime: Ints
    stress: Floats
    story: Ints  # the latest regime that a decline began with; STABLE if none did
    episode: Ints  # harmless look-alike: 0, MOVING or INCOME_SWITCH
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
    onset_day: Ints  # first day at DELINQUENCY_DAYS, NEVER if not yet
    ended_day: Ints  # paid off or charged off, NEVER if not yet


@dataclass(frozen=True)
class Week:
    """What happened in a week, for whoever writes events about it; arrays `[n]`, offsets are days, -1 is no."""

    calendar: Calendar
    state: State  # after the week
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
    pay_principal: Floats
    missed_offset: Ints
    missed_no: Ints
    missed_month: Ints
    missed_days_past_due: Ints


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
        onset_day=never,
        ended_day=never,
    )


def replaced(state: State, fresh: State, rows: Flags, active: Flags) -> State:
    """`state` with some rows begun anew, and who is active set."""
    names = [field.name for field in fields(state)]
    merged = {name: np.where(rows, getattr(fresh, name), getattr(state, name)) for name in names}
    return State(**{**merged, "active": active})


def step(traits: Traits, state: State, rng: np.random.Generator, calendar: Calendar) -> Week:
    """One week. Takes a fixed number of draws per borrower, so that a stream of draws never shifts."""
    draws = rng.random((_DRAWS, len(state.regime)))
    noise = rng.standard_normal((2, len(state.regime)))
    regime, story = _next_regime(traits, state, draws[0])
    episode, episode_weeks, seen = _next_episode(state, draws[1])
    stress = _next_stress(traits, state, regime, episode, noise[0], calendar)
    mind = _Mind(regime, story, episode, episode_weeks, seen, stress)
    return _account(traits, state, calendar, draws, noise[1], mind)


def _next_regime(traits: Traits, state: State, draw: Floats) -> tuple[Ints, Ints]:
    multiplier = np.where(state.regime == STABLE, traits.frailty, 1.0)
    moves = draw[:, None] < _LEAVES_CUMULATED[state.regime] * multiplier[:, None]
    regime = np.where(moves[:, -1], moves.argmax(axis=1), state.regime)
    regime = np.where((state.regime == RECOVERY) & (state.stress < 0.3), STABLE, regime)
    begins = (regime != state.regime) & (regime != RECOVERY) & (regime != STABLE) & (regime != GONE)
    return regime, np.where(begins, regime, state.story)


def _next_episode(state: State, draw: Floats) -> tuple[Ints, Ints, Ints]:
    begins = (state.episode == 0) & (draw < 0.0044)
    episode = np.where(begins, np.where(draw < 0.0022, MOVING, INCOME_SWITCH), state.episode)
    weeks = np.where(begins, 7, np.maximum(state.episode_weeks - 1, 0))
    episode = np.where(weeks == 0, 0, episode)
    return episode, weeks, state.episodes_seen | episode


def _next_stress(
    traits: Traits, state: State, regime: Ints, episode: Ints, noise: Floats, calendar: Calendar
) -> Floats:
    season = max(0.0, float(np.cos(2 * np.pi * (calendar.year_phase - 0.08))))
    target = _TARGET[regime] * traits.severity
    target = target + np.where(traits.seasonal, 1.1 * season, 0.0) + np.where(episode == INCOME_SWITCH, 0.6, 0.0)
    stress = state.stress + _PULL[regime] * (target - state.stress) + 0.16 * noise
    return np.clip(stress, -0.6, 6.0)


def _logistic(values: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-values))


class _Mind(NamedTuple):
    """The latent side of the week that the accounting of the same week follows."""

    regime: Ints
    story: Ints
    episode: Ints
    episode_weeks: Ints
    episodes_seen: Ints
    stress: Floats


class _Bills(NamedTuple):
    """This week's bills and reversals. `unpaid` and `due_of_oldest` hold before the bill, with the reversal."""

    back: Flags
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


def _bill(
    traits: Traits, state: State, calendar: Calendar, stress: Floats, draws: Floats, noise: Floats
) -> _Bills:
    """Last week's payment that comes back, the bill, and when a borrower without arrears means to pay it, if at all."""
    back = state.reversal & state.active & (state.part == 0)
    unpaid = state.unpaid + back
    due_of_oldest = calendar.due_day(state.bill_month - unpaid + 1, traits.bill_dom)
    offset = np.where(state.active, calendar.offset_of_dom[traits.bill_dom], -1)
    billed = offset >= 0
    day = calendar.first_day + offset
    means_to_pay = draws >= _logistic(-4.8 + 1.75 * stress + 0.7 * traits.forgetful)
    delay = np.rint(traits.pay_delay_days + 1.5 * np.maximum(stress, 0) + 1.6 * noise)
    planned = day + NOTICE_DAYS + np.clip(delay, 1 - NOTICE_DAYS, 14).astype(np.int64)
    plans = billed & (unpaid == 0) & means_to_pay
    return _Bills(
        back=back,
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


def _pay(
    traits: Traits, state: State, calendar: Calendar, stress: Floats, bills: _Bills, draws: Floats
) -> _Payments:
    """The payment that was planned for this week, or a catch-up on arrears: all, one instalment, or part of one."""
    first_day = calendar.first_day
    planned = (bills.pay_day >= first_day) & (bills.pay_day < first_day + 7)
    late = state.active & (state.unpaid > 0) & (bills.pay_day == NEVER) & (bills.due_of_oldest < first_day)
    catches_up = late & (draws[0] < 0.6 * _logistic(2.3 - 1.65 * stress))
    pays = state.active & (planned | catches_up)
    offset = np.where(pays, np.where(planned, bills.pay_day - first_day, (draws[1] * 7).astype(np.int64)), -1)
    bill_before = bills.billed & (bills.offset <= offset)
    unpaid_then = bills.unpaid + bill_before
    one_only = draws[2] < np.clip(0.25 + 0.2 * stress, 0.1, 0.85)
    partly = catches_up & one_only & (draws[3] < 0.3) & (state.part < 0.6)
    count = np.where(pays & ~partly, np.where(one_only, 1, unpaid_then), 0)
    settled = 0.82 * traits.instalment * np.where(partly, 0.3, count)
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
    )


def _onset(state: State, first_day: int, bills: _Bills, payments: _Payments, due_after: Ints, unpaid: Ints) -> Ints:
    """First day at `DELINQUENCY_DAYS`, by what was unpaid before the week's payment or by what is unpaid after it."""
    beyond = first_day + 7
    before = np.where(bills.unpaid > 0, np.maximum(bills.due_of_oldest + DELINQUENCY_DAYS, first_day), beyond)
    before = np.where((payments.settles > 0) & (before > payments.day), beyond, before)
    after = np.where(unpaid > 0, np.maximum(due_after + DELINQUENCY_DAYS, first_day), beyond)
    onset = np.minimum(before, after)
    return np.where((state.onset_day == NEVER) & state.active & (onset < beyond), onset, state.onset_day)


def _account(
    traits: Traits, state: State, calendar: Calendar, draws: Floats, noise: Floats, mind: _Mind
) -> Week:
    """The week's reversal, bill, payment and missed payment, in this order of cause, and what they leave."""
    first_day, last_day = calendar.first_day, calendar.first_day + 6
    bills = _bill(traits, state, calendar, mind.stress, draws[2], noise)
    payments = _pay(traits, state, calendar, mind.stress, bills, draws[3:7])
    unpaid = bills.unpaid + bills.billed - payments.settles
    due_after = calendar.due_day(bills.month - unpaid + 1, traits.bill_dom)

    # The lender notices the latest bill unpaid one to three days after its due date. It looks at night and payments
    # come by day, so a payment of the same day is too late.
    noticed = bills.day + NOTICE_DAYS + 1 + (draws[7] * 3).astype(np.int64)
    missed_day = np.where(bills.billed, noticed, state.missed_day)
    looks = state.active & (missed_day >= first_day) & (missed_day <= last_day)
    pays_first = payments.pays & (payments.day < missed_day)
    missed = looks & (bills.unpaid + bills.billed > 0) & ~(pays_first & (payments.settles == payments.unpaid_then))
    oldest = np.where(pays_first, due_after, bills.due_of_oldest)

    # Paid off and left, or charged off.
    charged_off = (unpaid > 0) & (due_after + CHARGE_OFF_DAYS <= last_day)
    leaves = (unpaid == 0) & (draws[8] < 0.0016) & ~payments.pays
    ends = state.active & (charged_off | leaves)
    bounces = draws[9] < 0.002 + 0.004 * np.clip(mind.stress, 0, 3)
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
        reversal=(payments.settles > 0) & (payments.part == 0) & bounces,
        onset_day=_onset(state, first_day, bills, payments, due_after, unpaid),
        ended_day=np.where(ends, last_day + 1, state.ended_day),
    )
    return Week(
        calendar=calendar,
        state=after,
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
        pay_principal=payments.principal,
        missed_offset=np.where(missed, missed_day - first_day, -1),
        missed_no=bills.instalment_no,
        missed_month=bills.month,
        missed_days_past_due=np.maximum(missed_day - oldest, 0),
    )


def scenarios(traits: Traits, state: State) -> list[str]:
    """The latent story of each borrower, by its worst part."""
    declines = {SLIDE: "slow_slide", SHOCK: "shock", CASH_OUT: "cash_out", NO_SIGN: "no_early_sign"}
    calm = np.select(
        [traits.seasonal, state.episodes_seen & MOVING > 0, state.episodes_seen & INCOME_SWITCH > 0, traits.festive],
        ["seasonal", "moving_house", "income_switch", "holiday_spending"],
        "stable",
    )
    recovered = (state.onset_day == NEVER) & ((state.regime == RECOVERY) | (state.regime == STABLE))
    return [
        str(quiet) if story == STABLE else ("recovery" if well else declines[int(story)])
        for quiet, story, well in zip(calm, state.story, recovered, strict=True)
    ]
