"""The rule of `events.repayments` against a plain account of one borrower, and the cases that lenders know."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.calendar import day_number
from events.columns import occurred_ms
from events.contracts import (
    CONTRACTS,
    INSTALMENTS,
    NO_CONTRACT,
    NO_DAY,
    PAID_IN_FULL,
    STATUSES,
    contract_days,
    contract_id_of,
    contract_status,
    find_contract,
    id_words,
    initial_ledger,
    initial_standing,
    overdue_amounts,
)
from events.repayments import apply_repayments, repayment_columns
from events.types import Repayment

START = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)
FIRST_DAY = day_number(START.date())


def event(kind: Any, day: float, contract: str | None = None, **more: Any) -> Repayment:
    if isinstance(more.get("due_date"), int):
        more["due_date"] = START.date() + dt.timedelta(days=more["due_date"])
    return Repayment(
        event_id="e",
        user_id="u",
        occurred_at=START + dt.timedelta(days=day),
        kind=kind,
        contract_id=contract,
        **more,
    )


def due(day: float, number: int, contract: str | None = None, *, on: int | None = None, **more: Any) -> Repayment:
    """A bill of 100 for instalment `number`, due on day `on` (by default the day of the bill)."""
    more.setdefault("amount_due", 100.0)
    return event("due", day, contract, instalment_no=number, due_date=round(day) if on is None else on, **more)


def paid(day: float, number: int | None, amount: float | None = 100.0, contract: str | None = None) -> Repayment:
    return event("paid", day, contract, instalment_no=number, amount_paid=amount, amount_due=100.0)


class Books:
    """The arrays of one borrower."""

    def __init__(self, *events: Repayment) -> None:
        self.standing, self.ledger = initial_standing(1), initial_ledger(1)
        self.today = 0
        self.evicted = 0
        for each in events:
            self.take(each)

    def take(self, each: Repayment) -> Books:
        times = occurred_ms([each])
        day = times // 86_400_000
        self.today = max(self.today, int(day[0]))
        columns = repayment_columns([each], times)
        applied = apply_repayments(self.standing, self.ledger, columns, day, np.array([self.today]))
        self.evicted += int(applied.evicted[0])
        return self

    def days(self, contract: str | None = None, on: float | None = None) -> float:
        """Days past due of a contract on a day of the tests, by default the latest."""
        today = self.today if on is None else FIRST_DAY + round(on)
        found, place = find_contract(self.standing, id_words([contract]))
        assert found[0], f"{contract} is not kept"
        return float(contract_days(self.standing, np.array([today]))[0, place[0]])

    def status(self, contract: str | None = None) -> str:
        days = contract_days(self.standing, np.array([self.today]))
        _, place = find_contract(self.standing, id_words([contract]))
        return STATUSES[contract_status(self.standing, days, 60.0)[0, place[0]]]

    def overdue(self, contract: str | None = None) -> float:
        today = np.array([self.today])
        days = contract_days(self.standing, today)
        _, place = find_contract(self.standing, id_words([contract]))
        return float(overdue_amounts(self.ledger, days, today)[0, place[0]])

    def unpaid(self, contract: str | None = None) -> list[int]:
        """Numbers of a contract's unpaid instalments, earliest due date first."""
        _, place = find_contract(self.standing, id_words([contract]))
        mine = (self.ledger["due_day"][0] != NO_DAY) & (self.ledger["contract"][0] == place[0])
        slots = np.flatnonzero(mine).tolist()
        slots.sort(key=lambda slot: (self.ledger["due_day"][0, slot], self.ledger["instalment_no"][0, slot]))
        return [int(self.ledger["instalment_no"][0, slot]) for slot in slots]

    def names(self) -> set[str | None]:
        kept = np.flatnonzero(self.standing["phase"][0] != NO_CONTRACT)
        return {contract_id_of(self.standing["contract_id"][0, place]) for place in kept}


def test_days_past_due_grow_from_what_was_reported_and_from_the_oldest_unpaid_instalment() -> None:
    books = Books(due(0, 1, days_past_due=0.0))
    assert books.days(on=0) == 0
    assert books.days(on=17) == 17, "the first instalment is not paid"
    books.take(due(30, 2, days_past_due=45.0))
    assert books.days(on=30) == 45, "the lender knows of an older one"
    assert books.days(on=40) == 55
    books.take(paid(41, 1))
    assert books.days(on=41) == 11, "now instalment 2 is the oldest, 11 days old"
    books.take(paid(42, 2))
    assert books.days(on=300) == 0


def test_a_report_that_comes_late_does_not_replace_a_newer_one() -> None:
    books = Books(event("due", 60, days_past_due=60.0), event("due", 30, days_past_due=0.0))
    assert books.days(on=61) == 61


