"""Days past due, carried on from what lenders report."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest

from events.types import Activity, Event, Repayment
from model.baselines.arrears import overdue_days
from model.baselines.timeline import Timeline
from model.histories.sequences import build_sequences

START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)


def repayment(day: float, kind: Any, days_past_due: float | None = None, paid: float | None = None) -> Repayment:
    return Repayment(
        event_id=f"{day}{kind}", user_id="a", occurred_at=START + dt.timedelta(days=day), kind=kind,
        days_past_due=days_past_due, amount_due=100.0, amount_paid=paid,
    )  # fmt: skip


def session(day: float) -> Activity:
    return Activity(event_id=f"s{day}", user_id="a", occurred_at=START + dt.timedelta(days=day), kind="session")


def overdue(*events: Event) -> list[float]:
    sequences = build_sequences(events)
    return overdue_days(Timeline(sequences, np.arange(sequences.users))).tolist()


def test_what_is_missed_ages_by_the_calendar() -> None:
    assert overdue(session(0), repayment(10, "missed", 3), session(14), session(40)) == [0, 3, 7, 33]


def test_a_payment_in_full_clears_a_young_debt() -> None:
    assert overdue(repayment(0, "missed", 3), repayment(9, "paid", 12, 100.0), session(20)) == [3, 0, 0]


def test_a_part_payment_clears_nothing() -> None:
    assert overdue(repayment(0, "missed", 3), repayment(9, "paid", 12, 40.0)) == [3, 12]


def test_paying_the_oldest_leaves_the_next() -> None:
    found = overdue(repayment(0, "missed", 3), repayment(30, "missed", 33), repayment(40, "paid", 43, 100.0))
    assert found == pytest.approx([3, 33, 43 - 30.4])


def test_a_missed_instalment_never_lowers_it_and_a_bill_states_it() -> None:
    assert overdue(repayment(0, "missed", 20), repayment(30, "missed", 3), repayment(31, "due", 4.0)) == [20, 50, 4]


def test_a_bill_that_says_nothing_changes_nothing() -> None:
    assert overdue(repayment(0, "missed", 20), repayment(5, "due")) == [20, 25]


def test_a_reversed_payment_brings_the_debt_back() -> None:
    assert overdue(repayment(0, "paid", 0, 100.0), repayment(5, "reversed", 5)) == [0, 5]


def test_nothing_is_overdue_without_repayments() -> None:
    assert overdue(session(0), session(1)) == [0, 0]
