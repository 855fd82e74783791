"""The rule of `events.credit_limits` against a plain account of each borrower."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from events.calendar import DAY_MS
from events.columns import occurred_ms
from events.contracts import CONTRACTS, NO_CONTRACT, contract_id_of, initial_ledger, initial_standing
from events.credit_limits import StatedLimits, apply_limits, credit_limits
from events.repayments import apply_repayments, repayment_columns
from events.types import Profile, Repayment, Transaction

START = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)
Kind = Literal["opened", "due", "paid", "restructured", "written_off", "closed"]
KINDS: tuple[Kind, ...] = ("opened", "due", "paid", "restructured", "written_off", "closed")
Happening = Repayment | Transaction | Profile


def repaid(kind: Kind, day: float, contract: str | None = None) -> Repayment:
    return Repayment(event_id="r", user_id="u", occurred_at=at(day), kind=kind, contract_id=contract)


def stated(limit: float | None, day: float, contract: str | None = None) -> Transaction:
    return Transaction(
        event_id="t", user_id="u", occurred_at=at(day), amount=-1.0, credit_limit=limit, contract_id=contract
    )


def in_profile(limit: float | None, day: float, contract: str | None = None) -> Profile:
    return Profile(event_id="p", user_id="u", occurred_at=at(day), credit_limit=limit, contract_id=contract)


def at(day: float) -> dt.datetime:
    return START + dt.timedelta(days=day)


class Books:
    """The arrays of some borrowers."""

    def __init__(self, borrowers: int = 1) -> None:
        self.standing, self.ledger = initial_standing(borrowers), initial_ledger(borrowers)
        self.today = np.zeros(borrowers, dtype=np.int64)

    def take(self, happening: Sequence[Happening]) -> set[int]:
        """One event of each borrower; returns those of whom a contract has another limit."""
        times = occurred_ms(happening)
        self.today = np.maximum(self.today, times // DAY_MS)
        of_repayments = [number for number, each in enumerate(happening) if isinstance(each, Repayment)]
        if of_repayments:
            columns = repayment_columns([happening[number] for number in of_repayments], times[of_repayments])
            standing, ledger = self.standing[of_repayments], self.ledger[of_repayments]
            apply_repayments(standing, ledger, columns, times[of_repayments] // DAY_MS, self.today[of_repayments])
            self.standing[of_repayments], self.ledger[of_repayments] = standing, ledger
        others = np.array([number for number in range(len(happening)) if number not in of_repayments], dtype=np.int64)
        events = [happening[number] for number in others]
        limits = StatedLimits.of(events, credit_limits(events), times[others])
        return set(apply_limits(self.standing, others[limits.position], limits.columns).tolist())

    def limits(self, borrower: int = 0) -> dict[str | None, float | None]:
        """The limit of each contract that is kept."""
        standing = self.standing[borrower]
        return {
            contract_id_of(standing["contract_id"][place]): None if limit != limit else limit
            for place, limit in enumerate(standing["credit_limit"].tolist())
            if standing["phase"][place] != NO_CONTRACT
        }


def limits_after(*happening: Happening) -> dict[str | None, float | None]:
    books = Books()
    for each in happening:
        books.take([each])
    return books.limits()


def test_the_latest_statement_by_event_time_holds() -> None:
    due = repaid("due", 0)
    assert limits_after(due) == {None: None}
    assert limits_after(due, stated(500.0, 1), in_profile(800.25, 2)) == {None: 800.25}
    assert limits_after(due, in_profile(800.25, 2), stated(500.0, 1)) == {None: 800.25}, "it came late"
    assert limits_after(due, stated(500.0, 1), stated(900.0, 1)) == {None: 900.0}, "of one moment the last"
    assert limits_after(due, stated(500.0, 1), stated(None, 2)) == {None: 500.0}
    assert limits_after(due, stated(500.0, 1), stated(500.0, 9), stated(900.0, 5)) == {None: 500.0}, (
        "an unchanged limit is as new as its last statement"
    )
    assert limits_after(due, stated(0.0, 1)) == {None: 0.0}


def test_only_what_a_repayment_has_told_of_has_a_limit() -> None:
    assert limits_after(stated(500.0, 1), repaid("due", 2)) == {None: None}
    assert limits_after(repaid("due", 0, "card"), stated(500.0, 1)) == {"card": None}
    assert limits_after(repaid("due", 0, "card"), repaid("due", 0), stated(500.0, 1)) == {"card": None, None: 500.0}
    assert limits_after(repaid("due", 0, "card"), repaid("due", 0, "card-2"), stated(500.0, 1, "card-2")) == {
        "card": None,
        "card-2": 500.0,
    }


def test_a_contract_that_has_ended_keeps_its_limit() -> None:
    before: list[Happening] = [repaid("due", 0), stated(500.0, 1), repaid("closed", 5)]
    assert limits_after(*before, stated(900.0, 6)) == {None: 500.0}
    assert limits_after(*before, stated(900.0, 4)) == {None: 500.0}
    assert limits_after(*before, repaid("due", 7), stated(900.0, 8)) == {None: 900.0}, "it goes on after all"
    assert limits_after(repaid("written_off", 0), stated(900.0, 8)) == {None: 900.0}


def test_opening_begins_anew() -> None:
    before: list[Happening] = [repaid("due", 0), stated(500.0, 1)]
    assert limits_after(*before, repaid("opened", 5)) == {None: None}
    assert limits_after(*before, repaid("opened", 5), stated(700.0, 4)) == {None: None}, "of the former contract"
    for moment in ((repaid("opened", 5), in_profile(700.0, 5)), (in_profile(700.0, 5), repaid("opened", 5))):
        assert limits_after(*before, *moment) == {None: 700.0}
    assert limits_after(*before, repaid("due", 9), repaid("opened", 5)) == {None: 500.0}, "the opening came late"


def test_a_contract_that_makes_room_takes_its_limit_along() -> None:
    first: list[Happening] = [repaid("due", 0, "first"), stated(500.0, 0, "first")]
    others = [repaid("due", 1 + number, f"c{number}") for number in range(CONTRACTS)]
    assert limits_after(*first, *others[:-1])["first"] == 500.0
    assert set(limits_after(*first, *others).values()) == {None}
    again: list[Happening] = [repaid("due", 40, "first"), stated(300.0, 0, "c3")]
    found = limits_after(*first, *others, *again)
    assert (found["first"], found["c3"]) == (None, 300.0)


@dataclass
class Account:
    """What the rule says of one borrower, once more; the arrays say which contracts had to make room."""

    limit: dict[str | None, float | None] = field(default_factory=dict)
    as_of: dict[str | None, dt.datetime | None] = field(default_factory=dict)
    latest: dict[str | None, dt.datetime] = field(default_factory=dict)
    ended: set[str | None] = field(default_factory=set)

    def take(self, each: Happening) -> None:
        name, when = each.contract_id, each.occurred_at
        if not isinstance(each, Repayment):
            as_of = self.as_of.get(name)
            if each.credit_limit is None or name not in self.limit or name in self.ended:
                return
            if as_of is None or when >= as_of:
                self.limit[name], self.as_of[name] = each.credit_limit, when
            return
        if name not in self.limit:
            self.limit[name], self.as_of[name] = None, None
        before = self.latest.get(name)
        if before is None or when > before:
            self.ended.discard(name)
        if before is None or when >= before:
            if each.kind in ("opened", "restructured", "written_off"):
                self.ended.discard(name)
            elif each.kind == "closed":
                self.ended.add(name)
            as_of = self.as_of[name]
            if each.kind == "opened" and (as_of is None or as_of < when):
                self.limit[name], self.as_of[name] = None, when
            self.latest[name] = when

    def keep(self, names: set[str | None]) -> None:
        for gone in self.limit.keys() - names:
            del self.limit[gone], self.as_of[gone], self.latest[gone]
            self.ended.discard(gone)


@st.composite
def happenings(draw: st.DrawFn) -> Happening:
    name = draw(st.sampled_from([None, *"abcdefghij"]) | st.sampled_from([None, "a"]))
    day = draw(st.integers(0, 12))
    limit = draw(st.none() | st.sampled_from([0.0, 0.1, 700.0, 1_999.99]))
    which = draw(st.integers(0, 2))
    if which == 0:
        return repaid(draw(st.sampled_from(KINDS)), day, name)
    return stated(limit, day, name) if which == 1 else in_profile(limit, day, name)


@given(st.integers(1, 3).flatmap(lambda users: st.lists(st.lists(happenings(), min_size=users, max_size=users))))
def test_limits_are_those_of_a_plain_account(steps: list[list[Happening]]) -> None:
    """Borrowers with events in any order, some late, on up to eleven contracts."""
    users = len(steps[0]) if steps else 1
    books, accounts = Books(users), [Account() for _ in range(users)]
    for step in steps:
        before = [dict(account.limit) for account in accounts]
        changed = books.take(step)
        for number, (account, each) in enumerate(zip(accounts, step, strict=True)):
            account.take(each)
            found = books.limits(number)
            account.keep(set(found))
            assert found == account.limit
            if not isinstance(each, Repayment):
                assert (number in changed) == (before[number] != account.limit)


@given(st.lists(st.lists(st.none() | st.floats(0, 1e9), min_size=1, max_size=9), min_size=1, max_size=4), st.data())
def test_columns_of_parts_are_those_of_the_whole(parts: list[list[float | None]], data: Any) -> None:
    events = [[stated(limit, place, f"c{place}") for place, limit in enumerate(part)] for part in parts]
    joined = StatedLimits.joined([StatedLimits.of(part, credit_limits(part), occurred_ms(part)) for part in events])
    flat = [event for part in events for event in part]
    stating = [number for number, event in enumerate(flat) if event.credit_limit is not None]
    if not stating:
        assert joined is None
        return
    assert joined is not None
    whole = StatedLimits.of(flat, credit_limits(flat), occurred_ms(flat))
    for mine, its in zip((*joined.columns, *joined[1:]), (*whole.columns, *whole[1:]), strict=True):
        assert mine.tolist() == its.tolist()
    start, stop = sorted(data.draw(st.integers(0, len(flat))) for _ in range(2))
    which = joined.within(slice(start, stop))
    assert joined.position[which].tolist() == [number for number in stating if start <= number < stop]
    assert joined.columns.at(which).credit_limit.tolist() == [
        flat[number].credit_limit for number in stating if start <= number < stop
    ]
