"""The rule of `events.instalments` applied to the state rows of many users at once. Pure.

An instalment leaves a row only by an event, never by the passing of time, so a row is a function of its events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.columns import due_ms
from events.instalments import DUE, MISSED, PAID, PAID_IN_FULL, REPAYMENT_CODES
from stream.state.row import NO_TIME, Rows
from stream.structured import put_records, take_records


class InstalmentColumns(NamedTuple):
    """Fields of repayment events as arrays `[n]`; -1 and NaN stand for missing values.

    `code` is one of `events.instalments.REPAYMENT_CODES`.
    """

    code: NDArray[np.int8]
    instalment_no: NDArray[np.int64]
    due_ms: NDArray[np.int64]
    amount_due: NDArray[np.float64]
    amount_paid: NDArray[np.float64]

    @property
    def in_full(self) -> NDArray[np.bool_]:
        """Which events pay the amount due that they state, bool `[n]`; a payment without amounts counts as in full."""
        covered = np.isnan(self.amount_paid) | np.isnan(self.amount_due)
        return covered | (self.amount_paid >= PAID_IN_FULL * self.amount_due)

    def at(self, positions: NDArray[np.int64] | slice) -> InstalmentColumns:
        return InstalmentColumns._make(column[positions] for column in self)

    @classmethod
    def joined(cls, parts: Sequence[InstalmentColumns]) -> InstalmentColumns | None:
        """Parts one after another, None for none."""
        return cls._make(map(np.concatenate, zip(*parts, strict=True))) if parts else None


def instalment_columns(events: Sequence[Any]) -> InstalmentColumns:
    """Columns of repayment events."""
    return InstalmentColumns(
        code=np.array([REPAYMENT_CODES[event.kind] for event in events], dtype=np.int8),
        instalment_no=np.array([-1 if e.instalment_no is None else e.instalment_no for e in events], dtype=np.int64),
        due_ms=np.array([NO_TIME if e.due_date is None else due_ms(e.due_date) for e in events], dtype=np.int64),
        amount_due=np.array([event.amount_due for event in events], dtype=np.float64),
        amount_paid=np.array([event.amount_paid for event in events], dtype=np.float64),
    )


def apply_repayments(rows: Rows, users: NDArray[np.int64], columns: InstalmentColumns) -> None:
    """Take one repayment event for each of different `users` (positions in `rows`, `[n]`) into `rows`, in place."""
    owed = np.flatnonzero((columns.code == DUE) | (columns.code == MISSED))
    rows["billed_no"][users[owed]] = np.maximum(rows["billed_no"][users[owed]], columns.instalment_no[owed])
    billed = np.flatnonzero(columns.code == DUE)
    if billed.size:
        _open(rows, users[billed], columns.at(billed))
    settled = np.flatnonzero((columns.code == PAID) | (columns.code == MISSED))
    if settled.size:
        _settle(rows, users[settled], columns.at(settled))


def _find(slots: Rows, instalment_no: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether each user has the instalment open, and its slot; without a number the oldest open one."""
    is_open = slots["due_ms"] != NO_TIME
    matches = is_open & ((slots["instalment_no"] == instalment_no[:, None]) | (instalment_no < 0)[:, None])
    return matches.any(axis=1), matches.argmax(axis=1)


def _open(rows: Rows, users: NDArray[np.int64], columns: InstalmentColumns) -> None:
    named = (columns.instalment_no > rows["settled_no"][users]) & (columns.due_ms != NO_TIME)
    users, columns = users[named], columns.at(np.flatnonzero(named))
    slots = take_records(rows["instalments"], users)
    found, slot = _find(slots, columns.instalment_no)
    known = np.flatnonzero(found)
    extended = np.zeros((len(users), slots.shape[1] + 1), dtype=slots.dtype)
    extended[:, :-1] = slots
    extended["due_ms"][:, -1] = columns.due_ms
    extended["instalment_no"][:, -1] = columns.instalment_no
    extended["amount_due"][:, -1] = columns.amount_due
    extended["amount_paid"][known, -1] = slots["amount_paid"][known, slot[known]]
    extended["due_ms"][known, slot[known]] = NO_TIME
    # Empty slots (-1) sort first, so leaving out the first one drops an empty slot or else the earliest instalment.
    order = np.lexsort((extended["instalment_no"], extended["due_ms"]), axis=-1)
    put_records(rows["instalments"], users, np.ascontiguousarray(np.take_along_axis(extended, order, axis=1)[:, 1:]))


def _settle(rows: Rows, users: NDArray[np.int64], columns: InstalmentColumns) -> None:
    slots = take_records(rows["instalments"], users)
    found, slot = _find(slots, columns.instalment_no)
    paying = columns.code == PAID
    known = np.flatnonzero(found)
    at = (known, slot[known])
    paid = slots["amount_paid"][at] + np.where(paying, np.nan_to_num(columns.amount_paid), 0.0)[known]
    slots["amount_paid"][at] = paid
    amount_due = slots["amount_due"][at]
    closed = ~paying[known] | np.isnan(columns.amount_paid[known]) | np.isnan(amount_due)
    closed |= paid >= PAID_IN_FULL * amount_due
    slots["due_ms"][known[closed], slot[known][closed]] = NO_TIME
    put_records(rows["instalments"], users, slots)

    ahead = paying & ~found & columns.in_full & (columns.instalment_no >= 0)
    rows["settled_no"][users[ahead]] = np.maximum(rows["settled_no"][users[ahead]], columns.instalment_no[ahead])


def is_current(rows: Rows, users: NDArray[np.int64], columns: InstalmentColumns) -> NDArray[np.bool_]:
    """Which of `n` repayments leave nothing overdue: payments in full of the newest instalment, bool `[n]`.

    The days past due that such a payment states are how late it was; afterwards nothing is past due. A payment of an
    older instalment leaves the newer ones unpaid, since money goes to the oldest debt first.
    """
    paid: NDArray[np.bool_] = columns.code == PAID
    newest = (columns.instalment_no >= 0) & (columns.instalment_no >= rows["billed_no"][users])
    return paid & columns.in_full & newest
