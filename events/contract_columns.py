"""The model inputs of a repayment event that say how its contract and the borrower's other contracts stand.

One definition for serving and training: what `events.repayments` has just applied goes in, columns come out. Arrays
over many borrowers at once; a borrower's result does not depend on the others. Pure; knows no bundle. The lender's
settings (materiality, rates of currencies) change what is reported, not what a model sees: they have no part here.

By the names of `events.columns.CONTRACT_COLUMNS`:

- `contract_gap_days`: since the contract's own previous event, not below zero; NaN for the first.
- `contract_days_past_due`: of the contract after the event, by the rule of `events.contracts`; NaN: nothing is known.
- `amount_due_to_usual`, `amount_paid_to_usual`: the event's amounts over the mean of the amounts due that the
  contract's earlier events stated; NaN where either is not known or the mean is 0.
- `balance_to_highest`: the event's balance over the highest that the contract had; NaN likewise.
- `worst_days_past_due`: of the borrower's contracts after the event.
- `contracts_open`, `contracts_past_due` (by a day or more, written-off ones too), `contracts_restructured`: how many.
- `exposure`: sum of the balances; NaN where one is not known, or they are in several currencies.
- `exposure_past_due_share`: the share of it that contracts past due have; 0 where none is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from events.columns import CONTRACT_COLUMNS, gap_days
from events.contracts import COUNTED, REARRANGED, Floats, Ints, Records, aged_days, places_used, summed
from events.repayments import Applied, RepaymentColumns

LARGEST_RATIO = 1_000.0
"""Ratios are cut here, so that none overflows; a model's own bounds are far tighter."""


def contract_columns(
    standing: Records, ledger: Records, columns: RepaymentColumns, applied: Applied, today: Ints
) -> NDArray[np.float32]:
    """`CONTRACT_COLUMNS` of one repayment event for each of `n` borrowers, float32 `[n, len(CONTRACT_COLUMNS)]`.

    `standing` and `ledger` are as `apply_repayments` left them with these `columns` on the day `today`, int64 `[n]`.
    """
    at = (np.arange(len(standing)), applied.place)
    worst = np.maximum(today - standing["since_day"], 0.0)
    found = np.empty((len(standing), len(CONTRACT_COLUMNS)), dtype=np.float32)
    found[:, 0] = gap_days(columns.occurred_ms, applied.previous_ms)
    found[:, 1] = aged_days(
        standing["reported_days"][at], standing["reported_day"][at], standing["oldest_due_day"][at], today
    )
    found[:, 2] = _ratio(columns.amount_due, applied.usual_due)
    found[:, 3] = _ratio(columns.amount_paid, applied.usual_due)
    found[:, 4] = _ratio(columns.balance, ledger["highest_balance"][at])
    found[:, 5] = worst
    found[:, 6] = standing["contracts"]
    found[:, 7] = 0
    places = places_used(standing)
    found[:, 8] = (standing["phase"][:, :places] == REARRANGED).sum(axis=1)
    found[:, 9] = standing["exposure"]
    found[:, 10] = 0
    late = np.flatnonzero(worst > 0)
    if late.size:
        found[late, 7], found[late, 10] = _past_due(standing, late, today[late], places)
    return found


def _past_due(standing: Records, late: Ints, today: Ints, places: int) -> tuple[Ints, Floats]:
    """How many contracts of the borrowers `late` are past due, and their share of the exposure."""
    names = ("reported_days", "reported_day", "oldest_due_day")
    reported, since, oldest = (standing[name][late, :places] for name in names)
    days = aged_days(reported, since, oldest, today[:, None])
    behind = (days >= 1) & COUNTED.take(standing["phase"][late, :places])
    owed = summed(np.where(behind, np.maximum(standing["balance"][late, :places], 0), 0))
    exposure = standing["exposure"][late]
    share = owed / np.where(exposure > 0, exposure, np.nan)
    return behind.sum(axis=1), np.where(behind.any(axis=1), share, 0.0)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`, cut at `LARGEST_RATIO`; NaN where either is not known or `whole` is not positive."""
    base = np.where(whole > 0, whole, np.nan)
    most = base * LARGEST_RATIO
    cut: Floats = np.minimum(np.maximum(part, -most), most) / base
    return cut
