"""The inputs of contracts, by hand."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest

from events.columns import CONTRACT_COLUMNS
from events.contract_histories import contract_inputs
from events.types import Event, Repayment, Transaction

START = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)


def event(day: float, kind: Any, contract: str | None = None, **more: Any) -> Repayment:
    if "due_day" in more:
        more["due_date"] = START.date() + dt.timedelta(days=more.pop("due_day"))
    at = START + dt.timedelta(days=day)
    return Repayment(event_id=f"{day}{kind}", user_id="u", occurred_at=at, kind=kind, contract_id=contract, **more)


def last(*events: Event) -> dict[str, float]:
    (inputs,) = contract_inputs([events])
    return dict(zip(CONTRACT_COLUMNS, inputs[-1].tolist(), strict=True))


def test_the_first_event_of_a_contract_knows_nothing_before_it() -> None:
    found = last(event(0, "due", balance=900.0, amount_due=100.0, days_past_due=0.0))
    unknown = [name for name, value in found.items() if np.isnan(value)]
    assert unknown == ["contract_gap_days", "amount_due_to_usual", "amount_paid_to_usual"]
    assert (found["balance_to_highest"], found["contracts_open"], found["exposure"]) == (1, 1, 900)
    assert (found["worst_days_past_due"], found["exposure_past_due_share"]) == (0, 0)


def test_two_contracts_are_told_apart_and_summed() -> None:
    found = last(
        event(0, "due", "large", amount_due=300.0, balance=9_000.0, instalment_no=1, due_day=5, days_past_due=0.0),
        event(10, "restructured", "old", balance=500.0),
        event(20, "due", "small", amount_due=40.0, balance=1_000.0, days_past_due=0.0),
        event(45, "paid", "small", amount_due=60.0, amount_paid=30.0, balance=500.0, days_past_due=0.0),
    )
    assert found["contract_gap_days"] == 25
    assert found["contract_days_past_due"] == 0
    assert (found["amount_due_to_usual"], found["amount_paid_to_usual"]) == (1.5, 0.75)
    assert found["balance_to_highest"] == 0.5
    assert found["worst_days_past_due"] == 40
    assert (found["contracts_open"], found["contracts_past_due"], found["contracts_restructured"]) == (3, 1, 1)
    assert found["exposure"] == 10_000
    assert found["exposure_past_due_share"] == pytest.approx(0.9)


def test_a_transaction_says_how_far_the_time_has_come() -> None:
    bill = event(0, "due", instalment_no=1, due_day=5, amount_due=10.0)
    spending = Transaction(event_id="t", user_id="u", occurred_at=START + dt.timedelta(days=30), amount=-1.0)
    late = event(6, "paid", "other")
    assert last(bill, late)["worst_days_past_due"] == 1
    assert last(bill, spending, late)["worst_days_past_due"] == 25


def test_the_usual_amount_is_a_running_mean_that_a_new_contract_begins_again() -> None:
    bills = [event(day, "due", amount_due=amount, balance=700.0) for day, amount in ((0, 100.0), (1, 300.0))]
    assert last(*bills, event(2, "due", amount_due=400.0))["amount_due_to_usual"] == 2
    assert last(*bills, event(2, "restructured"), event(3, "due", amount_due=50.0))["amount_due_to_usual"] == 0.25
    begun = last(*bills, event(2, "opened"), event(3, "due", amount_due=50.0, balance=70.0))
    assert np.isnan(begun["amount_due_to_usual"])
    assert begun["balance_to_highest"] == 1


def test_amounts_that_cannot_be_added_up_are_not_known() -> None:
    euros = event(0, "due", "a", balance=100.0, currency="EUR", days_past_due=40.0)
    crowns = event(1, "due", "b", balance=100.0, currency="SEK", days_past_due=0.0)
    found = last(euros, crowns)
    assert np.isnan(found["exposure"])
    assert np.isnan(found["exposure_past_due_share"])
    assert found["contracts_past_due"] == 1
    assert np.isnan(last(euros, event(1, "due", "b", days_past_due=0.0))["exposure"])


@pytest.mark.parametrize("amount", [1e12, 5e-324])
def test_ratios_stay_finite(amount: float) -> None:
    small = event(0, "due", amount_due=5e-324, balance=5e-324)
    found = last(small, event(1, "paid", amount_due=amount, amount_paid=1e12, balance=-1e12))
    assert all(np.isfinite(found[name]) for name in ("amount_due_to_usual", "amount_paid_to_usual"))
    assert abs(found["balance_to_highest"]) < 1e6
