"""Borrowers with several contracts: the worst one rules, whatever happens on the others, and nothing else changes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.instalments import with_missed_among
from events.types import Event, Profile, Repayment, Transaction
from model.datasets.sources import open_dataset
from stream.outputs import Alert, ContractStanding, Score
from stream.portfolio import PortfolioRules
from stream.scoring.contract_records import contract_records
from stream.scoring.scorer import Scored, Scorer
from stream.settings import load_settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.topics import Topics
from tests.unit.stream.scoring.test_scorer import bundle, outputs, take

_NONE = np.empty(0, dtype=np.int64)
BEGIN = dt.datetime(2024, 1, 1, 8, tzinfo=dt.UTC)


def scorer_with(**rules: Any) -> tuple[Scorer, Slab]:
    slab = Slab(blank_row(row_dtype(bundle().state_width), bundle().fingerprint))
    policy = load_settings().alert_policy(bundle().thresholds)
    return Scorer(bundle(), policy, slab, Topics(), rules=PortfolioRules(**rules)), slab


def repayment(contract: str | None, kind: Any, day: float, number: int | None = None, **more: Any) -> Repayment:
    when = BEGIN + dt.timedelta(days=day)
    if number is not None:
        more.setdefault("due_date", (BEGIN + dt.timedelta(days=30 * number)).date())
    return Repayment(
        event_id=f"{contract}-{kind}-{day}-{number}",
        user_id=more.pop("user_id", "ann"),
        occurred_at=when,
        kind=kind,
        contract_id=contract,
        instalment_no=number,
        **more,
    )


def two_loans() -> list[Event]:
    """Loan A is not paid from its third instalment on; its bills say so. Loan B is paid on the day."""
    events: list[Event] = []
    for month in range(7):
        day = 30.0 * month
        behind = max(0.0, 30.0 * (month - 2))
        events.append(repayment("A", "due", day, month, amount_due=500.0, balance=10_000.0, days_past_due=behind))
        if month < 2:
            events.append(repayment("A", "paid", day + 1, month, amount_due=500.0, amount_paid=500.0))
        events.append(repayment("B", "due", day + 9, month, amount_due=50.0, balance=600.0, days_past_due=0.0))
        events.append(repayment("B", "paid", day + 13, month, amount_due=50.0, amount_paid=50.0, balance=550.0))
        events.append(
            Transaction(
                event_id=f"t{month}", user_id="ann", occurred_at=BEGIN + dt.timedelta(days=day + 20), amount=9.0
            )
        )
    return events


def scores_of(scored: Scored) -> list[Score]:
    return [msgspec.json.decode(value, type=Score) for values in scored.scores.values() for _, value in values]


def alerts_of(scored: Scored) -> list[Alert]:
    return [msgspec.json.decode(value, type=Alert) for values in scored.alerts.values() for _, value in values]


def scored_with(events: Sequence[Event], **rules: Any) -> Scored:
    return scorer_with(**rules)[0].score(take(events))


def test_the_worst_loan_rules_whatever_happens_on_the_other() -> None:
    scored = scored_with(two_loans())
    scores = scores_of(scored)
    from_30_days = [score for score in scores if score.occurred_at >= BEGIN + dt.timedelta(days=90)]
    days = [score.days_past_due or 0 for score in from_30_days]
    assert days == sorted(days)
    assert days[0] == 30
    assert {score.status for score in from_30_days} == {"past_due", "serious"}
    serious = [score for score in from_30_days if (score.days_past_due or 0) >= 60]
    assert {(score.status, score.level) for score in serious} == {("serious", "HIGH")}
    assert len(serious) > 8
    last = scores[-1]
    assert last.contracts == 2
    assert last.exposure == 10_550
    assert last.amount_overdue == 5 * 500
    assert last.expected_loss == pytest.approx(last.score * 10_550 * 0.45)
    (opened, *_) = alerts_of(scored)
    behind = opened.days_past_due or 0
    assert 0 < behind <= 30, "the backstop's days at the latest"
    assert (behind < 30) != ("days_past_due" in opened.triggers)
    assert [contract.contract_id for contract in opened.contracts] == ["A", "B"]
    assert opened.contracts[1] == ContractStanding(
        contract_id="B", status="performing", days_past_due=0.0, amount_overdue=0.0, exposure=550.0, currency=None
    )
    overdue = [reason.text for reason in opened.reasons if reason.code == "overdue"]
    assert overdue == [f"A: a payment is {behind:.0f} days past due"]
    assert (last.exposure, last.status) == (10_550, "serious")


def test_k_contracts_in_step_stand_as_one_of_them() -> None:
    def life(names: Sequence[str | None], user: str) -> list[Event]:
        return [
            repayment(name, kind, day, number, amount_due=100.0, amount_paid=paid, user_id=user)
            for kind, day, number, paid in (
                ("due", 0, 0, None),
                ("paid", 1, 0, 100.0),
                ("due", 30, 1, None),
                ("due", 60, 2, None),
                ("due", 95, 3, None),
            )
            for name in names
        ]

    alone, together = (scores_of(scored_with(life(names, "bob"))) for names in (["x"], ["x", "y", "z"]))
    assert [(score.days_past_due, score.status) for score in together[2::3]] == [
        (score.days_past_due, score.status) for score in alone
    ]


def test_an_absent_contract_id_is_as_good_as_a_constant_one() -> None:
    first: dict[str, str] = {}
    events: list[Event] = []
    for event in open_dataset("simulator", users=12, months=5, seed=4).events():
        contract_id = getattr(event, "contract_id", None)
        if contract_id is None:
            events.append(event)
        elif first.setdefault(event.user_id, contract_id) == contract_id:
            events.append(msgspec.structs.replace(event, contract_id=None, currency=None))
    named = [
        event if event.KIND == "activity" else msgspec.structs.replace(event, contract_id="only") for event in events
    ]
    (plain, its_slab), (constant, other_slab) = scorer_with(), scorer_with()
    before, after = plain.score(take(events)), constant.score(take(named))
    assert outputs([before])[0] == outputs([after])[0]
    for one, other in zip(alerts_of(before), alerts_of(after), strict=True):
        unnamed = [msgspec.structs.replace(contract, contract_id=None) for contract in other.contracts]
        texts = [msgspec.structs.replace(each, text=each.text.removeprefix("only: ")) for each in other.reasons]
        assert one == msgspec.structs.replace(other, contracts=unnamed, reasons=texts)
    for (_, _, row), (_, _, its_twin) in zip(its_slab.items(), other_slab.items(), strict=True):
        pair = [np.frombuffer(each, dtype=its_slab.dtype).copy() for each in (row, its_twin)]
        for each in pair:
            each["standing"]["contract_id"] = 0
        assert pair[0].tobytes() == pair[1].tobytes()


def test_unpaid_instalments_of_two_contracts_with_the_same_number_are_both_missed() -> None:
    events: list[Event] = [
        repayment("A", "due", 0, 1, amount_due=10.0),
        repayment("B", "due", 0, 1, amount_due=10.0),
        Transaction(event_id="t", user_id="ann", occurred_at=BEGIN + dt.timedelta(days=60), amount=1.0),
    ]
    missed = [
        event for event in with_missed_among(events, 3.0) if isinstance(event, Repayment) and event.kind == "missed"
    ]
    assert [(event.contract_id, event.instalment_no) for event in missed] == [("A", 1), ("B", 1)]
    assert len({event.event_id for event in missed}) == 2
    assert [event.event_id for event in with_missed_among(events, 3.0)] == [
        event.event_id for event in with_missed_among(events, 3.0)
    ]


def test_a_ninth_contract_is_counted_and_no_arrears_are_lost() -> None:
    events: list[Event] = [repayment("late", "due", 0, 0, amount_due=10.0)]
    events += [repayment(f"c{number}", "due", 70 + number, 9, amount_due=10.0) for number in range(8)]
    scored = scored_with(events)
    assert scored.counts["contracts_evicted"] == 1
    last = scores_of(scored)[-1]
    assert (last.days_past_due, last.status, last.contracts) == (77.0, "serious", 8)


def test_another_currency_is_refused_wherever_the_stream_is_cut() -> None:
    first = repayment("A", "due", 0, 1, amount_due=100.0, balance=1_000.0, currency="EUR")
    wrong = repayment("A", "paid", 1, 1, amount_paid=100.0, currency="USD")
    corrected = msgspec.structs.replace(wrong, currency="EUR")
    other = repayment("B", "due", 2, 1, amount_due=5.0, balance=10.0, currency="USD")
    profile = Profile(
        event_id="p", user_id="ann", occurred_at=BEGIN + dt.timedelta(days=3), contract_id="A", currency="SEK"
    )
    events = [first, wrong, corrected, other, profile]
    taken = take(events)
    whole, whole_slab = scorer_with()
    single, single_slab = scorer_with()
    at_once = whole.score(taken)
    one_by_one = [single.score([item]) for item in taken]
    assert outputs([at_once]) == outputs(one_by_one)
    assert list(whole_slab.items()) == list(single_slab.items())
    assert [letter.reason for letter in at_once.dead_letters] == ["currency_mismatch"] * 2
    assert "currency is USD, but contract 'A' is in EUR" in at_once.dead_letters[0].message
    assert len(scores_of(at_once)) == 3


@settings(max_examples=40)
@given(st.data())
def test_any_currencies_are_judged_alike_at_once_and_one_by_one(data: st.DataObject) -> None:
    events: list[Event] = []
    for number in range(data.draw(st.integers(2, 12))):
        user_id, contract = data.draw(st.sampled_from(["ann", "bob"])), data.draw(st.sampled_from([None, "A", "B"]))
        currency = data.draw(st.sampled_from([None, "EUR", "SEK"]))
        if data.draw(st.booleans()):
            kind = data.draw(st.sampled_from(["due", "paid", "closed"]))
            events.append(repayment(contract, kind, number, number, user_id=user_id, currency=currency, balance=9.0))
        else:
            when = BEGIN + dt.timedelta(days=number)
            common: Any = {"event_id": f"t{number}", "user_id": user_id, "occurred_at": when}
            events.append(Transaction(amount=1.0, contract_id=contract, currency=currency, **common))
    taken = take(events)
    (whole, whole_slab), (single, single_slab) = scorer_with(), scorer_with()
    at_once, one_by_one = whole.score(taken), [single.score([item]) for item in taken]
    assert outputs([at_once]) == outputs(one_by_one)
    assert list(whole_slab.items()) == list(single_slab.items())
    refused = [letter for each in one_by_one for letter in each.dead_letters]
    assert at_once.dead_letters == refused


@pytest.mark.parametrize(
    ("rates", "exposure"),
    [({}, None), ({"EUR": 1.0}, None), ({"EUR": 1.0, "SEK": 0.1}, 1_100.0)],
)
def test_amounts_in_several_currencies_need_rates(rates: dict[str, float], exposure: float | None) -> None:
    events = [
        repayment("A", "due", 0, 1, balance=1_000.0, currency="EUR"),
        repayment("B", "due", 1, 1, balance=1_000.0, currency="SEK"),
    ]
    score = scores_of(scored_with(events, currency_rates=rates))[-1]
    assert score.exposure == exposure
    assert (score.expected_loss is None) == (exposure is None)


def test_the_amounts_of_one_contract_are_converted_whether_or_not_it_is_past_due() -> None:
    events: list[Event] = [
        repayment("A", "due", 0, 1, amount_due=100.0, balance=1_000.0, currency="SEK"),
        Transaction(event_id="t", user_id="ann", occurred_at=BEGIN + dt.timedelta(days=60), amount=1.0),
    ]
    scores = scores_of(scored_with(events, currency_rates={"EUR": 1.0, "SEK": 0.1}))
    assert [(score.status, score.exposure) for score in scores] == [("performing", 100.0), ("past_due", 100.0)]
    assert scores[1].amount_overdue == 10.0


def test_what_is_not_material_does_not_count() -> None:
    events = [
        repayment("A", "due", 0, 0, amount_due=40.0, balance=10_000.0),
        repayment("B", "due", 70, 3, amount_due=40.0, balance=100.0),
    ]
    for rules, expected in (
        ({}, (70.0, "serious", True)),
        ({"materiality_absolute": 100.0}, (0.0, "performing", False)),
        ({"materiality_relative": 0.01}, (0.0, "performing", False)),
        ({"materiality_absolute": 30.0, "materiality_relative": 0.001}, (70.0, "serious", True)),
    ):
        last = scores_of(scored_with(events, **rules))[-1]
        assert (last.days_past_due, last.status, last.level == "HIGH") == expected, rules


def test_an_alert_does_not_clear_while_any_contract_is_past_the_backstop() -> None:
    events: list[Event] = [
        repayment("A", "due", 0, 0, amount_due=40.0),
        *(
            repayment("B", kind, 40 + 10 * n + day, n, amount_due=9.0, amount_paid=9.0)
            for n in range(12)
            for kind, day in (("due", 0), ("paid", 1))
        ),
    ]
    assert [alert.kind for alert in alerts_of(scored_with(events))] == ["opened", "escalated"]
    events.append(repayment("A", "paid", 170, 0, amount_due=40.0, amount_paid=40.0))
    events += [repayment("B", "due", 171 + 5 * n, 40 + n, amount_due=9.0) for n in range(8)]
    assert [alert.kind for alert in alerts_of(scored_with(events))] == ["opened", "escalated", "cleared"]


def states(contract: str | None, limit: float | None, day: float, kind: type[Event]) -> Event:
    event: dict[str, Any] = {
        "event_id": f"{contract}-{limit}-{day}-{kind.__name__}", "user_id": "ann", "contract_id": contract,
        "occurred_at": BEGIN + dt.timedelta(days=day), "credit_limit": limit,
    }  # fmt: skip
    return Transaction(amount=-1.0, **event) if kind is Transaction else Profile(**event)


def test_an_alert_tells_the_limit_that_its_contracts_had_then() -> None:
    """The limit that the transaction after it states in the same batch is not in it, and no other contract has it."""
    events = [
        repayment("card", "due", 0, 0, amount_due=40.0),
        repayment("loan", "due", 0, 0, amount_due=40.0),
        states("card", 1_999.99, 1, Profile),
        repayment("loan", "paid", 2, 0, amount_due=40.0, amount_paid=40.0),
        states("card", None, 50, Transaction),
        states("card", 900.0, 51, Transaction),
        states("card", 900.0, 52, Transaction),
        states("card", 300.0, 62, Transaction),
    ]
    scorer, slab = scorer_with()
    scored = scorer.score(take(events))
    opened, escalated = alerts_of(scored)[:2]
    assert [(each.contract_id, each.credit_limit) for each in opened.contracts] == [("card", 1_999.99), ("loan", None)]
    assert [each.credit_limit for each in escalated.contracts] == [300.0, None]
    ((partition, key, row),) = slab.items()
    told = contract_records(partition, [key], np.frombuffer(row, slab.dtype), PortfolioRules(), told=True)
    assert [each["credit_limit"] for each in msgspec.json.decode(told[0][1])["contracts"]] == [300.0, None]


def test_contracts_are_told_of_when_a_limit_changes_and_not_when_it_is_said_again() -> None:
    scorer, _ = scorer_with()
    due = [repayment("card", "due", 0, 0, amount_due=40.0)]
    stating = [states("card", limit, day, Transaction) for limit, day in ((500.0, 1), (500.0, 2), (None, 3), (9.0, 4))]
    taken = take([*due, *stating, states("other", 9.0, 5, Transaction)])
    told = [sum(len(part) for part in scorer.score([item]).told) for item in taken]
    assert told == [1, 1, 0, 0, 1, 0]


@st.composite
def lives(draw: st.DrawFn) -> list[Event]:
    """A few users' repayments on up to ten contracts, with every kind of event, and limits stated among them."""
    count = draw(st.integers(5, 60))
    kinds = ("due", "due", "paid", "paid", "missed", "reversed", "opened", "restructured", "written_off", "closed")
    events: list[Event] = []
    for number in range(count):
        if draw(st.booleans()):
            stating = states(
                draw(st.sampled_from([None, *"AB"])),
                draw(st.sampled_from([500.0, 900.25])),
                number + draw(st.sampled_from([0, 0, -3])) + 40,
                draw(st.sampled_from([Transaction, Profile])),
            )
            events.append(
                msgspec.structs.replace(stating, event_id=f"s{number}", user_id=draw(st.sampled_from(["ann", "bob"])))
            )
        events.append(
            msgspec.structs.replace(
                repayment(
                    draw(st.sampled_from([None, *"ABCDEFGHI"])),
                    draw(st.sampled_from(kinds)),
                    number + draw(st.sampled_from([0, 0, 0, -40])) + 40,
                    draw(st.none() | st.integers(0, 3)),
                    user_id=draw(st.sampled_from(["ann", "bob"])),
                    amount_due=draw(st.sampled_from([None, 100.0])),
                    amount_paid=draw(st.sampled_from([None, 40.0, 100.0])),
                    days_past_due=draw(st.sampled_from([None, 0.0, 35.0])),
                    balance=draw(st.sampled_from([None, 500.0])),
                    currency=draw(st.sampled_from([None, None, "EUR", "USD"])),
                ),
                event_id=f"e{number}",
            )
        )
    return events


@settings(max_examples=25, deadline=None)
@given(lives(), st.integers(1, 9))
def test_any_split_gives_the_same_bits_with_contracts_too(events: list[Event], size: int) -> None:
    taken = take(events)
    (whole, whole_slab), (cut, cut_slab) = scorer_with(), scorer_with()
    at_once = whole.score(taken)
    parts = [cut.score(taken[start : start + size]) for start in range(0, len(taken), size)]
    assert outputs([at_once]) == outputs(parts)
    assert sorted(whole_slab.items()) == sorted(cut_slab.items())
    rows = [{int(row) for row in np.concatenate([_NONE, *found.told])} for found in (at_once, *parts)]
    assert rows[0] == set().union(*rows[1:])
    assert len(at_once.dead_letters) == sum(len(part.dead_letters) for part in parts)
    for score in scores_of(at_once):
        if score.status in ("serious", "written_off"):
            assert score.level == "HIGH"
