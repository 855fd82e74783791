"""Running facts after each event equal the same sums taken over the whole history."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.calendar import DAY_MS
from events.columns import numeric_columns, occurred_ms
from events.repayments import Applied
from events.types import KINDS, Activity, Event, Kind, Profile, Repayment, Transaction
from stream.alerts.facts import FACTS, RECENT, REPAYMENT_FACTS, SLOW, Marks, initial_facts, update_facts

START = dt.datetime(2023, 1, 1, 12, tzinfo=dt.UTC)
START_DAY = (START.date() - dt.date(1970, 1, 1)).days


def at(day: float) -> dict[str, object]:
    return {"event_id": f"e{day}", "user_id": "u", "occurred_at": START + dt.timedelta(days=day)}


def take(facts: np.ndarray, events: list[Event]) -> np.ndarray:
    """One event of the same kind for each of several users."""
    kind = type(events[0]).KIND
    times = occurred_ms(events)
    numeric, marks = numeric_columns(kind, events, times), Marks.of(kind, events)
    return update_facts(kind, facts, numeric, marks, times // DAY_MS, of_one_contract(facts))


def of_one_contract(facts: np.ndarray) -> Applied:
    """Repayments of each user's only contract."""
    never = facts["repayments"]["latest_day"][:, 0] == 0
    return applied_at(np.zeros(len(facts), dtype=np.int64), never, np.zeros(len(facts), dtype=np.bool_))


def applied_at(place: np.ndarray, new: np.ndarray, evicted: np.ndarray) -> Applied:
    """Of what was applied, facts go by no more than this."""
    return Applied(place, new, evicted, np.full(len(place), -1), np.zeros(len(place)))


def follow(*events: Event) -> np.void:
    """One user's facts after events."""
    facts = initial_facts(1)
    for event in events:
        facts = take(facts, [event])
    return facts[0]


def follow_contract(*events: Event) -> np.void:
    """The facts of one user's only contract after events."""
    return follow(*events)["repayments"][0]


def repayment(day: float, kind: str = "paid", **fields: float) -> Repayment:
    return Repayment(**at(day), kind=kind, **fields)


def movement(day: float, amount: float, **fields: object) -> Transaction:
    return Transaction(**at(day), amount=amount, **fields)


def test_the_row_is_small_and_has_no_padding():
    assert FACTS.itemsize == 288
    for dtype in (FACTS, REPAYMENT_FACTS):
        assert sum(dtype[name].itemsize for name in dtype.names or ()) == dtype.itemsize


def test_lateness_is_told_by_payments_not_by_bills():
    facts = follow_contract(
        repayment(0, days_past_due=4.0),
        repayment(20, "due", days_past_due=0.0),
        repayment(30, days_past_due=-3.0),
        repayment(60, "missed", days_past_due=9.0),
        repayment(61, days_past_due=None),
    )
    assert (facts["late_previous"], facts["late_last"]) == (0, 9)
    assert facts["late_slow"] == pytest.approx(3.2 + 0.2 * (9 - 3.2))


