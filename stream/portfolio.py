"""How a lender counts over a borrower's contracts: the rules that settings give. Pure; applies none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from events.calendar import UTC, Calendar
from events.contracts import SERIOUS_DAYS


@dataclass(frozen=True)
class PortfolioRules:
    """How a lender counts, from its settings.

    From `serious_days` past due on a contract is serious. What is overdue on a contract is material above
    `materiality_absolute`, in the contract's currency, and above the share `materiality_relative` of its balance.
    `loss_given_default` is the share of the exposure that a default loses. `currency_rates` has the value of one unit
    of each currency in the currency of reports.
    """

    calendar: Calendar = UTC
    serious_days: float = SERIOUS_DAYS
    materiality_absolute: float = 0.0
    materiality_relative: float = 0.0
    loss_given_default: float = 0.45
    currency_rates: Mapping[str, float] = field(default_factory=dict)
