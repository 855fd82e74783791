"""A counterfactual takes away the fact that its reason goes by, and nothing that is not recent or of another kind."""

from __future__ import annotations

import datetime as dt
import functools
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.counterfactuals import COUNTERFACTUALS, RECENT_DAYS, Past, without_cause
from events.instalments import with_missed_among
from events.reasons import CATALOGUE, is_cash
from events.types import Activity, Event, Repayment, Transaction
from model.datasets.sources import open_dataset
from reports.raised_alerts import situation_after
from stream.alerts.reasons import all_findings

START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
RECENT = 365 - RECENT_DAYS


def at(day: float) -> dt.datetime:
    return START + dt.timedelta(days=day)


def repayment(day: float, kind: str = "paid", **fields: object) -> Repayment:
    late = fields.get("days_past_due", 0.0)
    due = (at(day) - dt.timedelta(days=late or 0)).date()
    values = {"amount_due": 100.0, "amount_paid": 100.0 if kind == "paid" else None, "days_past_due": 0.0, **fields}
    return Repayment(event_id=f"r{day}{kind}", user_id="u", occurred_at=at(day), kind=kind, due_date=due, **values)


def movement(day: float, amount: float, **fields: object) -> Transaction:
    return Transaction(event_id=f"t{day}{amount}", user_id="u", occurred_at=at(day), amount=amount, **fields)


def act(day: float, kind: str) -> Activity:
    return Activity(event_id=f"a{day}{kind}", user_id="u", occurred_at=at(day), kind=kind)


def calm_year() -> list[Event]:
    """A year of paying on the day, earning, spending and looking at the app, up to day 365."""
    events: list[Event] = [repayment(day) for day in range(5, 365, 30)]
    events += [movement(day, 2_000.0, category="salary") for day in range(1, 365, 30)]
    events += [
        movement(day, -50.0, category="groceries", balance_after=300.0, credit_limit=1_000.0)
        for day in range(2, 365, 4)
    ]
    events += [movement(day + 0.5, -20.0, category="cash") for day in range(3, 365, 20)]
    events += [act(day, "session") for day in range(0, 366, 5)]
    return sorted(events, key=lambda event: event.occurred_at)


def with_changes(*more: Event, without: object = lambda _: False) -> list[Event]:
    kept = [event for event in calm_year() if not (callable(without) and without(event))]
    return sorted([*kept, *more], key=lambda event: event.occurred_at)


def late(event: Event) -> bool:
    return event.occurred_at >= at(RECENT)


TROUBLES: dict[str, list[Event]] = {
    "overdue": with_changes(repayment(362, "missed", days_past_due=3.0), repayment(364, "due", days_past_due=5.0)),
    "late_payment": with_changes(repayment(364, days_past_due=30.0)),
    "paying_later": with_changes(repayment(360, days_past_due=4.0), repayment(364, days_past_due=9.0)),
    "missed_payments": with_changes(repayment(352, "missed", days_past_due=3.0), repayment(356, days_past_due=7.0)),
    "part_payments": with_changes(repayment(364, amount_paid=30.0)),
    "reversed_payment": with_changes(repayment(364, "reversed")),
    "no_payment": with_changes(without=lambda e: isinstance(e, Repayment) and e.occurred_at > at(300)),
    "near_limit": with_changes(
        *(movement(day + 0.1, -9.0, balance_after=-960.0, credit_limit=1_000.0) for day in range(330, 365, 5)),
        without=lambda e: isinstance(e, Transaction) and e.balance_after is not None and e.occurred_at > at(330),
    ),
    "cash_out": with_changes(*(movement(day + 0.2, -200.0, channel="atm") for day in range(340, 365, 3))),
    "income_down": with_changes(without=lambda e: isinstance(e, Transaction) and e.amount > 0 and late(e)),
    "spending_up": with_changes(*(movement(day + 0.3, -90.0) for day in range(320, 365, 2))),
    "spending_down": with_changes(without=lambda e: isinstance(e, Transaction) and e.amount < 0 and late(e)),
    "credit_inquiries": with_changes(*(act(day + 0.1, "inquiry") for day in (350, 355, 360))),
    "device_change": with_changes(act(364.1, "device_change")),
    "sessions_up": with_changes(*(act(day / 4 + 0.05, "session") for day in range(1_300, 1_460))),
    "sessions_down": with_changes(without=lambda e: isinstance(e, Activity) and late(e)),
}


