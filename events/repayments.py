"""Repayments applied to contracts: what opens and settles an instalment, and what begins and ends a contract.

Arrays over many borrowers at once; a borrower's result does not depend on the others. Does no I/O; days are those of
the lender's calendar (`events.calendar`) and are arguments.

The rule, per contract (events without a `contract_id` are of the borrower's unnamed contract):

- `opened` begins the contract anew; `closed` ends it; `written_off` marks it; all three leave no instalment open. An
  event that is dated later than its end opens a closed contract again.
- `restructured` replaces the schedule: no old instalment is open, and nothing is past due but what the event states.
- `due` opens an instalment (number, due date, amount). The same number again replaces its date and amount.
- `paid` counts towards the instalment of its number. Without a number it goes to the oldest unpaid one, and what is
  left over to the next. An instalment is settled when the payments reach `PAID_IN_FULL` of the amount due; a payment
  without an amount, or an instalment without one, counts as in full. A payment in full of the newest instalment, or of
  one that is yet to come, settles all, since money goes to the oldest debt first; a `due` that comes later for that
  number, or for a lower one, opens nothing. Where no instalment is known, payments without a number settle what was
  reported when they come, since the latest bill, to the amount due. Days past due that were reported go with the
  instalment whose age they were.
- `missed` marks its instalment (without a number the oldest one that is not yet marked); it stays unpaid. Where the
  instalment is not known it is opened if the event has number and due date.
- `reversed` takes a payment back: from the unpaid instalment of its number, or it opens the one again that was settled
  last, or, with number and due date, the one that the event describes.

A `due` without a number or a due date is ignored: no later event could refer to it. Where there is no room for another
instalment, a marked one goes that is not the oldest of its contract, else the oldest; a contract keeps the due date of
what went, so that its days past due stay right. Where there is no room for another contract, ended ones go first, then
the one that was quiet longest without arrears, and at last the one with the fewest days past due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.calendar import day_number
from events.contracts import (
    CLOSED,
    CONTRACTS,
    DUE,
    ENDED,
    INSTALMENTS,
    LOST,
    MISSED,
    NEVER_DUE,
    NO_CONTRACT,
    NO_DAY,
    OPEN,
    OPENED,
    PAID,
    PAID_IN_FULL,
    REARRANGED,
    REPAYMENT_CODES,
    RESTRUCTURED,
    REVERSED,
    WRITTEN_OFF,
    Flags,
    Floats,
    Ints,
    Records,
    contract_days,
    currency_code,
    find_contract,
    id_words,
    initial_ledger,
    initial_standing,
    places_used,
    sum_up,
)

_HIGHEST_NO = np.iinfo(np.int64).max
_BLANK_STANDING, _BLANK_LEDGER = initial_standing(1), initial_ledger(1)


class RepaymentColumns(NamedTuple):
    """Fields of repayment events as arrays `[n]`; -1 and NaN stand for missing values.

    `code` is one of `REPAYMENT_CODES`, `contract_id` uint64 `[n, 5]` from `id_words`, `days_past_due` as stated.
    """

    code: NDArray[np.int8]
    contract_id: NDArray[np.uint64]
    instalment_no: Ints
    due_day: Ints
    amount_due: Floats
    amount_paid: Floats
    days_past_due: Floats
    balance: Floats
    currency: NDArray[np.uint32]
    occurred_ms: Ints

    @property
    def in_full(self) -> Flags:
        """Which events pay the amount due that they state, bool `[n]`; a payment without amounts counts as in full."""
        covered = np.isnan(self.amount_paid) | np.isnan(self.amount_due)
        return covered | (self.amount_paid >= PAID_IN_FULL * self.amount_due)

    def at(self, positions: Ints | slice) -> RepaymentColumns:
        """The events at `positions`, in that order."""
        return RepaymentColumns._make(column[positions] for column in self)

    @classmethod
    def joined(cls, parts: Sequence[RepaymentColumns]) -> RepaymentColumns | None:
        """Parts one after another, None for none."""
        return cls._make(map(np.concatenate, zip(*parts, strict=True))) if parts else None


def repayment_columns(events: Sequence[Any], occurred_ms: Ints) -> RepaymentColumns:
    """Columns of repayment events, of which `occurred_ms` are the times."""
    return RepaymentColumns(
        code=np.array([REPAYMENT_CODES[event.kind] for event in events], dtype=np.int8),
        contract_id=id_words([event.contract_id for event in events]),
        instalment_no=np.array([-1 if e.instalment_no is None else e.instalment_no for e in events], dtype=np.int64),
        due_day=np.array([NO_DAY if e.due_date is None else day_number(e.due_date) for e in events], dtype=np.int64),
        amount_due=np.array([event.amount_due for event in events], dtype=np.float64),
        amount_paid=np.array([event.amount_paid for event in events], dtype=np.float64),
        days_past_due=np.array([event.days_past_due for event in events], dtype=np.float64),
        balance=np.array([event.balance for event in events], dtype=np.float64),
        currency=np.array([currency_code(event.currency) for event in events], dtype=np.uint32),
        occurred_ms=occurred_ms,
    )


@dataclass(frozen=True)
class Applied:
    """What `apply_repayments` did, `[n]`: the contract's place, whether the contract was not known before, and whether
    another one had to make room for it.

    `previous_ms`: latest time of the contract's earlier events, -1 for none. `usual_due`: mean of the amounts due that
    these stated, 0 for none.
    """

    place: Ints
    new: Flags
    evicted: Flags
    previous_ms: Ints
    usual_due: Floats


def apply_repayments(
    standing: Records, ledger: Records, columns: RepaymentColumns, event_day: Ints, today: Ints
) -> Applied:
    """Take one repayment event for each of `n` different borrowers into `standing` and `ledger`, in place.

    `event_day` int64 `[n]` is the day of the event, `today` the latest day that the borrower's events have reached.
    """
    return _Repayments(standing, ledger, columns, event_day, today).apply()


class _Repayments:
    """One event for each of `n` borrowers, under way."""

    def __init__(
        self, standing: Records, ledger: Records, columns: RepaymentColumns, event_day: Ints, today: Ints
    ) -> None:
        self._standing = standing
        self._ledger = ledger
        self._columns = columns._replace(instalment_no=columns.instalment_no.copy())
        self._event_day = event_day
        self._today = today
        self._all = np.arange(len(standing))
        # Contracts are at the first places, with one more for a new one, and so are unpaid instalments.
        self._places = min(places_used(standing) + 1, CONTRACTS)
        used = (ledger["due_day"] != NO_DAY).any(axis=0)
        self._slots = min(INSTALMENTS - int(used[::-1].argmax()) + 1, INSTALMENTS) if used.any() else 1
        self._place, self._new, self._evicted = self._find_or_add()
        self._at = (self._all, self._place)
        self._phase = standing["phase"][self._at]
        self._previous_ms = ledger["latest_ms"][self._at]
        self._late = columns.occurred_ms < self._previous_ms
        newest = columns.instalment_no >= ledger["billed_no"][self._at]
        self._paying = columns.code == PAID
        self._in_full = self._paying & columns.in_full
        # Payments in full of the newest instalment, or of one to come.
        self._settles_all: Flags = self._in_full & (columns.instalment_no >= 0) & newest & ~self._late
        self._settled_day: Ints | None = None
        """Earliest due day of the instalments that the event settles, `NEVER_DUE` for none."""

    def apply(self) -> Applied:
        code = self._columns.code
        self._begin_and_end()
        usual_due = self._ledger["usual_due"][self._at]
        goes_on = self._goes_on()
        for kind, take in ((DUE, self._bill), (PAID, self._pay), (MISSED, self._miss), (REVERSED, self._reverse)):
            chosen = ((code == kind) & goes_on).nonzero()[0]
            if chosen.size:
                take(chosen)
        self._report()
        self._note_amounts(usual_due)
        sum_up(self._standing, self._places)
        return Applied(self._place, self._new, self._evicted, self._previous_ms, usual_due)

    # Contracts

    def _find_or_add(self) -> tuple[Ints, Flags, Flags]:
        standing, ledger = self._standing, self._ledger
        found, place = find_contract(standing, self._columns.contract_id, self._places)
        evicted = np.zeros(len(found), dtype=np.bool_)
        new = np.flatnonzero(~found)
        if new.size:
            place[new] = _places_to_take(standing[new], ledger["latest_ms"][new], self._today[new])
            evicted[new] = standing["phase"][new, place[new]] != NO_CONTRACT
            self._forget_instalments(new[evicted[new]], place[new[evicted[new]]])
            _put(standing, _BLANK_STANDING, new, place[new])
            _put(ledger, _BLANK_LEDGER, new, place[new])
            standing["phase"][new, place[new]] = OPEN
            standing["contract_id"][new, place[new]] = self._columns.contract_id[new]
        return place, ~found, evicted

    def _begin_and_end(self) -> None:
        code, standing, ledger = self._columns.code, self._standing, self._ledger
        phase = self._phase
        if code.max(initial=0) < OPENED and not (phase == ENDED).any():
            return
        # Only an event that is dated after the end of a contract says that it goes on: the last payment and the end
        # often have the same time.
        phase = np.where((phase == ENDED) & (self._columns.occurred_ms > self._previous_ms), OPEN, phase)
        for kind, becomes in ((OPENED, OPEN), (RESTRUCTURED, REARRANGED), (WRITTEN_OFF, LOST), (CLOSED, ENDED)):
            phase = np.where((code == kind) & ~self._late, becomes, phase)
        standing["phase"][self._at] = self._phase = phase
        anew = np.flatnonzero((code >= OPENED) & ~self._late)
        if anew.size:
            # What is written off stays past due: only the schedule ends.
            lost = anew[code[anew] == WRITTEN_OFF]
            days = contract_days(standing[lost], self._today[lost])[np.arange(len(lost)), self._place[lost]]
            self._forget_instalments(anew, self._place[anew])
            at = (anew, self._place[anew])
            standing["reported_days"][at] = 0
            standing["reported_day"][at] = self._event_day[anew]
            at = (lost, self._place[lost])
            standing["reported_days"][at] = days
            standing["reported_day"][at] = self._today[lost]
            ended = anew[code[anew] == CLOSED]
            standing["balance"][ended, self._place[ended]] = 0
            begun = anew[(code[anew] == OPENED) | (code[anew] == RESTRUCTURED)]
            for name in ("settled_no", "billed_no"):  # a new schedule may count from 1 again
                ledger[name][begun, self._place[begun]] = -1
            opened = anew[code[anew] == OPENED]
            for name in ("usual_due", "highest_balance", "dues_stated"):  # after a restructuring the old ones tell more
                ledger[name][opened, self._place[opened]] = 0
            self._forget_limits(opened)
            ledger["last_paid_due_day"][anew, self._place[anew]] = NO_DAY
            ledger["schedule_day"][begun, self._place[begun]] = self._event_day[begun]

    def _forget_limits(self, opened: Ints) -> None:
        """What was stated before a contract was opened is no limit of it (`events.credit_limits`)."""
        standing, opened_ms = self._standing, self._columns.occurred_ms
        former = opened[standing["limit_ms"][opened, self._place[opened]] < opened_ms[opened]]
        at = (former, self._place[former])
        standing["credit_limit"][at] = np.nan
        standing["limit_ms"][at] = opened_ms[former]

    def _goes_on(self) -> Flags:
        """Which events speak of the contract's present schedule: it has not ended, and they are not of an older one."""
        on: Flags = (self._phase == OPEN) | (self._phase == REARRANGED)
        if self._late.any():
            on &= ~(self._late & (self._event_day < self._ledger["schedule_day"][self._at]))
        return on

    def _report(self) -> None:
        """Days past due and balance as the event states them, unless a later event has spoken or the contract has
        ended; and the oldest due day of the event's contract, from what is unpaid."""
        columns, standing, ledger, at = self._columns, self._standing, self._ledger, self._at
        due_day = ledger["due_day"][:, : self._slots]
        mine = (ledger["contract"][:, : self._slots] == self._place[:, None]) & (due_day != NO_DAY)
        oldest = np.where(mine, due_day, NEVER_DUE).min(axis=1)
        standing["oldest_due_day"][at] = np.minimum(oldest, ledger["dropped_due_day"][at])
        stated = columns.days_past_due
        if (columns.code == MISSED).any():
            before = standing["reported_days"][at].astype(np.float64)
            # A missed instalment states its own days past due; an older unpaid one may have more.
            aged = np.where(before > 0, before + np.maximum(self._event_day - standing["reported_day"][at], 0), before)
            aged = np.where(np.isnan(stated), np.nan, aged)
            stated = np.where(columns.code == MISSED, np.fmax(stated, aged), stated)
        if self._paying.any():
            has_unpaid = mine.any(axis=1)
            # How late a payment in full was says nothing of the others, where these are known.
            of_another = self._in_full & has_unpaid
            stated = np.where(self._settles_all | of_another, 0.0, stated)
            stated[self._leaving_nothing(has_unpaid)] = 0
            if self._settled_day is not None:
                # What was reported was the age of what is settled now, or of a later one, whose age is known.
                since = standing["reported_day"][at] - standing["reported_days"][at]
                stated[np.isnan(stated) & (since >= self._settled_day - 1)] = 0
        billed = (columns.code == DUE).nonzero()[0]
        ledger["part_paid"][billed, self._place[billed]] = 0
        on_time = ~self._late & (self._phase != ENDED)
        tells = (~np.isnan(stated) & on_time).nonzero()[0]
        told = (tells, self._place[tells])
        standing["reported_days"][told] = np.maximum(stated[tells], 0.0)
        standing["reported_day"][told] = self._event_day[tells]
        known = (~np.isnan(columns.balance) & on_time).nonzero()[0]
        standing["balance"][known, self._place[known]] = columns.balance[known]
        if columns.currency.any():
            named = columns.currency.nonzero()[0]
            standing["currency"][named, self._place[named]] = columns.currency[named]
        ledger["latest_ms"][at] = np.maximum(self._previous_ms, columns.occurred_ms)

    def _note_amounts(self, usual_due: Floats) -> None:
        """The contract's mean amount due and highest balance, as its events state them, late ones too."""
        columns, ledger, at = self._columns, self._ledger, self._at
        stated = ~np.isnan(columns.amount_due)
        count = ledger["dues_stated"][at] + stated
        ledger["dues_stated"][at] = count
        ledger["usual_due"][at] = np.where(
            stated, usual_due + (columns.amount_due - usual_due) / np.maximum(count, 1), usual_due
        )
        ledger["highest_balance"][at] = np.fmax(ledger["highest_balance"][at], columns.balance)

    def _leaving_nothing(self, has_unpaid: Flags) -> Ints:
        """Payments without a number after which nothing is known to be unpaid, and that came, with those since the
        latest bill, to the amount due."""
        columns, paying = self._columns, self._paying.nonzero()[0]
        due = columns.amount_due[paying]
        due = np.where(due > 0, due, np.nan)
        share = np.minimum(columns.amount_paid[paying], due) / due
        at = (paying, self._place[paying])
        parts = self._ledger["part_paid"][at] + np.where(share > 0, share, 0.0)
        whole = self._in_full[paying] | (parts >= PAID_IN_FULL)
        self._ledger["part_paid"][at] = np.where(whole, 0.0, parts)
        nothing: Ints = paying[whole & (columns.instalment_no[paying] < 0) & ~has_unpaid[paying] & ~self._late[paying]]
        return nothing

    # Instalments

    def _mine(self, users: Ints) -> Flags:
        """Which unpaid instalments are of the event's contract, bool `[k, slots]`."""
        mine: Flags = self._of_slots("contract", users) == self._place[users, None]
        mine &= self._of_slots("due_day", users) != NO_DAY
        return mine

    def _of_slots(self, name: str, users: Ints) -> NDArray[Any]:
        """A field of the instalments of `users`, `[k, slots]`."""
        values: NDArray[Any] = self._ledger[name][users, : self._slots]
        return values

    def _numbered(self, users: Ints) -> tuple[Flags, Ints]:
        """Whether the event's number is unpaid, and the instalment's place."""
        number = self._columns.instalment_no[users, None]
        same: Flags = self._mine(users) & (self._of_slots("instalment_no", users) == number)
        slot: Ints = same.argmax(axis=1)
        return same[np.arange(len(users)), slot], slot

    def _oldest(self, users: Ints, among: Flags) -> tuple[Flags, Ints]:
        """Whether any instalment is among these, and the place of the earliest due, then lowest number."""
        due = np.where(among, self._of_slots("due_day", users), NEVER_DUE)
        number = self._of_slots("instalment_no", users)
        first = due.min(axis=1, keepdims=True)
        number = np.where(among & (due == first), number, _HIGHEST_NO)
        return _any(among), number.argmin(axis=1)

    def _raise(self, users: Ints, name: str, numbers: Ints) -> None:
        at = (users, self._place[users])
        self._ledger[name][at] = np.maximum(self._ledger[name][at], numbers)

    def _bill(self, users: Ints) -> None:
        columns, ledger = self._columns, self._ledger
        self._raise(users, "billed_no", columns.instalment_no[users])
        settled = ledger["settled_no"][users, self._place[users]]
        number = columns.instalment_no[users]
        users = users[(number >= 0) & (columns.due_day[users] != NO_DAY) & (number > settled)]
        self._open(users, columns.due_day[users], columns.amount_due[users], missed=False)

    def _open(self, users: Ints, due_day: Ints, amount_due: Floats, *, missed: bool) -> None:
        """Open the instalments that the events name, or give those that are open another date and amount."""
        ledger = self._ledger
        known, slot = self._numbered(users)
        new = np.flatnonzero(~known)
        if new.size:
            slot[new] = self._rooms(users[new])
        ledger["amount_paid"][users[new], slot[new]] = 0
        at = (users, slot)
        ledger["instalment_no"][at] = self._columns.instalment_no[users]
        ledger["contract"][at] = self._place[users]
        ledger["due_day"][at] = due_day
        ledger["amount_due"][at] = amount_due
        ledger["missed"][at] = missed

    def _rooms(self, users: Ints) -> Ints:
        """A place for another instalment of each of `users`; one that was taken is remembered by its contract."""
        ledger = self._ledger
        due, contract = self._of_slots("due_day", users), self._of_slots("contract", users)
        free = due == NO_DAY
        place: Ints = free.argmax(axis=1)
        for number in np.flatnonzero(~free.any(axis=1)).tolist():  # rare: sixteen are unpaid
            owner = users[number]
            order = np.lexsort((ledger["instalment_no"][owner], due[number]))
            seen: set[int] = set()
            goes = int(order[0])
            for slot in order.tolist():
                if ledger["missed"][owner, slot] and int(contract[number, slot]) in seen:
                    goes = slot
                seen.add(int(contract[number, slot]))
            of = int(contract[number, goes])
            day = min(int(ledger["dropped_due_day"][owner, of]), int(due[number, goes]))
            ledger["dropped_due_day"][owner, of] = day
            unpaid = ledger["amount_due"][owner, goes] - ledger["amount_paid"][owner, goes]
            ledger["dropped_amount"][owner, of] += max(float(np.nan_to_num(unpaid)), 0.0)
            # Another contract than the event's may have to give up its place.
            self._standing["oldest_due_day"][owner, of] = min(int(self._standing["oldest_due_day"][owner, of]), day)
            place[number] = goes
        return place

    def _pay(self, users: Ints) -> None:
        columns = self._columns
        number = columns.instalment_no[users]
        known, slot = self._numbered(users)
        named = np.flatnonzero(known & (number >= 0))
        self._put_money(users[named], slot[named], columns.amount_paid[users[named]])
        ahead = users[~known & self._in_full[users] & (number >= 0)]
        if ahead.size:
            self._raise(ahead, "settled_no", columns.instalment_no[ahead])
        everything = users[self._settles_all[users]]
        if everything.size:
            self._forget_instalments(everything, self._place[everything])
        paying = users[number < 0]
        left = columns.amount_paid[paying]
        for _ in range(INSTALMENTS if paying.size else 0):
            any_left, slot = self._oldest(paying, self._mine(paying))
            go = np.flatnonzero(any_left)
            if not go.size:
                break
            paying, left = paying[go], self._put_money(paying[go], slot[go], left[go])
            paying, left = paying[left > 0], left[left > 0]

    def _put_money(self, users: Ints, slot: Ints, amount: Floats) -> Floats:
        """Pay instalments; returns what is left over, 0 of a payment without an amount."""
        ledger, at = self._ledger, (users, slot)
        due, before = ledger["amount_due"][at], ledger["amount_paid"][at]
        paid = before + np.where(np.isnan(amount), 0.0, amount)
        ledger["amount_paid"][at] = paid
        full = np.isnan(amount) | np.isnan(due) | (paid >= PAID_IN_FULL * due)
        done, done_slot = users[full], slot[full]
        of = (done, self._place[done])
        ledger["last_paid_no"][of] = ledger["instalment_no"][done, done_slot]
        ledger["last_paid_amount"][of] = ledger["amount_due"][done, done_slot]
        ledger["last_paid_due_day"][of] = ledger["due_day"][done, done_slot]
        if done.size:
            if self._settled_day is None:
                self._settled_day = np.full(len(self._all), NEVER_DUE, dtype=np.int64)
            self._settled_day[done] = np.minimum(self._settled_day[done], ledger["due_day"][done, done_slot])
        self._clear(done, done_slot)
        return np.where(full & ~np.isnan(amount) & ~np.isnan(due), np.maximum(paid - due, 0.0), 0.0)

    def _miss(self, users: Ints) -> None:
        columns, ledger = self._columns, self._ledger
        self._raise(users, "billed_no", columns.instalment_no[users])
        number = columns.instalment_no[users]
        known, slot = self._numbered(users)
        unmarked = self._mine(users) & (self._of_slots("missed", users) == 0)
        any_left, first = self._oldest(users, unmarked)
        nameless = number < 0
        slot, known = np.where(nameless, first, slot), np.where(nameless, any_left, known)
        ledger["missed"][users[known], slot[known]] = 1
        unpaid = ~known & ~nameless & (columns.due_day[users] != NO_DAY)
        unpaid &= number > ledger["settled_no"][users, self._place[users]]
        fresh = users[unpaid]
        self._open(fresh, columns.due_day[fresh], columns.amount_due[fresh], missed=True)

    def _reverse(self, users: Ints) -> None:
        columns, ledger = self._columns, self._ledger
        of = (users, self._place[users])
        number = columns.instalment_no[users]
        known, slot = self._numbered(users)
        back = known & (number >= 0)
        at = (users[back], slot[back])
        amount = columns.amount_paid[at[0]]
        paid = ledger["amount_paid"][at]
        ledger["amount_paid"][at] = np.where(np.isnan(amount), 0.0, np.maximum(paid - np.nan_to_num(amount), 0.0))
        last_no, last_day = ledger["last_paid_no"][of], ledger["last_paid_due_day"][of].astype(np.int64)
        last = ~back & (last_day != NO_DAY) & ((number == last_no) | (number < 0))
        described = ~back & ~last & (number >= 0) & (columns.due_day[users] != NO_DAY)
        again = np.flatnonzero(last | described)
        if not again.size:
            return
        reopened = users[again]
        due_day = np.where(last, last_day, columns.due_day[users])[again]
        owed = np.where(last, ledger["last_paid_amount"][of], columns.amount_due[users])[again]
        columns.instalment_no[reopened] = np.where(last, last_no, number)[again]
        at = (reopened, self._place[reopened])
        ledger["settled_no"][at] = np.minimum(ledger["settled_no"][at], columns.instalment_no[reopened] - 1)
        ledger["last_paid_due_day"][at] = NO_DAY
        self._open(reopened, due_day, owed, missed=False)
        _, slot = self._numbered(reopened)
        returned = columns.amount_paid[reopened]
        rest = np.where(np.isnan(returned) | np.isnan(owed), 0.0, np.maximum(owed - np.nan_to_num(returned), 0.0))
        ledger["amount_paid"][reopened, slot] = rest
        # Its deadline may have passed before: then it was either named as missed, or paid late, and is not news.
        ledger["missed"][reopened, slot] = due_day < self._today[reopened]

    def _clear(self, users: Ints, slot: Ints) -> None:
        self._ledger["due_day"][users, slot] = NO_DAY  # what is left in an empty place says nothing

    def _forget_instalments(self, users: Ints, place: Ints) -> None:
        """Nothing is unpaid on these contracts any more."""
        ledger = self._ledger
        among = (ledger["contract"][users] == place[:, None]) & (ledger["due_day"][users] != NO_DAY)
        number, slot = among.nonzero()
        if number.size:
            self._clear(users[number], slot)
        dropped = ledger["dropped_due_day"][users, place] != NEVER_DUE
        if dropped.any():
            at = (users[dropped], place[dropped])
            ledger["dropped_due_day"][at], ledger["dropped_amount"][at] = NEVER_DUE, 0


def _put(records: Records, initial: Records, users: Ints, place: Ints) -> None:
    """Make the place of a contract as new, in every field that has one value for each contract."""
    for name in records.dtype.names or ():
        if records.dtype[name].shape[:1] == (CONTRACTS,):
            records[name][users, place] = initial[name][0, 0]


def _places_to_take(standing: Records, latest_ms: Ints, today: Ints) -> Ints:
    """The place for a contract that is not known, int64 `[n]`: a free one, else that of the one to give up."""
    phase = standing["phase"]
    days = np.nan_to_num(contract_days(standing, today))
    in_arrears = (days > 0) & (phase != ENDED) | (phase == LOST)
    rank = np.select([phase == NO_CONTRACT, phase == ENDED, ~in_arrears], [0, 1, 2], 3)
    order = np.lexsort((latest_ms, np.where(rank == 3, days, 0), rank), axis=1)
    first: Ints = order[:, 0]
    return first


def _any(flags: Flags) -> Flags:
    """Whether any of each row is set, bool `[n]`."""
    return np.asarray(flags.any(axis=1))