def test_payments_without_numbers_and_dates_settle_what_was_reported() -> None:
    late = event("missed", 0, days_past_due=3.0)
    whole = event("paid", 10, days_past_due=13.0, amount_due=100.0, amount_paid=99.5)
    assert Books(late, event("due", 5)).days() == 8
    assert Books(late, whole).days(on=400) == 0, "how late it was says nothing of what is left"
    assert Books(late, event("paid", 10, days_past_due=13.0)).days(on=400) == 0, "without amounts it is the whole"
    parts = [
        event("paid", day, days_past_due=day + 3.0, amount_due=100.0, amount_paid=amount)
        for day, amount in ((10, 30.0), (12, 50.0), (20, 19.5))
    ]
    assert Books(late, *parts[:2]).days() == 15
    assert Books(late, *parts).days(on=400) == 0
    assert Books(late, *parts[:2], event("due", 15), parts[2]).days() == 23, "the bill begins the count anew"


@pytest.mark.parametrize("number", [1, None])
def test_what_was_reported_goes_with_the_instalment_whose_age_it_was(number: int | None) -> None:
    reported = [due(0, 1), event("missed", 20, instalment_no=1, days_past_due=20.0)]
    parts = [paid(25, number, 60.0), paid(26, number, 40.0)]
    assert Books(*reported, parts[0]).days(on=26) == 26
    assert Books(*reported, *parts).days(on=90) == 0
    next_one = due(30, 2, days_past_due=30.0)
    later = [paid(31, number, 60.0), paid(32, number, 40.0)]
    assert Books(due(0, 1), next_one, later[0]).days(on=32) == 32
    assert Books(due(0, 1), next_one, *later).days(on=32) == 2, "the age of what is unpaid"


def test_what_was_reported_of_an_older_debt_stays() -> None:
    older = due(0, 5, days_past_due=90.0)
    assert Books(older, paid(3, 5, 50.0), paid(4, 5, 50.0)).days(on=10) == 100


def test_a_missed_instalment_does_not_make_an_older_one_younger() -> None:
    first, second = event("missed", 0, days_past_due=3.0), event("missed", 30, days_past_due=3.0)
    assert Books(first, second).days() == 33
    assert Books(first, event("missed", 30)).days() == 33, "one that does not say how late it is"
    assert Books(first, event("missed", 2, days_past_due=40.0)).days() == 40


def test_nothing_is_known_of_a_contract_without_reports_and_dates() -> None:
    assert np.isnan(Books(event("due", 0)).days())


@pytest.mark.parametrize(
    ("events", "left"),
    [
        ([due(0, 1), paid(1, 1, 150.0)], []),  # too much by number: the rest is the lender's to place
        ([due(0, 1), due(0, 2, on=30), paid(1, None, 150.0)], [2]),  # without a number it goes on to the next
        ([due(0, 1), due(0, 2, on=30), paid(1, None, 199.5)], []),
        ([due(0, 1), paid(1, 1, 30.0), paid(2, 1, 30.0), paid(3, 1, 40.0)], []),
        ([paid(-3, 1), due(0, 1)], []),  # paid before the bill
        ([due(0, 1, on=5), due(0, 2, on=5), paid(1, 1)], [2]),  # two on one day
        ([due(0, 1, on=5), due(0, 2, on=5), paid(1, None)], [2]),
        ([due(0, 1, on=0), due(31, 1, on=59)], [1]),  # a new bill for an old number
        ([due(0, 1), event("missed", 4, instalment_no=1), paid(40, 1)], []),
        ([event("missed", 4, instalment_no=1, due_date=1)], [1]),  # never billed
        ([due(0, 1), paid(1, 1), event("reversed", 3, instalment_no=1)], [1]),
        ([due(0, 1), paid(1, 1), event("reversed", 3)], [1]),
        ([due(0, 1), paid(1, 1), event("reversed", 3, instalment_no=7)], []),
        ([event("reversed", 3, instalment_no=7, due_date=1, amount_due=100.0)], [7]),
        ([due(0, 1), paid(1, 1, 40.0), event("reversed", 3, instalment_no=1, amount_paid=40.0), paid(4, 1, 70.0)], [1]),
        ([due(0, 1), event("restructured", 9)], []),
        ([due(0, 1), due(30, 2), event("restructured", 40), due(60, 1)], [1]),
        ([due(0, 1), event("closed", 9)], []),
        ([due(0, 1), event("closed", 9), due(5, 2)], []),  # late, from before it was closed
        ([due(0, 1), event("closed", 9), due(9, 2)], []),  # of the very moment
        ([due(0, 1), event("closed", 9), due(50, 1)], [1]),  # it goes on after all
        ([due(0, 1), event("written_off", 200), due(210, 2)], []),
        ([due(0, 9), event("restructured", 9), due(5, 8), due(40, 1)], [1]),  # 8 is of the old schedule
    ],
)
def test_what_is_unpaid(events: list[Repayment], left: list[int]) -> None:
    assert Books(*events).unpaid() == left