def applying(events: list[Event]) -> set[str]:
    return {finding.code for findings in all_findings(*situation_after(events))[0].values() for finding in findings}


def test_a_calm_year_has_no_trouble() -> None:
    assert applying(calm_year()) == set()


def test_every_code_but_combination_can_be_taken_away() -> None:
    assert set(COUNTERFACTUALS) == set(CATALOGUE) - {"combination"}
    assert set(TROUBLES) == {code for code, entry in CATALOGUE.items() if entry.strength != "-"}
    assert all((entry.counterfactual != "-") == (code in COUNTERFACTUALS) for code, entry in CATALOGUE.items())


@pytest.mark.parametrize("code", TROUBLES)
def test_a_counterfactual_takes_away_what_its_reason_goes_by(code: str) -> None:
    events = TROUBLES[code]
    assert code in applying(events)
    without = without_cause(code, events)
    assert without is not None
    assert code not in applying(without)


@pytest.mark.parametrize(
    "code", sorted(set(TROUBLES) - {"income_down", "spending_down", "sessions_down", "no_payment"})
)
def test_where_there_is_nothing_to_take_away_nothing_is_changed(code: str) -> None:
    without = without_cause(code, with_changes(without=lambda e: isinstance(e, Transaction) and is_cash(e)))
    assert without is None


def test_the_usual_is_the_users_own() -> None:
    habitual = [repayment(day, days_past_due=8.0) for day in range(5, 270, 30)]
    events: list[Event] = [*habitual, repayment(360, days_past_due=25.0)]
    without = without_cause("paying_later", events)
    assert without is not None
    assert [event.days_past_due for event in without if isinstance(event, Repayment)] == [8.0] * 10
    assert without[-1].due_date == at(352).date()


def test_a_balance_that_was_always_at_its_limit_is_set_to_half_of_it() -> None:
    events: list[Event] = [movement(day, -1.0, balance_after=990.0, credit_limit=1_000.0) for day in range(0, 200, 10)]
    without = without_cause("near_limit", events)
    assert without is not None
    assert {event.balance_after for event in without if Past(events).is_recent(event)} == {500.0}


def test_what_arrived_late_stays_in_its_place() -> None:
    events = TROUBLES["income_down"]
    swapped = [*events[:-6], *reversed(events[-6:])]
    without = without_cause("income_down", swapped)
    assert without is not None
    ids = [event.event_id for event in without]
    kept = [event.event_id for event in swapped if event.event_id in set(ids)]
    assert [event_id for event_id in ids if event_id in set(kept)] == kept


@functools.cache
def borrowers() -> list[list[Event]]:
    by_user: dict[str, list[Event]] = defaultdict(list)
    for event in with_missed_among(open_dataset("simulator", users=25, months=8, seed=12).events(), 3.0):
        by_user[event.user_id].append(event)
    return list(by_user.values())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_holds_of_any_counterfactual(data: st.DataObject) -> None:
    history = data.draw(st.sampled_from(borrowers()))
    events = history[: data.draw(st.integers(1, len(history)))]
    code = data.draw(st.sampled_from(sorted(COUNTERFACTUALS)))
    before = list(events)
    without = without_cause(code, events)
    assert events == before
    if without is None:
        return
    past, kind = Past(events), CATALOGUE[code].kind
    assert [event for event in without if kind != event.KIND] == [event for event in events if kind != event.KIND]
    assert {event.user_id for event in without} <= {events[0].user_id}
    ids = [event.event_id for event in without]
    assert len(set(ids)) == len(ids)
    if CATALOGUE[code].strength != "-" and code != "no_payment":
        old = [event for event in events if not past.is_recent(event)]
        assert [event for event in without if not past.is_recent(event)] == old
