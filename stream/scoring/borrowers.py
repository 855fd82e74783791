"""How borrowers stand over all their contracts: days past due, status, exposure, what is overdue. Pure.

One contract's days past due and status are the rule of `events.contracts`; this adds them up under a lender's settings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.contracts import (
    COUNTED,
    ID_BYTES,
    SERIOUS,
    SETTLED,
    STATUSES,
    contract_days,
    contract_status,
    currency_code,
    currency_of,
    overdue_amounts,
    places_used,
    summed,
)
from stream.outputs import ContractStanding
from stream.portfolio import PortfolioRules
from stream.state.row import Rows
from stream.structured import take_records


@dataclass(frozen=True)
class Borrowers:
    """How `n` borrowers stand.

    `days_past_due` float32: of the worst contract whose overdue amount is material; NaN when nothing is known. `status`
    int8: position in `STATUSES`, that of the worst contract, -1 without any. `contracts` uint8: how many are open.
    `exposure`, `amount_overdue` float64: sums over contracts, NaN when not known.
    """

    days_past_due: NDArray[np.float32]
    status: NDArray[np.int8]
    contracts: NDArray[np.uint8]
    exposure: NDArray[np.float64]
    amount_overdue: NDArray[np.float64]

    @property
    def serious(self) -> NDArray[np.bool_]:
        """Whose worst contract is serious or written off, bool `[n]`."""
        found: NDArray[np.bool_] = self.status >= SERIOUS
        return found

    @classmethod
    def at(cls, rows: Rows, row: NDArray[np.int64], today: NDArray[np.int64], rules: PortfolioRules) -> Borrowers:
        """The borrowers of `row`, int64 `[n]`, on the day `today` int64 `[n]`."""
        standing = rows["standing"]
        days = np.maximum(today - standing["since_day"][row], 0.0)
        status, exposure = standing["status"][row], standing["exposure"][row]
        amount_overdue = np.where(status > SETTLED, 0.0, np.nan)
        # Who owes nothing past its date, and that is nearly everybody, needs no look at each contract, unless balances
        # are to be converted.
        apart = days > 0
        if rules.currency_rates:
            apart |= status > SETTLED
        looked_at = np.flatnonzero(apart)
        if looked_at.size:
            found = _each(rows, row[looked_at], today[looked_at], rules)
            days[looked_at], status[looked_at] = found.days_past_due, found.status
            exposure[looked_at], amount_overdue[looked_at] = found.exposure, found.amount_overdue
        return cls(days.astype(np.float32), status, standing["contracts"][row], exposure, amount_overdue)


@dataclass(frozen=True)
class _Contracts:
    """`n` borrowers with each of their contracts: what `Borrowers` has, and `[n, places]` of each contract."""

    standing: Rows
    days: NDArray[np.float64]
    status_of_each: NDArray[np.int8]
    overdue: NDArray[np.float64]
    days_past_due: NDArray[np.float64]
    status: NDArray[np.int8]
    exposure: NDArray[np.float64]
    amount_overdue: NDArray[np.float64]


def _each(rows: Rows, row: NDArray[np.int64], today: NDArray[np.int64], rules: PortfolioRules) -> _Contracts:
    standing, ledger = take_records(rows["standing"], row), take_records(rows["ledger"], row)
    places = places_used(standing)
    days = contract_days(standing, today, places)
    balance, currency = standing["balance"][:, :places], standing["currency"][:, :places]
    counted = COUNTED.take(standing["phase"][:, :places])
    status = material_status = contract_status(standing, days, rules.serious_days)
    overdue = overdue_amounts(ledger, days, today)
    material_days = days
    slight = ~_material(overdue, balance, rules) & (days > 0)
    if slight.any():
        material_days = np.where(slight, 0, days)
        material_status = contract_status(standing, material_days, rules.serious_days)
    rate = _rates(currency, counted, rules)
    sums = [
        np.where(counted.any(axis=1), summed(np.where(counted, amounts, 0) * rate), np.nan)
        for amounts in (np.maximum(balance, 0), overdue)
    ]
    worst_days = np.fmax.reduce(material_days, axis=1)
    return _Contracts(standing, days, status, overdue, worst_days, material_status.max(axis=1), *sums)


def contracts_at(
    rows: Rows, row: NDArray[np.int64], today: NDArray[np.int64], rules: PortfolioRules
) -> list[list[ContractStanding]]:
    """The contracts of each borrower of `row`, worst first, those that are closed last."""
    each = _each(rows, row, today, rules)
    number, place = np.nonzero(each.status_of_each >= 0)
    status, days = each.status_of_each[number, place], each.days[number, place]
    ids = np.ascontiguousarray(each.standing["contract_id"][number, place]).view(f"S{ID_BYTES}")[:, 0]
    order = np.lexsort((ids, -np.nan_to_num(days, nan=-1), -status, number))
    at = (number[order], place[order])
    made = list(
        map(
            _standing,
            ids[order].tolist(),
            status[order].tolist(),
            _known(days[order]),
            _known(each.overdue[at]),
            _known(each.standing["balance"][at]),
            _known(each.standing["credit_limit"][at]),
            each.standing["currency"][at].tolist(),
        )
    )
    ends = np.cumsum(np.bincount(number, minlength=len(row))).tolist()
    return [made[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _standing(
    contract_id: bytes,
    status: int,
    days: float | None,
    overdue: float | None,
    balance: float | None,
    credit_limit: float | None,
    currency: int,
) -> ContractStanding:
    return ContractStanding(
        contract_id=contract_id.decode() or None,
        status=STATUSES[status],
        days_past_due=days,
        amount_overdue=overdue,
        exposure=balance,
        credit_limit=credit_limit,
        currency=currency_of(currency),
    )


def _material(overdue: NDArray[np.float64], balance: NDArray[np.float64], rules: PortfolioRules) -> NDArray[np.bool_]:
    """Of which contracts the overdue amount is material, or not known; so is one of a balance that is not known."""
    absolute = ~(overdue <= rules.materiality_absolute)
    relative = ~(overdue <= rules.materiality_relative * np.maximum(balance, 0))
    return absolute & relative


def _rates(currency: NDArray[np.uint32], counted: NDArray[np.bool_], rules: PortfolioRules) -> NDArray[np.float64]:
    """What one unit of each contract's currency is worth, float64 `[n, places]`; NaN for amounts that cannot be
    added to the others: of several currencies, where not each has a rate. A contract of unknown currency is in the
    currency of reports."""
    rates = np.ones(currency.shape)
    used = np.where(counted, currency, 0)
    if not rules.currency_rates:
        most = used.max(axis=1, keepdims=True)
        rates[((used > 0) & (used != most)).any(axis=1)] = np.nan
        return rates
    known = {currency_code(name): rate for name, rate in rules.currency_rates.items()} | {0: 1.0}
    codes, where = np.unique(used, return_inverse=True)
    return np.array([known.get(int(code), np.nan) for code in codes])[where].reshape(used.shape)


def _known(values: NDArray[np.float64]) -> list[float | None]:
    """Numbers, None for NaN."""
    return [None if value != value else value for value in values.tolist()]