def test_a_reversed_payment_opens_the_instalment_with_its_old_due_date() -> None:
    books = Books(due(0, 1), paid(1, 1), event("reversed", 40, instalment_no=1))
    assert books.days() == 40
    assert books.overdue() == 100


def test_instalments_due_at_the_end_of_months_are_as_old_as_the_calendar_says() -> None:
    dates = [dt.date(2024, 1, 31), dt.date(2024, 2, 29), dt.date(2024, 3, 31)]
    books = Books(*(event("due", 0, instalment_no=n, due_date=date) for n, date in enumerate(dates)))
    for date, unpaid in ((dt.date(2024, 3, 1), 30), (dt.date(2024, 3, 31), 60)):
        assert books.days(on=(date - START.date()).days) == unpaid


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([event("opened", 0, amount=1_000.0, term_months=12.0)], "performing"),
        ([due(0, 1)], "performing"),
        ([due(0, 1), event("due", 1, instalment_no=2, due_date=31)], "past_due"),
        ([due(0, 1), due(59, 2)], "past_due"),
        ([due(0, 1), due(60, 2)], "serious"),
        ([due(0, 1), due(60, 2), event("restructured", 61)], "restructured"),
        ([due(0, 1), due(90, 2), event("written_off", 200)], "written_off"),
        ([due(0, 1), due(90, 2), event("closed", 200)], "closed"),
        ([due(0, 1), event("written_off", 20), event("opened", 300)], "performing"),
    ],
)
def test_statuses(events: list[Repayment], status: str) -> None:
    assert Books(*events).status() == status


def test_the_last_payment_and_the_end_may_come_in_either_order() -> None:
    payment, end = event("paid", 40, instalment_no=1, days_past_due=40.0, balance=3.0), event("closed", 40)
    for events in ((payment, end), (end, payment)):
        books = Books(due(0, 1), due(30, 2), *events)
        assert (books.status(), books.days(on=90), books.unpaid()) == ("closed", 0.0, [])
        assert books.standing["balance"][0, 0] == 0


def test_a_written_off_contract_stays_past_due() -> None:
    books = Books(due(0, 1), due(90, 2), event("written_off", 100))
    assert books.days(on=110) == 110


def test_overdue_is_what_is_unpaid_past_its_date() -> None:
    books = Books(due(0, 1), paid(1, 1, 30.0), due(30, 2), due(30, 3, on=60))
    assert books.overdue() == 70, "instalment 2 is due today, and 3 later"
    assert np.isnan(Books(event("due", 0, days_past_due=40.0)).overdue()), "reported, and no instalment is known"
    assert np.isnan(Books(due(0, 1, amount_due=None), due(30, 2)).overdue())


def test_contracts_do_not_touch_each_other() -> None:
    """The order of events of different contracts at the same moment changes nothing that is kept by contract."""
    loan = [due(0, 1, "A"), due(30, 2, "A"), event("missed", 33, "A", instalment_no=1), paid(50, 2, 40.0, "A")]
    card = [due(0, 1, "B"), paid(30, 1, contract="B"), due(33, 2, "B"), event("restructured", 50, "B")]
    pairs = list(zip(loan, card, strict=True))
    first = Books(*(each for pair in pairs for each in pair))
    second = Books(*(each for pair in pairs for each in reversed(pair)))
    for books in (first, second):
        assert (books.days("A"), books.status("A"), books.unpaid("A"), books.overdue("A")) == (
            first.days("A"), first.status("A"), first.unpaid("A"), first.overdue("A"),
        )  # fmt: skip
        assert (books.days("B"), books.status("B"), books.unpaid("B")) == (0.0, "restructured", [])


def test_more_contracts_than_there_is_room_for() -> None:
    """Ended ones make room first, then the one that was quiet longest without arrears, and one in arrears last."""
    books = Books()
    for number in range(CONTRACTS):
        books.take(due(number, 1, f"c{number}", on=400))
    books.take(due(10, 1, "c0", on=10))  # in arrears from day 11 on, and quiet since
    books.take(event("closed", 11, "c5"))
    books.take(due(20, 1, "new1", on=400))
    assert books.evicted == 1
    assert "c5" not in books.names()
    books.take(due(21, 1, "new2", on=400))
    assert books.evicted == 2
    assert "c1" not in books.names(), "c0 was quiet longer, but is in arrears"
    assert books.days("c0") == 11


