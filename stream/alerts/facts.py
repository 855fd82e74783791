"""Running facts of a user: decaying sums, counts and averages of recent events, kept to explain alerts.

Sums and counts decay with event time, so an event costs O(1) and no history is kept. Facts are never an input of a
model. Array arithmetic over many users at once, without I/O and without a clock; a user's result does not depend on the
other users of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.calendar import LAST_DAY
from events.columns import COLUMNS
from events.contracts import CONTRACTS, MISSED, PAID, REPAYMENT_CODES, REVERSED
from events.reasons import NEAR_LIMIT_FROM, NEAR_LIMIT_UNTIL, speaks_of_cash
from events.repayments import Applied
from events.types import KINDS, Kind
from stream.structured import copy_records

_NONE_KNOWN = ("late_last", "late_previous", "late_slow", "paid_share")

REPAYMENT_FACTS = np.dtype(
    [
        ("late_last", "<f4"),  # days past due, at least 0, of the latest payment or missed payment, NaN when none
        ("late_previous", "<f4"),  # of the one before it
        ("late_slow", "<f4"),  # their moving average
        ("missed", "<f4"),  # decaying count of missed payments
        ("reversed", "<f4"),  # decaying count of reversed payments
        ("paid_share", "<f2"),  # moving average of amount_paid / amount_due (at most 1) of payments, NaN when none
        ("latest_day", "<u2"),  # of the contract's latest event; 0 when none
        ("paid_day", "<u2"),  # of the latest payment; 0 when none
        ("reserved", "<u2"),  # always 0; keeps the size a multiple of 4
    ]
)
"""The facts of one contract: 28 bytes, no padding."""

FACTS = np.dtype(
    [
        ("utilisation", "<f4"),  # |balance| / credit limit (at most 10), last known, NaN when never known
        ("spent_recent", "<f4"),  # decaying sums of money out, cash withdrawn and money in, by half-life `RECENT`
        ("spent_slow", "<f4"),  # and by half-life `SLOW`
        ("cash_recent", "<f4"),
        ("cash_slow", "<f4"),
        ("income_recent", "<f4"),
        ("income_slow", "<f4"),
        ("sessions_recent", "<f4"),  # decaying counts
        ("sessions_slow", "<f4"),
        ("inquiries", "<f4"),
        ("device_changes", "<f4"),
        ("repayments", REPAYMENT_FACTS, (CONTRACTS,)),  # at the places of `events.contracts.STANDING`
        ("first_day", "<u2", (3,)),  # days since 1970-01-01 of the first and of the latest event of repayments,
        ("latest_day", "<u2", (3,)),  # transactions and activity; 0 when none
        ("near_limit_day", "<u2"),  # since when the balance has been close to the limit; 0 when it is not
        ("reserved", "<u2", (3,)),  # always 0; keeps the size a multiple of 8
    ]
)
"""A user's facts: 288 bytes, no padding. `initial_facts` gives those of a new user. Days are the lender's."""

_LATENESS_WEIGHT = np.float32(0.2)  # half-life of about three payments
_PAID_SHARE_WEIGHT = np.float32(0.4)  # depends mostly on the last two or three payments

CASH = 1
SESSION, INQUIRY, DEVICE_CHANGE = range(1, 4)
_ACTIVITY_MARKS = {"session": SESSION, "inquiry": INQUIRY, "device_change": DEVICE_CHANGE}


class Memory:
    """Exponential decay by whole days: after `half_life_days` a sum or count weighs half. The weights are a table."""

    def __init__(self, half_life_days: float, longest_days: int = 4_000) -> None:
        self._half_life_days = half_life_days
        self._longest_days = longest_days
        self._table = np.array([0.5 ** (day / half_life_days) for day in range(longest_days + 1)], dtype=np.float32)

    def fade(self, days: NDArray[np.int64]) -> NDArray[np.float32]:
        """Weight left after `days` (0 or more), float32 `[n]`."""
        return self._table.take(days, mode="clip")

    def over(self, days: int) -> float:
        """Weight left after `days`, for one user."""
        return float(self._table[min(days, self._longest_days)])

    def of_steady(self, age_days: int) -> float:
        """The decayed sum of one unit a day from `age_days` ago up to today."""
        each: float = 0.5 ** (1 / self._half_life_days)
        return float((1 - each ** (age_days + 1)) / (1 - each))


RECENT = Memory(half_life_days=30)
SLOW = Memory(half_life_days=120)


class Marks:
    """What sort of event it is, one uint8 per event: a repayment code of `events.contracts`, `CASH`, or a constant of
    an activity; 0 for others."""

    @staticmethod
    def of(kind: Kind, events: Sequence[Any]) -> NDArray[np.uint8]:
        """Marks of events that are all of `kind`, uint8 `[n]`."""
        if kind == "repayments":
            marks = [REPAYMENT_CODES[event.kind] for event in events]
        elif kind == "transactions":
            marks = [
                CASH if speaks_of_cash(event.category, event.channel, event.counterparty_type) else 0
                for event in events
            ]
        elif kind == "activity":
            marks = [_ACTIVITY_MARKS[event.kind] for event in events]
        else:
            return np.zeros(len(events), dtype=np.uint8)
        return np.array(marks, dtype=np.uint8)


def initial_facts(users: int) -> NDArray[np.void]:
    """FACTS `[users]` of users without any event."""
    facts = np.zeros(users, dtype=FACTS)
    facts["utilisation"] = np.nan
    for name in _NONE_KNOWN:
        facts["repayments"][name] = np.nan
    return facts


def update_facts(
    kind: Kind,
    facts: NDArray[np.void],
    numeric: NDArray[np.float32],
    marks: NDArray[np.uint8],
    event_day: NDArray[np.int64],
    applied: Applied | None = None,
) -> NDArray[np.void]:
    """FACTS `[n]` after one event of `kind` for each of `n` different users; `facts` is not changed.

    `numeric` float32 `[n, >= numeric + derived]` from `events.columns.numeric_columns` (TIME_COLUMNS may follow),
    `marks` uint8 `[n]` from `Marks.of`, `event_day` int64 `[n]` from the lender's calendar. A late event counts as if
    it came today. For repayments, `applied` says which contracts they are of.
    """
    after = copy_records(facts)
    if kind == "repayments":
        if applied is None:
            raise ValueError("the contracts of repayments are missing")
        _elapse(after, kind, event_day)
        _repay(after["repayments"], applied, numeric, marks, event_day)
    elif kind == "transactions":
        _move(after, numeric, marks, event_day)
    elif kind == "activity":
        _act(after, numeric, marks, event_day)
    return after


def _elapse(
    after: NDArray[np.void], kind: Kind, event_day: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The users' latest day, this event included, and the days since their previous event of this kind (undefined for
    the first)."""
    number = KINDS.index(kind)
    latest, first = after["latest_day"][:, number], after["first_day"][:, number]
    before = latest.astype(np.int64)
    today = np.maximum(before, np.minimum(event_day, LAST_DAY))
    latest[...] = today
    first[...] = np.where(first == 0, today, first)
    return today, today - before


