"""A borrower's contracts: how many days past due each is, how it stands, and what is unpaid. This is the one definition
of days past due for serving, training and reports.

Arrays over many borrowers at once; a borrower's result does not depend on the others. What repayments do to them is
`events.repayments`. Does no I/O; days are those of the lender's calendar (`events.calendar`) and are arguments.

Days past due of a contract are the larger of what was last reported, one more for each day since, and the age of its
oldest unpaid instalment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

CONTRACTS = 8
"""Contracts that are kept of a borrower."""

INSTALMENTS = 16
"""Unpaid instalments that are kept of a borrower, over all contracts."""

PAID_IN_FULL = 0.99
"""Share of the amount due that settles an instalment; the rest is rounding and fees."""

ID_BYTES = 40
_ID_WORDS = ID_BYTES // 8

DUE, PAID, MISSED, REVERSED, OPENED, RESTRUCTURED, WRITTEN_OFF, CLOSED = range(1, 9)
REPAYMENT_CODES = {
    "due": DUE,
    "paid": PAID,
    "missed": MISSED,
    "reversed": REVERSED,
    "opened": OPENED,
    "restructured": RESTRUCTURED,
    "written_off": WRITTEN_OFF,
    "closed": CLOSED,
}
"""Number of each kind of repayment event in arrays; 0 is no repayment."""

NO_CONTRACT, OPEN, REARRANGED, LOST, ENDED = range(5)
PHASES = ("none", "open", "restructured", "written_off", "closed")
"""What events have made of a contract, an empty place first."""

COUNTED = np.array([False, True, True, True, False])
ONGOING = np.array([False, True, True, False, False])
"""By phase: whether a contract's amounts count, and whether it is open."""

SERIOUS_DAYS = 60.0
"""Days past due from which a contract is serious, unless a lender's settings or a source say otherwise."""

NO_DAY = -1
NEVER_DUE = int(np.iinfo(np.int32).max)
"""Due date, as a day, of a contract that owes nothing."""

STANDING = np.dtype(
    [
        ("contract_id", "<u8", (CONTRACTS, _ID_WORDS)),  # the id's ASCII bytes, zeros after them
        ("balance", "<f8", (CONTRACTS,)),  # outstanding, in the contract's currency; NaN: not known
        ("credit_limit", "<f8", (CONTRACTS,)),  # in the contract's currency; NaN: not known
        ("limit_ms", "<i8", (CONTRACTS,)),  # when it was stated, or the contract opened; -1: never
        ("currency", "<u4", (CONTRACTS,)),  # as `currency_code`; 0: not known
        ("oldest_due_day", "<i4", (CONTRACTS,)),  # of the unpaid instalments; NEVER_DUE when none is unpaid
        ("reported_days", "<f4", (CONTRACTS,)),  # days past due as last reported, NaN: never
        ("reported_day", "<i4", (CONTRACTS,)),  # on which day
        ("phase", "u1", (CONTRACTS,)),  # NO_CONTRACT and so on
        # Over all contracts, as `sum_up` derives it from the fields above.
        ("exposure", "<f8"),  # sum of the balances, NaN when one is not known or of another currency
        ("since_day", "<f8"),  # day from which days past due are counted; infinite: nothing is, NaN: nothing is known
        ("status", "i1"),  # of the worst contract by phases alone, -1 without a contract
        ("contracts", "u1"),  # that are open
        ("reserved", "u1", (6,)),  # always 0; keeps the size a multiple of 8
    ]
)
"""How a borrower's contracts stand. 672 bytes, no padding."""

LEDGER = np.dtype(
    [
        ("latest_ms", "<i8", (CONTRACTS,)),  # of the contract's own repayment events, -1 for none
        ("settled_no", "<i8", (CONTRACTS,)),  # highest instalment that was paid ahead, -1 for none
        ("billed_no", "<i8", (CONTRACTS,)),  # highest that fell due
        ("last_paid_no", "<i8", (CONTRACTS,)),  # the one that was settled last, for a payment that is reversed
        ("last_paid_amount", "<f8", (CONTRACTS,)),  # its amount due
        ("part_paid", "<f8", (CONTRACTS,)),  # payments since the latest bill, as a share of the amount due
        ("dropped_amount", "<f8", (CONTRACTS,)),  # unpaid, of instalments that had to make room
        ("usual_due", "<f8", (CONTRACTS,)),  # mean of the amounts due that its events stated, 0 before the first
        ("highest_balance", "<f8", (CONTRACTS,)),  # that its events stated, at least 0
        ("instalment_no", "<i8", (INSTALMENTS,)),
        ("amount_due", "<f8", (INSTALMENTS,)),  # NaN: not known
        ("amount_paid", "<f8", (INSTALMENTS,)),
        ("due_day", "<i4", (INSTALMENTS,)),  # NO_DAY: an empty place
        ("last_paid_due_day", "<i4", (CONTRACTS,)),
        ("dropped_due_day", "<i4", (CONTRACTS,)),  # oldest of those that had to make room, NEVER_DUE for none
        ("schedule_day", "<i4", (CONTRACTS,)),  # when the contract was opened or restructured, NO_DAY: not known
        ("dues_stated", "<u4", (CONTRACTS,)),  # how many amounts `usual_due` is the mean of
        ("contract", "u1", (INSTALMENTS,)),  # place of the instalment's contract
        ("missed", "u1", (INSTALMENTS,)),  # whether a `missed` event has named it
    ]
)
"""What only repayments read and write. 1,184 bytes, no padding."""

