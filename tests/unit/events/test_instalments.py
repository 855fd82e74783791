import datetime as dt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.calendar import DAY_MS
from events.columns import due_ms
from events.contracts import INSTALMENTS
from events.instalments import Instalment, OpenInstalments, deadline_ms, missed_event, with_missed
from events.types import Repayment, encode_event

DUE_DATE = dt.date(2024, 2, 28)
GRACE_DAYS = 3.0


def repayment(kind, moment_ms, number=1, due_date=None, amount_due=None, amount_paid=None):
    return Repayment(
        event_id=f"{kind}-{number}-{moment_ms}",
        user_id="u1",
        occurred_at=dt.datetime.fromtimestamp(moment_ms / 1000, dt.UTC),
        kind=kind,
        amount_due=amount_due,
        amount_paid=amount_paid,
        instalment_no=number,
        due_date=due_date,
    )


def bill(number=1, due_date=DUE_DATE, amount_due=100.0, notice_days=5):
    return repayment("due", due_ms(due_date) - notice_days * DAY_MS, number, due_date, amount_due)


def payment(amount_paid, number=1, day=0, amount_due=100.0):
    return repayment("paid", due_ms(DUE_DATE) + day * DAY_MS, number, DUE_DATE, amount_due, amount_paid)


def instalment(number=7, due_date=DUE_DATE, amount_due=None, contract_id=None):
    return Instalment(contract_id, number, due_date, amount_due, 0.0, False)


def open_numbers(*events):
    instalments = OpenInstalments()
    for event in events:
        instalments.apply(event)
    return [entry.instalment_no for entry in instalments.open]


def test_missed_event_is_exact_and_the_same_every_time():
    event = missed_event("u1", instalment(amount_due=120.5), 3.0)

    assert event.occurred_at == dt.datetime(2024, 3, 3, tzinfo=dt.UTC)
    assert (event.kind, event.days_past_due, event.amount_due, event.instalment_no) == ("missed", 3.0, 120.5, 7)
    assert encode_event(event) == encode_event(missed_event("u1", instalment(amount_due=120.5), 3.0))
    assert msgspec.json.decode(encode_event(event), type=Repayment) == event


def test_fractional_grace_is_kept_to_the_millisecond():
    event = missed_event("u1", instalment(), 0.5)

    assert event.occurred_at == dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)


def test_missed_event_ids_differ_by_user_contract_number_and_date():
    causes = [
        ("u1", instalment()),
        ("u2", instalment()),
        ("u1", instalment(8)),
        ("u1", instalment(due_date=dt.date(2024, 3, 28))),
        ("u1", instalment(contract_id="A")),
        ("u1", instalment(contract_id="B")),
    ]

    ids = {missed_event(*cause, GRACE_DAYS).event_id for cause in causes}

    assert len(ids) == len(causes)
    assert missed_event(*causes[0], 9.0).event_id in ids


def test_an_instalment_is_missed_at_its_deadline_and_not_before():
    instalments = OpenInstalments()
    instalments.apply(bill())
    deadline = deadline_ms(DUE_DATE, GRACE_DAYS)

    assert instalments.missed(deadline - 1, GRACE_DAYS) == []
    (missed,) = instalments.missed(deadline, GRACE_DAYS)
    instalments.apply(missed_event("u1", missed, GRACE_DAYS))
    assert instalments.missed(deadline, GRACE_DAYS) == []
    assert [(entry.instalment_no, entry.missed) for entry in instalments.open] == [(1, True)]


@pytest.mark.parametrize(
    ("events", "left_open"),
    [
        ([bill()], [1]),
        ([bill(), payment(100.0)], []),
        ([bill(), payment(99.0)], []),
        ([bill(), payment(98.9)], [1]),
        ([bill(), payment(40.0), payment(60.0, day=1)], []),
        ([bill(), payment(None)], []),
        ([bill(amount_due=None), payment(1.0)], []),
        ([bill(), payment(100.0, number=None)], []),
        ([bill(), payment(100.0, number=2)], []),  # money goes to the oldest debt first
        ([bill(), payment(100.0, number=0)], [1]),
        ([bill(), repayment("missed", due_ms(DUE_DATE))], [1]),  # missed, and still unpaid
        ([bill(), repayment("missed", due_ms(DUE_DATE), number=None)], [1]),
        ([bill(), payment(100.0), repayment("reversed", due_ms(DUE_DATE) + DAY_MS, amount_paid=100.0)], [1]),
        ([repayment("due", 0, number=None, due_date=DUE_DATE)], []),
        ([repayment("due", 0, number=1, due_date=None)], []),
        ([payment(100.0), bill()], []),
        ([payment(50.0), bill()], [1]),
        ([payment(100.0, number=2), bill(1), bill(2), bill(3)], [3]),
        ([bill(), payment(60.0), bill(amount_due=60.0), payment(0.0)], []),
    ],
)
def test_what_opens_and_what_closes(events, left_open):
    assert open_numbers(*events) == left_open


