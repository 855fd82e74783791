"""Whether promises are kept: whatever is paid and reversed in whatever portions, no money counts twice."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desk.cases.promises import ARRIVAL_TOLERANCE, Payment, Promise, settle
from events.contracts import PAID_IN_FULL

MADE = dt.datetime(2024, 3, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
LATER = MADE + 60 * DAY


def a_promise(amount: float = 100.0, days: int = 10, made_days: int = 0, **more: object) -> Promise:
    return Promise(uuid.uuid4(), amount, MADE + made_days * DAY, MADE + days * DAY, **more)  # type: ignore[arg-type]


def paid(days: float, amount: float | None, kind: Literal["paid", "reversed"] = "paid", **more: object) -> Payment:
    return Payment(kind, MADE + days * DAY, amount, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("payments", "now", "state", "in_time", "late_days"),
    [
        ([], MADE + DAY, "open", 0.0, None),
        ([], MADE + 10 * DAY, "open", 0.0, None),
        ([], MADE + 10 * DAY + ARRIVAL_TOLERANCE, "broken", 0.0, None),
        ([paid(1, 60.0), paid(2, 39.0)], MADE + 2 * DAY, "kept", 99.0, None),
        ([paid(1, 60.0), paid(2, 38.0)], LATER, "broken", 98.0, None),
        ([paid(-1, 100.0)], LATER, "broken", 0.0, None),
        ([paid(1, None)], MADE + DAY, "kept", 100.0, None),
        ([paid(1, 250.0)], MADE + DAY, "kept", 100.0, None),
        ([paid(10, 100.0)], LATER, "broken", 0.0, 10),
        ([paid(1, 60.0), paid(12, 40.0)], LATER, "broken", 60.0, 12),
        ([paid(1, 100.0), paid(3, 100.0, "reversed")], MADE + 4 * DAY, "open", 0.0, None),
        ([paid(1, 100.0), paid(3, None, "reversed"), paid(5, 100.0)], LATER, "kept", 100.0, None),
        ([paid(1, 100.0), paid(30, 40.0, "reversed")], LATER, "broken", 60.0, None),
        ([paid(1, 100.0), paid(30, 40.0, "reversed"), paid(31, 40.0)], LATER, "broken", 60.0, 31),
        ([paid(1, 100.0, instalment_no=4), paid(3, 100.0, "reversed", instalment_no=3)], LATER, "kept", 100.0, None),
        ([paid(1, 100.0, instalment_no=4), paid(3, 100.0, "reversed", instalment_no=4)], LATER, "broken", 0.0, None),
    ],
)  # fmt: skip
def test_one_promise(
    payments: list[Payment], now: dt.datetime, state: str, in_time: float, late_days: float | None
) -> None:
    promise = a_promise()
    (found,) = settle([promise], payments, now).values()
    assert (found.state, found.paid) == (state, in_time)
    assert found.paid_late_at == (None if late_days is None else MADE + late_days * DAY)
    assert (found.settled_at is None) == (state == "open")


def test_when_it_was_kept_or_broken() -> None:
    (kept,) = settle([a_promise()], [paid(1, 60.0), paid(2, 60.0)], LATER).values()
    (lapsed,) = settle([a_promise()], [], LATER).values()
    (fell,) = settle([a_promise()], [paid(1, 100.0), paid(30, 100.0, "reversed")], LATER).values()
    moments = [one.settled_at for one in (kept, lapsed, fell)]
    assert moments == [MADE + 2 * DAY, MADE + 10 * DAY, MADE + 30 * DAY]


def test_what_is_due_first_is_paid_first_and_broken_ones_last() -> None:
    late, soon = a_promise(days=20), a_promise(days=5)
    found = settle([late, soon], [paid(1, 130.0)], LATER)
    assert (found[soon.promise_id].state, found[soon.promise_id].paid) == ("kept", 100.0)
    assert (found[late.promise_id].state, found[late.promise_id].paid) == ("broken", 30.0)
    broken, anew = a_promise(days=5), a_promise(days=30, made_days=7)
    found = settle([broken, anew], [paid(8, 100.0), paid(9, 100.0)], LATER)
    assert found[anew.promise_id].state == "kept"
    assert found[broken.promise_id].paid_late_at == MADE + 9 * DAY


def test_only_the_contract_and_the_currency_that_were_named_count() -> None:
    on_card = a_promise(contract_id="card", currency="EUR")
    for payment, state in (
        (paid(1, 100.0, contract_id="card", currency="EUR"), "kept"),
        (paid(1, 100.0, contract_id="card"), "kept"),
        (paid(1, 100.0, contract_id="card", currency="SEK"), "broken"),
        (paid(1, 100.0, contract_id="loan", currency="EUR"), "broken"),
        (paid(1, 100.0), "broken"),
    ):
        assert settle([on_card], [payment], LATER)[on_card.promise_id].state == state
    anywhere = a_promise()
    assert settle([anywhere], [paid(1, 100.0, contract_id="loan")], LATER)[anywhere.promise_id].state == "kept"


PAYMENTS = st.lists(
    st.tuples(st.sampled_from(["paid", "reversed"]), st.integers(-3, 40), st.integers(1, 150)), max_size=12
).map(lambda rows: [paid(days, float(amount), kind) for kind, days, amount in sorted(rows, key=lambda row: row[1])])  # type: ignore[arg-type]
PROMISES = st.lists(st.tuples(st.integers(1, 200), st.integers(1, 30)), min_size=1, max_size=4).map(
    lambda rows: [a_promise(float(amount), days) for amount, days in rows]
)


@given(PROMISES, PAYMENTS)
def test_no_money_counts_twice(promises: list[Promise], payments: list[Payment]) -> None:
    found = settle(promises, payments, LATER)
    received = sum(one.amount or 0.0 for one in payments if one.kind == "paid" and one.at >= MADE)
    assert sum(one.paid for one in found.values()) <= received + 0.01
    for promise in promises:
        settled = found[promise.promise_id]
        assert 0 <= settled.paid <= promise.amount
        assert (settled.state == "kept") == (settled.paid >= promise.amount * PAID_IN_FULL - 0.01 / 2) or abs(
            settled.paid - promise.amount * PAID_IN_FULL
        ) < 0.01


@given(PROMISES, PAYMENTS)
def test_more_money_never_breaks_a_promise_that_stands_alone(promises: list[Promise], payments: list[Payment]) -> None:
    promise = promises[0]
    only_paid = [one for one in payments if one.kind == "paid"]
    for count in range(len(only_paid)):
        before = settle([promise], only_paid[:count], LATER)[promise.promise_id]
        after = settle([promise], only_paid[: count + 1], LATER)[promise.promise_id]
        assert after.paid >= before.paid
        assert before.state != "kept" or after == before