def _column(kind: Kind, numeric: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    return np.ascontiguousarray(numeric[:, COLUMNS[kind].numeric.index(name)])


def _share(part: NDArray[np.float32], whole: NDArray[np.float32], most: float) -> NDArray[np.float32]:
    """`part / whole`, at most `most`; NaN where either is missing or `whole` is not positive."""
    positive: NDArray[np.float32] = np.where(whole > 0, whole, np.float32(np.nan))
    share: NDArray[np.float32] = np.minimum(part, positive * np.float32(most)) / positive
    return share


def _average(
    after: NDArray[np.void], name: str, value: NDArray[np.float32], counts: NDArray[np.bool_], weight: np.float32
) -> None:
    """Moves the moving average `name` towards `value` where `counts`; the first value is the average."""
    average = after[name]
    moved = np.where(np.isnan(average), value, average + (value - average) * weight)
    after[name] = np.where(counts, moved, average)


def _repay(
    facts: NDArray[np.void],
    applied: Applied,
    numeric: NDArray[np.float32],
    marks: NDArray[np.uint8],
    event_day: NDArray[np.int64],
) -> None:
    """Take one event of a contract into account; `facts` REPAYMENT_FACTS `[n, CONTRACTS]`, in place."""
    at = (np.arange(len(facts)), applied.place)
    after = np.where(applied.new, initial_facts(1)["repayments"][0, 0], facts[at])
    before = after["latest_day"].astype(np.int64)
    today = np.maximum(before, np.minimum(event_day, LAST_DAY))
    after["latest_day"] = today
    dpd = _column("repayments", numeric, "days_past_due")
    paid, missed = marks == PAID, marks == MISSED
    covered = _share(
        _column("repayments", numeric, "amount_paid"), _column("repayments", numeric, "amount_due"), most=1.0
    )
    tells = ~np.isnan(dpd) & (paid | missed)  # the days past due of a `due` event are those of older instalments
    late = np.maximum(dpd, np.float32(0))
    after["late_previous"] = np.where(tells, after["late_last"], after["late_previous"])
    after["late_last"] = np.where(tells, late, after["late_last"])
    _average(after, "late_slow", late, tells, _LATENESS_WEIGHT)
    _average(after, "paid_share", covered, paid & ~np.isnan(covered), _PAID_SHARE_WEIGHT)
    faded = RECENT.fade(today - before)
    after["missed"] = after["missed"] * faded + missed
    after["reversed"] = after["reversed"] * faded + (marks == REVERSED)
    after["paid_day"] = np.where(paid, today, after["paid_day"])
    facts[at] = after


def _move(
    after: NDArray[np.void],
    numeric: NDArray[np.float32],
    marks: NDArray[np.uint8],
    event_day: NDArray[np.int64],
) -> None:
    today, days = _elapse(after, "transactions", event_day)
    amount = _column("transactions", numeric, "amount")
    spent = np.maximum(-amount, np.float32(0))
    sums = {"spent": spent, "cash": spent * (marks == CASH), "income": np.maximum(amount, np.float32(0))}
    for memory, term in ((RECENT, "recent"), (SLOW, "slow")):
        faded = memory.fade(days)
        for name, value in sums.items():
            after[f"{name}_{term}"] = after[f"{name}_{term}"] * faded + value
    balance = np.abs(_column("transactions", numeric, "balance_after"))
    used = _share(balance, _column("transactions", numeric, "credit_limit"), most=10.0)
    used = np.where(np.isnan(used), after["utilisation"], used)
    after["utilisation"] = used
    since = after["near_limit_day"]
    near = (used >= np.float32(NEAR_LIMIT_FROM)) | ((used >= np.float32(NEAR_LIMIT_UNTIL)) & (since > 0))
    after["near_limit_day"] = np.where(near, np.where(since == 0, today, since), 0)


def _act(
    after: NDArray[np.void],
    numeric: NDArray[np.float32],
    marks: NDArray[np.uint8],
    event_day: NDArray[np.int64],
) -> None:
    _, days = _elapse(after, "activity", event_day)
    count = _column("activity", numeric, "count")
    count = np.where(np.isnan(count), np.float32(1), count)
    recent, slow = RECENT.fade(days), SLOW.fade(days)
    sessions = count * (marks == SESSION)
    after["sessions_recent"] = after["sessions_recent"] * recent + sessions
    after["sessions_slow"] = after["sessions_slow"] * slow + sessions
    after["inquiries"] = after["inquiries"] * recent + count * (marks == INQUIRY)
    after["device_changes"] = after["device_changes"] * recent + (marks == DEVICE_CHANGE)