def test_the_oldest_open_instalment_takes_a_payment_without_number():
    later = bill(2, dt.date(2024, 3, 28))

    assert open_numbers(later, bill(1), payment(100.0, number=None)) == [2]


def test_one_instalment_more_than_there_is_room_for_drops_the_earliest_due():
    dates = [DUE_DATE + dt.timedelta(days=30 * number) for number in range(INSTALMENTS + 1)]
    bills = [bill(number, date) for number, date in enumerate(dates)]

    assert open_numbers(bills[1], bills[0], *bills[2:]) == list(range(1, INSTALMENTS + 1))


def test_an_event_at_the_deadline_is_applied_first():
    deadline = deadline_ms(DUE_DATE, GRACE_DAYS)
    on_time = repayment("paid", deadline, amount_due=100.0, amount_paid=100.0)
    late = repayment("paid", deadline + 1, amount_due=100.0, amount_paid=100.0)

    assert [event.kind for event in with_missed([bill(), on_time], GRACE_DAYS)] == ["due", "paid"]
    assert [event.kind for event in with_missed([bill(), late], GRACE_DAYS)] == ["due", "missed", "paid"]


def test_the_clock_stops_at_the_last_event_unless_told_otherwise():
    deadline = deadline_ms(DUE_DATE, GRACE_DAYS)

    assert len(list(with_missed([bill()], GRACE_DAYS))) == 1
    assert len(list(with_missed([bill()], GRACE_DAYS, until_ms=deadline - 1))) == 1
    assert len(list(with_missed([bill()], GRACE_DAYS, until_ms=deadline))) == 2


def test_a_bill_that_comes_after_its_deadline_is_missed_at_once():
    late_bill = repayment("due", deadline_ms(DUE_DATE, GRACE_DAYS) + DAY_MS, 1, DUE_DATE, 100.0)

    assert [event.kind for event in with_missed([late_bill], GRACE_DAYS)] == ["due", "missed"]


@st.composite
def histories(draw):
    """A user's bills ahead of their due dates and payments, misses and reversals at any time, in order of time."""
    count = draw(st.integers(1, 8))
    events = [bill(number, DUE_DATE + dt.timedelta(days=30 * number)) for number in range(count)]
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["paid", "paid", "missed", "reversed"]))
        number = draw(st.one_of(st.none(), st.integers(0, count)))
        moment_ms = due_ms(DUE_DATE) + draw(st.integers(-10 * 24, 300 * 24)) * DAY_MS // 24
        amount_paid = draw(st.sampled_from([None, 30.0, 70.0, 100.0]))
        events.append(repayment(kind, moment_ms, number, None, 100.0, amount_paid))
    return sorted(events, key=lambda event: event.occurred_at)


@given(histories(), st.sampled_from([0.0, 0.25, 3.0, 20.0]))
def test_nothing_is_lost_or_reordered_and_insertions_are_in_time(events, grace_days):
    together = list(with_missed(events, grace_days, until_ms=due_ms(DUE_DATE) + 400 * DAY_MS))
    given_ids = {event.event_id for event in events}
    inserted = [event for event in together if event.event_id not in given_ids]

    assert [event for event in together if event.event_id in given_ids] == events
    assert [event.occurred_at for event in together] == sorted(event.occurred_at for event in together)
    assert all(event.kind == "missed" for event in inserted)
    assert len({event.event_id for event in inserted}) == len(inserted)


@given(histories(), st.sampled_from([0.0, 3.0]))
def test_applying_the_rule_again_adds_no_new_event(events, grace_days):
    """A `missed` event at the very time of another event may be named again, with the same id and content."""
    until_ms = due_ms(DUE_DATE) + 400 * DAY_MS
    once = list(with_missed(events, grace_days, until_ms))
    again = with_missed(once, grace_days, until_ms)

    assert list(dict.fromkeys(again)) == list(dict.fromkeys(once))


@given(histories())
def test_an_instalment_paid_in_full_by_number_in_time_is_never_missed(events):
    """Unless a payment is taken back, of it or, without a number, of the one that was settled last."""
    number = 0
    in_time = [
        event
        for event in events
        if event.kind == "paid"
        and event.instalment_no == number
        and event.amount_paid == 100.0
        and due_ms(DUE_DATE) <= event.occurred_at.timestamp() * 1000 < deadline_ms(DUE_DATE, GRACE_DAYS)
    ]
    missed = {event.instalment_no for event in with_missed(events, GRACE_DAYS) if event not in events}

    taken_back = any(event.kind == "reversed" and event.instalment_no in (None, number) for event in events)
    assert not in_time or taken_back or number not in missed


@given(histories())
def test_never_more_open_than_there_are_slots(events):
    instalments = OpenInstalments()
    for event in events:
        instalments.apply(event)
        assert len(instalments.open) <= INSTALMENTS
        assert list(instalments.open) == sorted(
            instalments.open, key=lambda entry: (entry.due_date, entry.instalment_no)
        )
