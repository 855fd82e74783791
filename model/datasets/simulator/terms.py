"""Terms: what a borrower and the lender agreed on in each contract, drawn once per block of borrowers. Independent of
time: when a contract begins and ends is `accounts`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.datasets.simulator.columns import CONTRACTS, Columns, Flags, Floats, Ints

PRODUCTS = ("card", "personal_loan", "auto_loan", "point_of_sale", "overdraft")
CARD, PERSONAL_LOAN, AUTO_LOAN, POINT_OF_SALE, OVERDRAFT = range(5)
_TYPE_OF_PRODUCT = ("card", "loan", "loan", "loan", "overdraft")
HOME_CURRENCY, OTHER_CURRENCY = "EUR", "USD"

_HELD = (0.44, 0.30, 0.17, 0.09)
"""Share of the borrowers who begin with one contract, with two, with three and with four."""
_MIX = (0.36, 0.29, 0.18, 0.10, 0.07)
_RENEWS, _OPENS_LATER = 0.4, 0.35
"""Share of the places of contracts that may be taken once more, and of the free ones that may be taken at all."""
_LOG_BURDEN = np.array([0.0, -2.55, -2.4, -3.4, 0.0])
_TERM_MONTHS = np.array([0.0, 48.0, 60.0, 24.0, 0.0])
_MINIMUM_PAYMENT, _OVERDRAFT_CHARGE = 0.035, 0.02
_PRINCIPAL_SHARE = 0.82
_FOREIGN_SHARE = 0.06
"""Share of the borrowers with several contracts of whom one is in another currency."""
_NEW_SHARE = 0.7
"""Share of the contracts of borrowers who join that begin then; the others come from another lender's books."""
_NUMBERS = 25_000


@dataclass(frozen=True)
class Terms(Columns):
    """Contracts `[CONTRACTS, n]`, in the order in which the borrower would rather pay them. Amounts are in the
    contract's currency."""

    product: Ints  # place in PRODUCTS
    held: Flags  # from the borrower's first day
    waits: Flags  # may begin later, or again after its end
    number: Ints  # what the contract's id is made of
    foreign: Flags  # in OTHER_CURRENCY
    bill_dom: Ints  # day of month of the bill, 1-28
    age_months: Ints  # bills before the borrower's first day; 0 begins then
    instalment: Floats  # or minimum payment
    amount: Floats  # disbursed, 0 for a limit
    principal: Floats  # owed on the borrower's first day
    limit: Floats  # 0 for a loan
    term_months: Floats  # 0 for a limit

    @property
    def revolving(self) -> Flags:
        """Which contracts are limits, and no loans."""
        flags: Flags = (self.product == CARD) | (self.product == OVERDRAFT)
        return flags


def draw_terms(rng: np.random.Generator, income: Floats, usual: Floats, joins: Flags) -> Terms:
    """Contracts of borrowers with an `income`, who use limits as they are `usual`ly used and `join` during the period
    or before it, all `[n]`."""
    count = len(income)
    shape = (CONTRACTS, count)
    product = rng.choice(len(PRODUCTS), shape, p=_MIX)
    repeated = (product == OVERDRAFT) & ((product == OVERDRAFT).cumsum(axis=0) > 1)
    product = np.where(repeated, PERSONAL_LOAN, product)
    is_card, is_overdraft = product == CARD, product == OVERDRAFT
    is_loan = ~is_card & ~is_overdraft
    held = np.arange(CONTRACTS)[:, None] <= rng.choice(CONTRACTS, count, p=_HELD)
    waits = rng.random(shape) < np.where(held, _RENEWS, _OPENS_LATER)

    limit = np.round(income * np.exp(rng.normal(np.where(is_card, 0.4, -0.2), 0.5, shape)), -2)
    limit = np.where(is_loan, 0.0, np.maximum(limit, 200.0))
    burden = np.clip(np.exp(rng.normal(_LOG_BURDEN[product], 0.45, shape)), 0.01, 0.4)
    minimum = limit * np.where(is_card, _MINIMUM_PAYMENT * np.maximum(usual, 0.15), _OVERDRAFT_CHARGE)
    instalment = _cents(np.where(is_loan, income * burden, np.maximum(minimum, 5.0)))
    term = _TERM_MONTHS[product]
    amount = np.round(_PRINCIPAL_SHARE * instalment * term, 0)
    is_new = joins & (rng.random(shape) < _NEW_SHARE)
    age = np.where(is_new, 0, 1 + (rng.random(shape) * np.where(is_loan, 0.6 * term, 30.0)).astype(np.int64))
    owed = np.where(is_loan, amount * (1 - age / np.maximum(term, 1.0)), limit * np.minimum(usual, 1.0))

    # Small before large, cards last, and what the account pays by itself first; some would rather keep their card.
    reluctance = np.log(instalment / income) + 2.6 * is_card - 0.8 * is_overdraft + rng.normal(0.0, 0.6, shape)
    order = np.argsort(reluctance, axis=0)
    several = held.sum(axis=0) > 1
    foreign = several & (rng.random(count) < _FOREIGN_SHARE) & (np.arange(CONTRACTS)[:, None] == 1)
    terms = Terms(
        product=product,
        held=held,
        waits=waits,
        number=rng.integers(0, _NUMBERS, count) * CONTRACTS + np.arange(CONTRACTS)[:, None],
        foreign=foreign,
        bill_dom=rng.integers(1, 29, shape),
        age_months=age,
        instalment=instalment,
        amount=amount,
        principal=_cents(owed),
        limit=limit,
        term_months=term,
    )
    return Terms(**{name: np.take_along_axis(values, order, axis=0) for name, values in vars(terms).items()})


def _cents(amounts: Floats) -> Floats:
    rounded: Floats = np.round(amounts, 2)
    return rounded


def contract_ids(terms: Terms, place: Ints, user: Ints, generation: Ints) -> list[str]:
    """Ids of the contracts of borrowers `user` at a `place`, which holds its second contract in generation 1."""
    kinds = map(_TYPE_OF_PRODUCT.__getitem__, terms.product[place, user].tolist())
    numbers = (terms.number[place, user] + _NUMBERS * CONTRACTS * generation).tolist()
    return [f"{kind}-{number}" for kind, number in zip(kinds, numbers, strict=True)]


def shares_paid_first(terms: Terms, is_open: Flags) -> Floats:
    """Of all that is to be paid in a month on a borrower's open contracts, the share that each contract and those which
    are paid before it come to, `[CONTRACTS, n]`; 1 for the last one. The mean of the shares by amount and by number: a
    small contract that comes last is not paid as surely as the large one before it."""
    amount = np.where(is_open, terms.instalment, 0.0).cumsum(axis=0)
    number = is_open.cumsum(axis=0)
    shares: Floats = 0.5 * (amount / np.maximum(amount[-1], 1e-9) + number / np.maximum(number[-1], 1))
    return shares