def test_contracts_have_facts_of_their_own():
    facts = initial_facts(1)
    for place, is_new in ((0, True), (3, True), (3, False)):
        event = repayment(place, "missed", days_past_due=9.0)
        times = occurred_ms([event])
        applied = applied_at(np.array([place]), np.array([is_new]), np.array([False]))
        numeric, marks = numeric_columns("repayments", [event], times), Marks.of("repayments", [event])
        facts = update_facts("repayments", facts, numeric, marks, times // DAY_MS, applied)
    assert facts["repayments"]["missed"][0, :4].tolist() == [1, 0, 0, 2]
    assert np.isnan(facts["repayments"]["late_last"][0, 1])
    gone = applied_at(np.array([3]), np.array([True]), np.array([True]))  # another contract takes the place
    facts = update_facts("repayments", facts, numeric, marks, times // DAY_MS, gone)
    assert facts["repayments"]["missed"][0, 3] == 1


def test_part_payments_move_the_share_that_is_paid():
    facts = follow_contract(repayment(0, amount_due=100.0, amount_paid=120.0))
    assert facts["paid_share"] == 1
    facts = follow_contract(
        repayment(0, amount_due=100.0, amount_paid=100.0),
        repayment(30, amount_due=100.0, amount_paid=50.0),
        repayment(31, amount_due=0.0, amount_paid=10.0),
        repayment(32, amount_due=None, amount_paid=10.0),
        repayment(33, "missed", amount_due=100.0),
        repayment(34, "reversed", amount_due=100.0, amount_paid=10.0),
    )
    assert facts["paid_share"] == pytest.approx(1 - 0.4 * 0.5, abs=1e-3)


def test_missed_and_reversed_payments_fade():
    facts = follow_contract(repayment(0, "missed"), repayment(30, "missed"), repayment(60, "reversed"), repayment(90))
    assert facts["missed"] == pytest.approx(0.125 + 0.25)
    assert facts["reversed"] == pytest.approx(0.5)
    assert facts["paid_day"] == START_DAY + 90


@given(
    gaps=st.lists(st.floats(0, 50), min_size=1, max_size=30),
    amounts=st.lists(st.floats(-1e4, 1e4, width=32), min_size=30, max_size=30),
    cash=st.lists(st.booleans(), min_size=30, max_size=30),
)
@settings(deadline=None)
def test_sums_are_those_of_the_whole_history(gaps: list[float], amounts: list[float], cash: list[bool]):
    days = np.cumsum(gaps)
    history = list(zip(days, amounts, cash, strict=False))
    facts = follow(*(movement(day, amount, channel="atm" if c else "card") for day, amount, c in history))
    whole_days = [(START + dt.timedelta(days=float(day))).date().toordinal() for day in days]
    for term, half_life in (("recent", 30), ("slow", 120)):
        weights = [0.5 ** ((whole_days[-1] - day) / half_life) for day in whole_days]
        terms = list(zip(weights, history, strict=True))
        expected = {
            "spent": sum(w * max(-amount, 0) for w, (_, amount, _) in terms),
            "cash": sum(w * max(-amount, 0) for w, (_, amount, c) in terms if c),
            "income": sum(w * max(amount, 0) for w, (_, amount, _) in terms),
        }
        for name, value in expected.items():
            assert facts[f"{name}_{term}"] == pytest.approx(value, rel=1e-4, abs=1e-3)
    assert facts["first_day"].tolist() == [0, START_DAY + whole_days[0] - START.date().toordinal(), 0]
    assert facts["latest_day"].tolist() == [0, START_DAY + whole_days[-1] - START.date().toordinal(), 0]


def test_closeness_to_the_limit_is_dated_from_its_start():
    def used(day: float, balance: float | None, limit: float | None = 1000.0) -> Transaction:
        return movement(day, -1.0, balance_after=balance, credit_limit=limit)

    start = [used(0, 500.0), used(5, -950.0)]
    assert follow(*start)["near_limit_day"] == START_DAY + 5, "a balance owed may carry either sign"
    assert follow(*start, used(9, 850.0), used(12, None), used(13, 980.0, 0.0))["near_limit_day"] == START_DAY + 5
    assert follow(*start, used(9, 790.0))["near_limit_day"] == 0
    assert follow(*start, used(9, 790.0), used(10, 850.0))["near_limit_day"] == 0, "near begins at 90 %"
    assert follow(used(0, 1e12, 1e-6))["utilisation"] == 10
    assert np.isnan(follow(used(0, 100.0, None))["utilisation"])


def test_activity_is_counted_by_what_it_is():
    facts = follow(
        Activity(**at(0), kind="session", count=4.0),
        Activity(**at(0.1), kind="session"),
        Activity(**at(0.2), kind="inquiry", count=2.0),
        Activity(**at(30), kind="device_change", count=3.0),
    )
    assert facts["sessions_recent"] == pytest.approx(2.5)
    assert facts["sessions_slow"] == pytest.approx(5 * 0.5**0.25)
    assert facts["inquiries"] == pytest.approx(1)
    assert facts["device_changes"] == 1, "one change of device, whatever its count"


def test_a_late_event_counts_as_if_it_came_today():
    facts = follow(movement(50, -10.0), movement(20, -10.0))
    assert facts["spent_recent"] == 20
    assert facts["latest_day"][1] == START_DAY + 50


def test_a_profile_leaves_no_facts():
    facts = initial_facts(1)
    assert take(facts, [Profile(**at(0), income=1.0)]).tobytes() == facts.tobytes()


@pytest.mark.parametrize(
    ("fields", "is_cash"),
    [
        ({"category": "cash"}, True),
        ({"category": "Cash withdrawal"}, True),
        ({"category": "cash_withdrawal"}, True),
        ({"channel": "ATM"}, True),
        ({"counterparty_type": "cash-out"}, True),
        ({"category": "cashback"}, False),
        ({"channel": "batman"}, False),
        ({"category": None, "channel": "card"}, False),
    ],
)
def test_cash_is_told_by_whole_words(fields: dict[str, str], is_cash: bool):
    facts = follow(movement(0, -40.0, **fields))
    assert facts["cash_recent"] == (40 if is_cash else 0)


def test_cash_paid_in_is_income_not_cash_out():
    facts = follow(movement(0, 40.0, category="cash"))
    assert (facts["cash_recent"], facts["income_recent"]) == (0, 40)


def test_marks_of_every_kind():
    kinds = ("due", "paid", "missed", "reversed", "opened", "restructured", "written_off", "closed")
    assert Marks.of("repayments", [repayment(0, kind) for kind in kinds]).tolist() == list(range(1, 9))
    activities = ("session", "inquiry", "device_change")
    assert Marks.of("activity", [Activity(**at(0), kind=kind) for kind in activities]).tolist() == [1, 2, 3]
    for kind in KINDS:
        marks = Marks.of(kind, [])
        assert (marks.dtype, marks.shape) == (np.uint8, (0,))


def random_events(kind: Kind, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    width = {"repayments": 8, "transactions": 6, "activity": 5, "profiles": 12}[kind]
    numeric = rng.normal(50, 80, (n, width)).astype(np.float32)
    numeric[rng.random(numeric.shape) < 0.2] = np.nan
    if kind == "transactions":
        numeric[:, 0] = rng.normal(0, 50, n)
    days = rng.integers(18_000, 20_000, n)
    return numeric, rng.integers(0, 5, n).astype(np.uint8), days


@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 90), shift=st.integers(0, 30))
@settings(deadline=None)
def test_a_user_does_not_depend_on_who_else_is_in_the_batch(seed: int, length: int, shift: int):
    rng = np.random.default_rng(seed)
    together = split = initial_facts(120)
    rows = slice(shift, shift + length)
    for kind in [*KINDS, *KINDS]:
        numeric, marks, days = random_events(kind, rng, 120)
        together = update_facts(kind, together, numeric, marks, days, of_one_contract(together))
        some = split[rows]
        part = update_facts(kind, some, numeric[rows], marks[rows], days[rows], of_one_contract(some))
        split = update_facts(kind, split, numeric, marks, days, of_one_contract(split))
        split[rows] = part
        assert split.tobytes() == together.tobytes()


def test_the_callers_facts_are_not_changed():
    wide = np.zeros(4, dtype=[("a", "u1", (3,)), ("facts", FACTS), ("b", "f4", (9,))])
    wide["facts"] = initial_facts(4)
    before = wide.tobytes()
    numeric, marks, days = random_events("transactions", np.random.default_rng(1), 4)
    after = update_facts("transactions", wide["facts"], numeric, marks, days)
    assert wide.tobytes() == before
    assert after.tobytes() != wide["facts"].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_and_missing_values_raise_no_warning(kind: Kind):
    numeric, marks, days = random_events(kind, np.random.default_rng(2), 60)
    numeric[:20] = np.nan
    numeric[20:40] = 1e12
    numeric[40:50] = 1e-38
    numeric[50:] = 0
    facts = initial_facts(60)
    for _ in range(3):
        facts = update_facts(kind, facts, numeric, marks, days, of_one_contract(facts))
    if kind == "repayments":
        shares = facts["repayments"]["paid_share"]
        assert np.nanmax(shares) <= 1


def test_memory_fades_by_half_and_never_fails_far_out():
    assert RECENT.fade(np.array([0, 30, 60])).tolist() == [1, 0.5, 0.25]
    assert SLOW.over(120) == 0.5
    assert RECENT.fade(np.array([10**9])).tolist() == [RECENT.over(10**9)]
    total = sum(0.5 ** (day / 30) for day in range(91))
    assert RECENT.of_steady(90) == pytest.approx(total)
