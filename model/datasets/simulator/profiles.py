"""Profiles: what a lender knows of a borrower and of one of the contracts, when the borrower comes, when another
contract begins, and now and then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from events.types import Event, Profile
from model.datasets.simulator import portfolio as names
from model.datasets.simulator import state as states
from model.datasets.simulator.columns import CONTRACTS, Flags, Floats
from model.datasets.simulator.drafts import DAY_S, Draft, labelled, named, named_contracts, with_gaps
from model.datasets.simulator.portfolio import Traits
from model.datasets.simulator.state import Week
from model.datasets.simulator.terms import PRODUCTS

_RATE_MARGIN = np.array([0.09, 0.0, -0.015, 0.03, 0.06])
"""Interest by product, beside that of a personal loan."""


def draft_profiles(traits: Traits, week: Week, income: Floats, profiled: Flags, rng: np.random.Generator) -> Draft:
    """A profile for each contract in a borrower's first week, the largest last, and for each that begins later; one
    about the largest now and then and after an income switch. Marks in `profiled` who has one."""
    state = week.state
    settled_in = (state.episode == states.INCOME_SWITCH) & (state.episode_weeks == 2)
    update = rng.random(len(traits.income)) < np.where(settled_in, 0.5, 0.004)
    first = ~profiled
    there: Flags = np.asarray((week.running | week.opened).any(axis=0))
    wanted = there & traits.has_profile & (first | update)
    user = np.flatnonzero(wanted)
    is_open = week.running | week.opened
    of_main = np.arange(CONTRACTS)[:, None] == traits.main
    other_place, other_user = np.nonzero(np.where(first, is_open & ~of_main, week.opened) & traits.has_profile)
    profiled |= there
    second = np.where(first[user], 60, (9 * 3600 + rng.random(len(user)) * 6.5 * DAY_S).astype(np.int64))
    place = np.where(is_open[traits.main, np.arange(len(there))], traits.main, -1)[user]
    place, user = np.concatenate((place, other_place)), np.concatenate((user, other_user))
    second = np.concatenate((second, np.zeros(len(other_user), np.int64)))
    gaps = rng.random((8, len(user))) < 0.08
    terms, known = traits.terms, place >= 0
    # In the currency of the contract.
    unknown_income = gaps[0] | (known & terms.foreign[place, user])
    # The largest contract's profile also has the limit of the borrower's line.
    limit = np.where(known & (place != traits.main[user]), 0.0, traits.credit_limit[user])
    limit = np.where(known & terms.revolving[place, user], terms.limit[place, user], limit)
    monthly = (terms.instalment * is_open).sum(axis=0)
    rate = np.maximum(traits.interest_rate[user] + _RATE_MARGIN[terms.product[place, user]], 0.01)
    return Draft(
        user,
        week.calendar.first_day * DAY_S + second,
        (
            named(traits.age_band[user], names.AGE_BANDS),
            named(traits.sex[user], names.SEXES),
            with_gaps(np.round(income[user], -1), unknown_income),
            labelled(traits.employment[user], names.EMPLOYMENTS, gaps[1]),
            labelled(traits.education[user], names.EDUCATIONS, gaps[2]),
            labelled(traits.marital_status[user], names.MARITAL_STATUSES, gaps[3]),
            named(traits.region[user], names.REGIONS),
            with_gaps(np.array(PRODUCTS)[terms.product[place, user]], ~known),
            with_gaps(traits.tenure_months[user], gaps[4]),
            with_gaps(limit, (limit == 0) | gaps[5]),
            with_gaps(traits.origination_pd[user], gaps[6]),
            with_gaps(traits.bureau_score[user], gaps[7]),
            with_gaps(np.round(rate, 4), ~known),
            np.round(monthly[user] / traits.income[user], 4).tolist(),
            with_gaps(terms.term_months[place, user], ~known | terms.revolving[place, user]),
            *named_contracts(traits, place, user, week.generation, known),
        ),
        _typed_profiles,
    )


def _typed_profiles(rows: Iterable[tuple[Any, ...]]) -> list[Event]:
    return [
        Profile(
            event_id=event_id,
            user_id=user_id,
            occurred_at=occurred_at,
            age_band=age_band,
            sex=sex,
            income=income,
            employment=employment,
            education=education,
            marital_status=marital_status,
            region=region,
            product=product,
            tenure_months=tenure_months,
            credit_limit=credit_limit,
            origination_pd=origination_pd,
            bureau_score=bureau_score,
            interest_rate=interest_rate,
            payment_to_income=payment_to_income,
            term_months=term_months,
            contract_id=contract_id,
            currency=currency,
        )
        for (
            event_id,
            user_id,
            occurred_at,
            age_band,
            sex,
            income,
            employment,
            education,
            marital_status,
            region,
            product,
            tenure_months,
            credit_limit,
            origination_pd,
            bureau_score,
            interest_rate,
            payment_to_income,
            term_months,
            contract_id,
            currency,
        ) in rows
    ]
