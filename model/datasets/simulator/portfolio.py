"""Portfolio: the fixed traits of each simulated borrower, drawn once per block of borrowers. Independent of time.

What is agreed by contract is in `terms`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.datasets.simulator.columns import Columns, Flags, Floats, Ints
from model.datasets.simulator.terms import Terms, draw_terms

EMPLOYMENTS = ("employed", "self_employed", "contract", "retired", "student", "unemployed")
EDUCATIONS = ("primary", "secondary", "vocational", "university")
MARITAL_STATUSES = ("single", "married", "divorced", "widowed")
REGIONS = tuple(f"region_{number:02d}" for number in range(1, 13))
AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
SEXES = ("female", "male")
_LOG_FRAILTY, _LOG_FRAILTY_SPREAD = -0.3, 0.75
_FRAILTY_OF_EMPLOYMENT = np.array([0.0, 0.15, 0.2, -0.3, 0.2, 0.5])
_SEEN_SHARE, _SEEN_NOISE = 0.6, 0.5
_PD_LOGIT, _PD_SLOPE = 3.1, 0.9


@dataclass(frozen=True)
class Traits(Columns):
    """Fixed facts and dispositions, arrays `[n]`. Money is in the account's currency, days are whole days."""

    join_share: Floats  # when the borrower joins, as a share of the period; 0 is from the start
    frailty: Floats  # multiplies the rate of leaving the stable regime
    severity: Floats  # how deep a decline goes
    visibility: Floats  # how much of the stress shows outside repayments; 0 shows nothing
    style: Floats  # constant habits that look like stress
    seasonal: Flags  # income that falls in winter
    festive: Flags  # spends much in December, harmlessly
    forgetful: Flags  # pays late, harmlessly
    rolls_at_days: Floats  # rolls arrears for months, harmlessly, and pays once they are so old; 0 does not
    exposed: Floats  # how strongly bad times raise the risk of a lost job
    overpays: Floats  # usual payment over the instalment, 1 and up
    refund_phase: Floats  # share of the year at which the tax refund comes, -1 is none
    pay_delay_days: Floats  # usual days from due date to payment
    payday_dom: Ints  # day of month of the salary, 1-28
    income: Floats  # per month
    main: Ints  # place of the contract that the profile is about
    line: Ints  # place of the card or overdraft whose movements are visible; -1 is the current account's own line
    credit_limit: Floats  # of that line; 0 is no line
    base_utilisation: Floats
    spending_rate: Floats  # visible movements per week
    digital_rate: Floats  # sessions per week
    reports_missed: Flags  # the lender publishes `missed`
    reports_balance: Flags
    reports_end: Flags  # the lender publishes that a contract is closed
    states_currency: Flags
    report_lag_days: Ints  # from a payment or reversal to its event
    two_feeds: Flags  # movements arrive twice, from two feeds
    labels_spending: Flags  # the bank names the category of a movement
    has_transactions: Flags
    has_activity: Flags
    has_profile: Flags
    employment: Ints
    education: Ints
    marital_status: Ints
    region: Ints
    age_band: Ints
    sex: Ints
    tenure_months: Floats
    interest_rate: Floats  # of a loan
    origination_pd: Floats
    bureau_score: Floats
    terms: Terms