Records = NDArray[np.void]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def initial_standing(users: int) -> Records:
    """STANDING `[users]` of borrowers without a contract."""
    standing = np.zeros(users, dtype=STANDING)
    standing["balance"] = np.nan
    standing["credit_limit"] = np.nan
    standing["limit_ms"] = -1
    standing["oldest_due_day"] = NEVER_DUE
    standing["reported_days"] = np.nan
    standing["exposure"] = np.nan
    standing["since_day"] = np.nan
    standing["status"] = -1
    return standing


def initial_ledger(users: int) -> Records:
    """LEDGER `[users]` of borrowers without a contract."""
    ledger = np.zeros(users, dtype=LEDGER)
    for name in ("latest_ms", "settled_no", "billed_no", "last_paid_no"):
        ledger[name] = -1
    for name in ("due_day", "last_paid_due_day", "schedule_day"):
        ledger[name] = NO_DAY
    ledger["dropped_due_day"] = NEVER_DUE
    return ledger


def id_words(contract_ids: Sequence[str | None]) -> NDArray[np.uint64]:
    """Contract ids as numbers, uint64 `[n, 5]`; zeros for the unnamed contract."""
    if not any(contract_ids):
        return np.zeros((len(contract_ids), _ID_WORDS), dtype=np.uint64)
    text = np.array([b"" if each is None else each.encode() for each in contract_ids], dtype=f"S{ID_BYTES}")
    return text.view("<u8").reshape(len(text), _ID_WORDS)


def contract_id_of(words: NDArray[np.uint64]) -> str | None:
    """The id that `id_words` made these numbers `[5]` of."""
    text = np.ascontiguousarray(words).tobytes().rstrip(b"\0")
    return text.decode() if text else None


def currency_code(currency: str | None) -> int:
    """Three letters as a number, 0 for None."""
    return 0 if currency is None else int.from_bytes(currency.encode(), "big")


def currency_of(code: int) -> str | None:
    """The currency of a `currency_code`."""
    return code.to_bytes(3, "big").decode() if code else None


def places_used(standing: Records) -> int:
    """How many of the places, from the first on, hold all contracts of these borrowers; at least 1.

    Most borrowers have one or two, and arithmetic over the others costs the same as over these.
    """
    return used_places(standing["phase"])