def test_when_all_contracts_are_in_arrears_the_one_with_the_fewest_days_makes_room() -> None:
    books = Books(*(due(number, 1, f"c{number}") for number in range(CONTRACTS)))
    books.take(due(20, 1, "new", on=19))
    assert "c7" not in books.names()
    assert books.unpaid("new") == [1]


def test_instalments_that_make_room_leave_their_age_and_amount_behind() -> None:
    books = Books()
    for number in range(INSTALMENTS + 8):
        books.take(due(30 * number, number, "A"))
        books.take(due(30 * number, number, "B"))
    assert len(books.unpaid("A")) + len(books.unpaid("B")) == INSTALMENTS
    for name in ("A", "B"):
        assert books.days(name) == 30 * (INSTALMENTS + 7)
        assert books.overdue(name) == 100 * (INSTALMENTS + 7)
    books.take(paid(1_000, 40, contract="A"))
    assert books.days("A") == 0


# A plain account, without arrays and without limits of room: what the rule says, once more.


@dataclass
class Owed:
    due_day: int
    amount: float | None
    paid: float = 0.0


@dataclass
class Account:
    unpaid: dict[int, Owed] = field(default_factory=dict)
    settled_no: int = -1
    billed_no: int = -1

    def oldest(self) -> int | None:
        return min(self.unpaid, key=lambda number: (self.unpaid[number].due_day, number), default=None)

    def take(self, each: Repayment) -> None:
        number = each.instalment_no
        if each.kind in ("due", "missed") and number is not None:
            self.billed_no = max(self.billed_no, number)
        if each.kind == "due" and number is not None and each.due_date is not None and number > self.settled_no:
            before = self.unpaid.get(number)
            self.unpaid[number] = Owed(day_number(each.due_date), each.amount_due, before.paid if before else 0.0)
        unknown = number is not None and number not in self.unpaid and number > self.settled_no
        if each.kind == "missed" and number is not None and unknown and each.due_date is not None:
            self.unpaid[number] = Owed(day_number(each.due_date), each.amount_due)
        if each.kind == "paid":
            self.pay(each)

    def pay(self, each: Repayment) -> None:
        number, money = each.instalment_no, each.amount_paid
        whole = money is None or each.amount_due is None or money >= PAID_IN_FULL * each.amount_due
        if number is None:
            while (first := self.oldest()) is not None:
                money = self.put(first, money)
                if not money:
                    return
            return
        if number in self.unpaid:
            self.put(number, money)
        elif whole:
            self.settled_no = max(self.settled_no, number)
        if whole and number >= self.billed_no:
            self.unpaid.clear()

    def put(self, number: int, money: float | None) -> float:
        """Pay one instalment; returns what is left over."""
        owed = self.unpaid[number]
        owed.paid += money or 0.0
        if money is not None and owed.amount is not None and owed.paid < PAID_IN_FULL * owed.amount:
            return 0.0
        del self.unpaid[number]
        return 0.0 if money is None or owed.amount is None else max(owed.paid - owed.amount, 0.0)


@st.composite
def repayments(draw: st.DrawFn) -> Repayment:
    return event(
        draw(st.sampled_from(["due", "due", "paid", "paid", "missed"])),
        0,
        draw(st.sampled_from([None, "A", "B"])),
        amount_due=draw(st.sampled_from([None, 100.0, 250.0])),
        amount_paid=draw(st.sampled_from([None, 0.0, 60.0, 99.5, 250.0, 700.0])),
        instalment_no=draw(st.none() | st.integers(0, 4)),
        due_date=draw(st.none() | st.integers(0, 9)),
    )


@given(st.lists(st.tuples(repayments(), repayments(), repayments()), max_size=25))
def test_three_borrowers_side_by_side_follow_the_rule(rounds: list[tuple[Repayment, ...]]) -> None:
    standing, ledger = initial_standing(3), initial_ledger(3)
    accounts: list[dict[str | None, Account]] = [{}, {}, {}]
    today = np.full(3, FIRST_DAY + 20)
    for events in rounds:
        times = occurred_ms(events)
        apply_repayments(standing, ledger, repayment_columns(events, times), times // 86_400_000, today)
        for borrower, each in enumerate(events):
            account = accounts[borrower].setdefault(each.contract_id, Account())
            account.take(each)
            books = Books()
            books.standing, books.ledger = standing[borrower : borrower + 1], ledger[borrower : borrower + 1]
            for name, expected in accounts[borrower].items():
                assert sorted(books.unpaid(name)) == sorted(expected.unpaid)
                oldest = expected.oldest()
                _, place = find_contract(books.standing, id_words([name]))
                if oldest is not None:
                    day = int(books.standing["oldest_due_day"][0, place[0]])
                    assert day == expected.unpaid[oldest].due_day
