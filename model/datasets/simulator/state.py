"""State: everything about borrowers and their contracts that changes, the random numbers of a week, and what happened
in it. Only what these hold; how one follows from the other is `life` and `accounts`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from model.datasets.simulator.calendar import Calendar
from model.datasets.simulator.columns import CONTRACTS, Columns, Flags, Floats, Ints
from model.datasets.simulator.portfolio import Traits

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
NEVER = np.int64(-1)

ABSENT, WAITING, BEGINNING, OPEN, CLOSED, WRITTEN_OFF = range(6)
"""Phases of a place for a contract: none will begin, one may, one does with the borrower's first week, it goes on, it
has ended."""

TO_REGIME, TO_EPISODE, TO_LEAVE = range(3)
TO_STRESS, TO_CASH = range(2)
TO_BILL, TO_CATCH_UP, TO_PAY_DAY, TO_COUNT, TO_PART, TO_EXTRA, TO_NOTICE, TO_RELIEF, TO_BOUNCE, TO_OPEN, TO_CLOSE = (
    range(11)
)
"""Places of a week's draws: a borrower's uniform and normal ones, and each contract's uniform ones. Their number is
fixed, so that the streams of random numbers stay aligned."""
_UNIFORM, _NORMAL, _OF_CONTRACT = 3, 2, 11


@dataclass(frozen=True)
class State(Columns):
    """Everything about the borrowers `[n]` and their contracts `[CONTRACTS, n]` that changes; days count from
    1970-01-01."""

    regime: Ints
    stress: Floats
    cash: Floats  # of the month, beside what is usual under the stress; normal deviate, more is more
    story: Ints  # the latest regime that a decline began with; STABLE if none did
    episode: Ints  # harmless look-alike: 0, or MOVING, INCOME_SWITCH, …
    episode_weeks: Ints  # weeks left of it
    episodes_seen: Ints  # bit mask of look-alikes so far
    active: Flags  # there is an open contract
    defaulted_day: Ints  # first day on which any contract is at DELINQUENCY_DAYS, NEVER if not yet
    ended_day: Ints  # when the last contract had ended, NEVER if not yet

    phase: Ints  # ABSENT, WAITING, …
    generation: Ints  # contracts that had this place before
    instalment_no: Ints  # of the latest bill
    bill_month: Ints  # of the latest bill
    unpaid: Ints  # instalments billed and not fully paid; always the latest ones
    part: Floats  # share of the oldest unpaid instalment that is paid
    principal: Floats
    pay_day: Ints  # when the latest bill will be paid, NEVER if not decided
    missed_day: Ints  # when the lender will notice the latest bill, NEVER if done
    reversal: Flags  # last week's payment comes back
    holiday: Ints  # bills that the lender still lets pass; nothing is unpaid meanwhile


class Mind(NamedTuple):
    """The latent side of the week that the accounting of the same week follows, `[n]`."""

    regime: Ints
    story: Ints
    episode: Ints
    episode_weeks: Ints
    episodes_seen: Ints
    stress: Floats
    cash: Floats

    def take(self, rows: Ints) -> Mind:
        """The minds of a selection of borrowers."""
        return Mind(
            self.regime[rows],
            self.story[rows],
            self.episode[rows],
            self.episode_weeks[rows],
            self.episodes_seen[rows],
            self.stress[rows],
            self.cash[rows],
        )


class Draws(NamedTuple):
    """Random numbers of `n` borrowers for a week: uniform `[3, n]` and normal `[2, n]` for the borrower; uniform `[11,
    CONTRACTS, n]`, and normal `[CONTRACTS, n]` for the day of a payment, for each contract."""

    uniform: Floats
    normal: Floats
    of_contract: Floats
    delay: Floats

    @classmethod
    def of(cls, rng: np.random.Generator, count: int) -> Draws:
        return cls(
            rng.random((_UNIFORM, count)),
            rng.standard_normal((_NORMAL, count)),
            rng.random((_OF_CONTRACT, CONTRACTS, count)),
            rng.standard_normal((CONTRACTS, count)),
        )

    @classmethod
    def none(cls, count: int) -> Draws:
        """Zeros, for what is drawn otherwise."""
        of_each = (CONTRACTS, count)
        return cls(
            np.zeros((_UNIFORM, count)),
            np.zeros((_NORMAL, count)),
            np.zeros((_OF_CONTRACT, *of_each)),
            np.zeros(of_each),
        )

    def take(self, rows: Ints) -> Draws:
        """The draws of a selection of borrowers."""
        return Draws(*(values[..., rows] for values in self))


@dataclass(frozen=True)
class Week:
    """What happened in a week, from which events are made; arrays `[CONTRACTS, n]`, offsets are days, -1 is no."""

    calendar: Calendar
    draws: Draws  # the week's random numbers
    state: State  # after the week
    running: Flags  # open, and not only since this week
    opened: Flags  # began on the week's first day
    generation: Ints  # of the contract that the week is about
    paid_first: Floats  # share of the borrower's instalments, see `terms.shares_paid_first`
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
    restructured: Flags  # no payment: the lender adds the arrears to the balance and counts them as settled
    pay_principal: Floats
    missed_offset: Ints
    missed_no: Ints
    missed_month: Ints
    missed_days_past_due: Ints
    written_off_days: Ints  # days past due of a contract that is given up on the week's last day, -1 is no
    closed: Flags  # on the week's last day

    def take(self, rows: Ints) -> Week:
        """The week of a selection of borrowers."""
        own: dict[str, Any] = {
            "calendar": self.calendar,
            "draws": self.draws.take(rows),
            "state": self.state.take(rows),
        }
        own |= {field.name: getattr(self, field.name)[..., rows] for field in fields(self) if field.name not in own}
        return Week(**own)


def fresh_state(traits: Traits) -> State:
    """Borrowers who have just begun: stable, nothing billed."""
    terms = traits.terms
    zeros = np.zeros(len(traits.frailty), dtype=np.int64)
    none, never = zeros > 0, np.full(len(zeros), NEVER)
    of_each = np.zeros(terms.product.shape, dtype=np.int64)
    return State(
        regime=zeros,
        stress=np.zeros(len(zeros)),
        cash=np.zeros(len(zeros)),
        story=zeros,
        episode=zeros,
        episode_weeks=zeros,
        episodes_seen=zeros,
        active=~none,
        defaulted_day=never,
        ended_day=never,
        phase=np.select([terms.held, terms.waits], [BEGINNING, WAITING], ABSENT),
        generation=of_each,
        instalment_no=terms.age_months.copy(),
        bill_month=of_each,
        unpaid=of_each,
        part=np.zeros(of_each.shape),
        principal=terms.principal.copy(),
        pay_day=np.full(of_each.shape, NEVER),
        missed_day=np.full(of_each.shape, NEVER),
        reversal=of_each > 0,
        holiday=of_each,
    )


def replaced(state: State, fresh: State, rows: Flags, active: Flags) -> State:
    """`state` with some borrowers begun anew, and who is active set."""
    names = [field.name for field in fields(state)]
    merged = {name: np.where(rows, getattr(fresh, name), getattr(state, name)) for name in names}
    return State(**{**merged, "active": active})