def draw_traits(rng: np.random.Generator, count: int) -> Traits:
    """Traits of `count` borrowers. Frailty shows, with noise, in employment, origination PD, bureau score and rate."""
    log_frailty = rng.normal(_LOG_FRAILTY, _LOG_FRAILTY_SPREAD, count)
    employment = rng.choice(len(EMPLOYMENTS), count, p=(0.62, 0.12, 0.1, 0.08, 0.04, 0.04))
    log_frailty += _FRAILTY_OF_EMPLOYMENT[employment]
    seen = _SEEN_SHARE * log_frailty + rng.normal(0.0, _SEEN_NOISE, count)
    income = np.exp(rng.normal(7.75, 0.45, count)) * np.array([1.0, 1.1, 0.9, 0.7, 0.45, 0.45])[employment]
    forgetful = rng.random(count) < 0.12
    own_limit = np.where(rng.random(count) < 0.15, 0.0, np.round(income * rng.lognormal(0.4, 0.5, count), -2))
    # Some hardly use their line and some are always at its limit, as in card portfolios; neither is a sign of stress.
    kind_of_use = rng.random(count)
    usual = np.select([kind_of_use < 0.2, kind_of_use > 0.9], [0.03, 0.97], rng.beta(0.9, 1.7, count))
    join_share = np.where(rng.random(count) < 0.6, 0.0, 0.8 * rng.random(count))
    terms = draw_terms(rng, income, usual, join_share > 0)
    visible = terms.revolving & terms.held & ~terms.foreign
    line = np.where(visible.any(axis=0), visible.argmax(axis=0), -1)
    limit = np.where(line < 0, own_limit, terms.limit[line, np.arange(count)])
    return Traits(
        join_share=join_share,
        frailty=np.exp(log_frailty),
        severity=np.clip(rng.lognormal(-0.05, 0.35, count), 0.35, 2.2),
        visibility=np.where(rng.random(count) < 0.2, 0.0, rng.uniform(0.3, 1.3, count)),
        style=rng.normal(0.0, 0.8, count),
        seasonal=rng.random(count) < 0.1,
        festive=rng.random(count) < 0.4,
        forgetful=forgetful,
        rolls_at_days=np.array([0.0, 20.0, 38.0])[rng.choice(3, count, p=(0.81, 0.14, 0.05))],
        exposed=np.array([1.0, 1.3, 1.6, 0.1, 0.8, 0.6])[employment],
        overpays=np.where(rng.random(count) < 0.25, 1.0 + rng.exponential(0.06, count), 1.0),
        refund_phase=np.where(rng.random(count) < 0.45, 0.1 + 0.2 * rng.beta(1.5, 2.5, count), -1.0),
        pay_delay_days=rng.normal(-2.0, 1.5, count) + np.where(forgetful, 6.5, 0.0),
        payday_dom=rng.integers(1, 29, count),
        income=income,
        main=np.where(terms.held & ~terms.foreign, terms.instalment, -1.0).argmax(axis=0),
        line=line,
        credit_limit=limit,
        base_utilisation=usual,
        spending_rate=rng.gamma(3.0, 0.33, count),
        digital_rate=rng.gamma(1.5, 0.3, count),
        reports_missed=rng.random(count) >= 0.15,
        reports_balance=rng.random(count) >= 0.15,
        reports_end=rng.random(count) >= 0.1,
        states_currency=(rng.random(count) < 0.6) | terms.foreign.any(axis=0),
        report_lag_days=rng.choice(5, count, p=(0.6, 0.2, 0.1, 0.06, 0.04)),
        two_feeds=rng.random(count) < 0.03,
        labels_spending=rng.random(count) >= 0.07,
        has_transactions=rng.random(count) >= 0.1,
        has_activity=rng.random(count) >= 0.15,
        has_profile=rng.random(count) >= 0.05,
        employment=employment,
        education=rng.choice(len(EDUCATIONS), count, p=(0.1, 0.4, 0.25, 0.25)),
        marital_status=rng.choice(len(MARITAL_STATUSES), count, p=(0.4, 0.42, 0.13, 0.05)),
        region=rng.integers(0, len(REGIONS), count),
        age_band=rng.choice(len(AGE_BANDS), count, p=(0.1, 0.25, 0.25, 0.2, 0.13, 0.07)),
        sex=rng.integers(0, 2, count),
        tenure_months=np.floor(rng.exponential(30.0, count)),
        interest_rate=_rounded(np.clip(0.07 + 0.025 * seen + rng.normal(0, 0.015, count), 0.01, 0.35), 4),
        origination_pd=_rounded(np.clip(1 / (1 + np.exp(_PD_LOGIT - _PD_SLOPE * seen)), 0.001, 0.6), 4),
        bureau_score=_rounded(np.clip(660 - 55 * seen + rng.normal(0, 25, count), 300, 850), 0),
        terms=terms,
    )


def log_frailty_given_profile(traits: Traits) -> tuple[Floats, Floats]:
    """Mean and spread of the logarithm of the frailty for one who knows employment and origination PD, both `[n]`."""
    pd = np.clip(traits.origination_pd, 0.001, 0.6)
    seen = (np.log(pd / (1 - pd)) + _PD_LOGIT) / _PD_SLOPE
    prior = _LOG_FRAILTY + _FRAILTY_OF_EMPLOYMENT[traits.employment]
    precision = _LOG_FRAILTY_SPREAD**-2 + (_SEEN_SHARE / _SEEN_NOISE) ** 2
    mean = (prior * _LOG_FRAILTY_SPREAD**-2 + _SEEN_SHARE * seen * _SEEN_NOISE**-2) / precision
    return mean, np.full(len(mean), precision**-0.5)


def _rounded(values: NDArray[np.floating], decimals: int) -> Floats:
    return np.round(values, decimals)
