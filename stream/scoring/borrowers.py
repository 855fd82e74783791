"""How borrowers stand over all their contracts: days past due, status, exposure, what is overdue. Pure.

One contract's days past due and status are the rule of `events.contracts`; this adds them up under a lender's settings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.contracts import (
    CONTRACTS,
    DEFAULTED,
    LOST,
    OPEN,
    PHASES,
    REARRANGED,
    SERIOUS,
    STATUSES,
    contract_days,
    contract_id_of,
    contract_status,
    currency_code,
    currency_of,
    overdue_amounts,
)
from stream.outputs import ContractStanding
from stream.portfolio import PortfolioRules
from stream.state.row import Rows
from stream.structured import take_records

_COUNTED = np.isin(range(len(PHASES)), (OPEN, REARRANGED, LOST))
_OPEN = np.isin(range(len(PHASES)), (OPEN, REARRANGED))
"""By phase: whether a contract's amounts count, and whether it is open."""


@dataclass(frozen=True)
class Borrowers:
    """How `n` borrowers stand.

    `days_past_due` float32: of the worst contract whose overdue amount is material; NaN when nothing is known. `status`
    int8: position in `STATUSES`, that of the worst contract that is not closed, -1 without any contract. `contracts`
    int64: how many are open. `exposure`, `amount_overdue` float64: sums over contracts, NaN when not known.
    `contract_days` and `overdue` float64, `contract_status` int8 `[n, CONTRACTS]`: of each contract.
    """

    days_past_due: NDArray[np.float32]
    status: NDArray[np.int8]
    contracts: NDArray[np.int64]
    exposure: NDArray[np.float64]
    amount_overdue: NDArray[np.float64]
    contract_days: NDArray[np.float64]
    contract_status: NDArray[np.int8]
    overdue: NDArray[np.float64]

    @property
    def serious(self) -> NDArray[np.bool_]:
        """Whose worst contract is serious or written off, bool `[n]`."""
        found: NDArray[np.bool_] = (self.status == SERIOUS) | (self.status == DEFAULTED)
        return found

    @classmethod
    def at(
        cls, rows: Rows, row: NDArray[np.int64], standing: Rows, today: NDArray[np.int64], rules: PortfolioRules
    ) -> Borrowers:
        """The borrowers of `row`, int64 `[n]`, on the day `today` int64 `[n]`; `standing` is a copy of theirs."""
        days = contract_days(standing, today)
        phase = standing["phase"]
        counted = _COUNTED.take(phase)
        status = contract_status(standing, days, rules.serious_days)
        overdue, no_sum = np.zeros(days.shape), np.where(counted.any(axis=1), 0.0, np.nan)
        amount_overdue = no_sum.copy()
        counting_days, counting_status = days, status
        rate = _rates(standing["currency"], counted, rules)
        behind = np.flatnonzero((days > 0).any(axis=1))
        if behind.size:
            ledger = take_records(rows["ledger"], row[behind])
            overdue[behind] = overdue_amounts(standing[behind], ledger, days[behind], today[behind])
            slight = ~_material(overdue[behind], standing["balance"][behind], rules) & (days[behind] > 0)
            if slight.any():
                counting_days = days.copy()
                counting_days[behind] = np.where(slight, 0, days[behind])
                counting_status = contract_status(standing, counting_days, rules.serious_days)
            unpaid = np.where(counted[behind], overdue[behind], 0)
            amount_overdue[behind] += (unpaid if rate is None else unpaid * rate[behind]).sum(axis=1)
        owed = np.where(counted, np.maximum(standing["balance"], 0), 0)
        return cls(
            days_past_due=np.fmax.reduce(counting_days, axis=1).astype(np.float32),
            status=counting_status.max(axis=1),
            contracts=_OPEN.take(phase).sum(axis=1),
            exposure=no_sum + (owed if rate is None else owed * rate).sum(axis=1),
            amount_overdue=amount_overdue,
            contract_days=days,
            contract_status=status,
            overdue=overdue,
        )

    def contracts_of(self, number: int, standing: np.void) -> list[ContractStanding]:
        """The contracts of one borrower, worst first, those that are closed last."""
        status, days = self.contract_status[number], self.contract_days[number]
        places = [place for place in range(CONTRACTS) if status[place] >= 0]
        names = {place: contract_id_of(standing["contract_id"][place]) for place in places}
        places.sort(key=lambda place: (-status[place], -np.nan_to_num(days[place], nan=-1), names[place] or ""))
        return [
            ContractStanding(
                contract_id=names[place],
                status=STATUSES[status[place]],
                days_past_due=_known(days[place]),
                amount_overdue=_known(self.overdue[number, place]),
                exposure=_known(standing["balance"][place]),
                currency=currency_of(int(standing["currency"][place])),
            )
            for place in places
        ]


def _material(overdue: NDArray[np.float64], balance: NDArray[np.float64], rules: PortfolioRules) -> NDArray[np.bool_]:
    """Of which contracts the overdue amount is material, or not known; so is one of a balance that is not known."""
    absolute = ~(overdue <= rules.materiality_absolute)
    relative = ~(overdue <= rules.materiality_relative * np.maximum(balance, 0))
    return absolute & relative


def _rates(
    currency: NDArray[np.uint32], counted: NDArray[np.bool_], rules: PortfolioRules
) -> NDArray[np.float64] | None:
    """What one unit of each contract's currency is worth, float64 `[n, CONTRACTS]`; NaN for amounts that cannot be
    added to the others: of several currencies, where not each has a rate. A contract of unknown currency is in the
    currency of reports. None where all are 1."""
    if not currency.any():
        return None
    rates = np.ones(currency.shape)
    used = np.where(counted, currency, 0)
    if not rules.currency_rates:
        most = used.max(axis=1, keepdims=True)
        rates[((used > 0) & (used != most)).any(axis=1)] = np.nan
        return rates
    known = {currency_code(name): rate for name, rate in rules.currency_rates.items()} | {0: 1.0}
    codes, where = np.unique(used, return_inverse=True)
    return np.array([known.get(int(code), np.nan) for code in codes])[where].reshape(used.shape)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