def used_places(phase: NDArray[np.uint8]) -> int:
    """`places_used` of borrowers of whose contracts `phase` uint8 `[n, CONTRACTS]` has the phases."""
    phases = phase.view("<u8") if len(phase) else np.zeros(1, dtype=np.uint64)
    return max(-(-int(np.bitwise_or.reduce(phases, axis=None)).bit_length() // 8), 1)


def summed(values: Floats) -> Floats:
    """The sum over places, `[n, places]` to `[n]`, of the first place first: empty places change no bit of it."""
    total: Floats = values[:, 0].copy()
    for place in range(1, values.shape[1]):
        total += values[:, place]
    return total


def find_contract(standing: Records, contract_id: NDArray[np.uint64], places: int = CONTRACTS) -> tuple[Flags, Ints]:
    """Whether each of `n` borrowers has the contract, and its place, bool and int64 `[n]`. No contract is beyond the
    first `places`."""
    same: Flags = standing["phase"][:, :places] != NO_CONTRACT
    ids = standing["contract_id"]
    for word in range(_ID_WORDS):
        same &= ids[:, :places, word] == contract_id[:, None, word]
    place: Ints = same.argmax(axis=1)
    return same[np.arange(len(same)), place], place


def contract_days(standing: Records, today: Ints, places: int = CONTRACTS) -> Floats:
    """Days past due of each contract on the day `today` int64 `[n]`: float64 `[n, places]`, not below 0.

    NaN where nothing is known of it: no contract, or one of which no instalment and no days past due were reported.
    """
    reported, since, oldest = (
        standing[name][:, :places] for name in ("reported_days", "reported_day", "oldest_due_day")
    )
    return aged_days(reported, since, oldest, today[:, None])


def aged_days(
    reported_days: NDArray[np.float32], reported_day: NDArray[np.int32], oldest_due_day: NDArray[np.int32], today: Ints
) -> Floats:
    """`contract_days` of contracts of which STANDING has these values, which are arrays of any one shape."""
    elapsed = np.maximum(today - reported_day, 0)
    reported = np.where(reported_days > 0, reported_days + elapsed, reported_days * 0)
    age = np.where(oldest_due_day == NEVER_DUE, np.nan, np.maximum(today - oldest_due_day, 0))
    found: Floats = np.fmax(reported, age)
    return found


SETTLED, PERFORMING, RESCHEDULED, PAST_DUE, SERIOUS, DEFAULTED = range(6)
"""Statuses of a contract, from best to worst; `STATUSES` has their names."""

Status: TypeAlias = Literal["closed", "performing", "restructured", "past_due", "serious", "written_off"]
STATUSES: tuple[Status, ...] = ("closed", "performing", "restructured", "past_due", "serious", "written_off")


_STATUS_OF_PHASE = np.array([-1, PERFORMING, RESCHEDULED, DEFAULTED, SETTLED], dtype=np.int8)


def contract_status(standing: Records, days: Floats, serious_days: float) -> NDArray[np.int8]:
    """Status of each contract, int8 `[n, places]`, -1 for an empty place. `days` `[n, places]` are its days past
    due."""
    status: NDArray[np.int8] = _STATUS_OF_PHASE.take(standing["phase"][:, : days.shape[1]])
    behind = np.flatnonzero((days >= 1).any(axis=1))
    if behind.size:
        late, before = days[behind], status[behind]
        counts = (before == PERFORMING) | (before == RESCHEDULED)
        past_due = np.where(late >= serious_days, np.int8(SERIOUS), np.where(late >= 1, np.int8(PAST_DUE), before))
        status[behind] = np.where(counts, past_due, before)
    return status


def sum_up(standing: Records, places: int = CONTRACTS) -> None:
    """Derive what STANDING has over all contracts, which are at the first `places`, from what it has of each."""
    phase = standing["phase"][:, :places]
    counted = COUNTED.take(phase)
    reported, oldest = standing["reported_days"][:, :places].astype(np.float64), standing["oldest_due_day"][:, :places]
    # Days past due of a contract are the days since the earlier of two: its oldest due day, and the day on which what
    # was reported began.
    since = standing["reported_day"][:, :places] - reported
    since = np.where(reported > 0, since, np.where(reported <= 0, np.inf, np.nan))
    since = np.fmin(since, np.where(oldest == NEVER_DUE, np.nan, oldest))
    standing["since_day"] = np.fmin.reduce(since, axis=1)
    owed = summed(np.where(counted, np.maximum(standing["balance"][:, :places], 0), 0))
    known = counted.any(axis=1)
    if standing["currency"].any():
        currency = np.where(counted, standing["currency"][:, :places], 0)
        known &= ((currency == 0) | (currency == currency.max(axis=1, keepdims=True))).all(axis=1)
    standing["exposure"] = np.where(known, owed, np.nan)
    standing["status"] = _STATUS_OF_PHASE.take(phase).max(axis=1)
    standing["contracts"] = ONGOING.take(phase).sum(axis=1)


def overdue_amounts(ledger: Records, days: Floats, today: Ints) -> Floats:
    """What is unpaid past its due date on each contract, float64 `[n, places]`; NaN where that is not known. `days` are
    as `contract_days` gives them.

    It is not known of a contract that is past due by its reports alone, or with an instalment of unknown amount.
    """
    due_day = ledger["due_day"]
    overdue = (due_day != NO_DAY) & (due_day < today[:, None])
    unpaid = np.where(overdue, np.maximum(ledger["amount_due"] - ledger["amount_paid"], 0.0), 0.0)
    amounts = np.zeros(days.shape)
    for place in range(days.shape[1]):
        amounts[:, place] = np.where(ledger["contract"] == place, unpaid, 0.0).sum(axis=1)
    amounts += ledger["dropped_amount"][:, : days.shape[1]]
    return np.where((days > 0) & (amounts == 0), np.nan, amounts)
