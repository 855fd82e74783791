"""A model in training sees of a borrower's contracts what it sees in serving, bit for bit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from events.calendar import Calendar
from events.columns import COLUMNS, CONTRACT_COLUMNS
from events.contract_histories import contract_inputs
from events.instalments import with_missed_among
from events.types import KINDS, Event, Kind, Repayment, Transaction
from events.waves import wave_numbers
from model.bundle import Bundle
from model.histories.sequences import SequenceBuilder, Sequences
from stream.portfolio import PortfolioRules
from stream.scoring.intake import Taken
from stream.scoring.scorer import Scorer
from stream.scoring.waves import waves
from stream.settings import PRETRAINED_BUNDLE, load_settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.topics import Topics

START = dt.datetime(2024, 3, 20, tzinfo=dt.UTC)
GRACE_DAYS = 3.0
MADRID = Calendar("Europe/Madrid")
WHEN = st.integers(0, 24 * 120).map(lambda hours: hours / 24)
AMOUNTS = st.none() | st.sampled_from([0.0, 40.0, 100.0, 1e12])


class Watched(Bundle):
    """Takes every input, and keeps those of repayments as they come."""

    def __init__(self, *read: Any) -> None:
        self.seen: list[NDArray[np.float32]] = []
        super().__init__(*read)

    def takes(self, kind: Kind, names: Any) -> bool:  # noqa: ARG002
        return True

    def step(self, kind: Kind, numeric: Any, categorical: Any, state: Any) -> tuple[Any, Any]:
        if kind == "repayments":
            self.seen.append(numeric.copy())
        return super().step(kind, numeric, categorical, state)


@cache
def watched() -> Watched:
    bundle = Watched.load(PRETRAINED_BUNDLE)
    assert isinstance(bundle, Watched)
    return bundle


@st.composite
def repayments(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(["due", "due", "paid", "paid", "missed", "reversed", "restructured", "closed", "opened"])
    )
    due = draw(st.none() | st.integers(0, 120))
    return {
        "kind": draw(st.just("written_off")) if draw(st.integers(0, 30)) == 0 else kind,
        "amount_due": draw(AMOUNTS),
        "amount_paid": draw(AMOUNTS),
        "balance": draw(st.none() | st.sampled_from([-50.0, 0.0, 500.0, 1_000.0, 1e12])),
        "days_past_due": draw(st.none() | st.sampled_from([-2.0, 0.0, 0.4, 3.0, 31.0, 60.0])),
        "instalment_no": draw(st.none() | st.integers(0, 5)),
        "due_date": None if due is None else START.date() + dt.timedelta(days=due),
        "contract_id": draw(st.sampled_from([None, "a", "b", "c"])),
        "currency": draw(st.sampled_from([None, None, "EUR"])),
    }


@st.composite
def courses(draw: st.DrawFn) -> list[Event]:
    """Events of three borrowers, mostly in order of time."""
    drawn = draw(st.lists(st.tuples(WHEN, st.sampled_from("uvw"), st.none() | repayments()), min_size=1, max_size=40))
    late = draw(st.sets(st.integers(0, len(drawn) - 1), max_size=3))
    order = sorted(range(len(drawn)), key=lambda number: drawn[number][0] + 20.0 * (number in late))
    events: list[Event] = []
    for place, number in enumerate(order):
        days, user, fields = drawn[number]
        common: dict[str, Any] = {"event_id": f"e{place}", "user_id": user, "occurred_at": START + dt.timedelta(days)}
        events.append(Transaction(**common, amount=-5.0) if fields is None else Repayment(**common, **fields))
    return events


def trained_on(events: Sequence[Event], grace_days: float | None, calendar: Calendar = MADRID) -> Sequences:
    builder = SequenceBuilder(None, grace_days, calendar)
    for event in events:
        builder.add(event)
    return builder.finish()


def served(events: Sequence[Event], size: int) -> dict[str, NDArray[np.float32]]:
    """The inputs of each repayment in serving, by its id; the events come in batches of `size`."""
    bundle = watched()
    slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
    rules = PortfolioRules(calendar=MADRID, materiality_absolute=30.0)
    scorer = Scorer(bundle, load_settings().alert_policy(bundle.thresholds), slab, Topics(), rules=rules)
    offsets = [0] * len(KINDS)
    found: dict[str, NDArray[np.float32]] = {}
    for begin in range(0, len(events), size):
        batch = []
        for event in events[begin : begin + size]:
            kind_no, at_ms = KINDS.index(event.KIND), round(event.occurred_at.timestamp() * 1000)
            batch.append(Taken(event.KIND, kind_no, 0, offsets[kind_no], event.user_id.encode(), at_ms, event, None))
            offsets[kind_no] += 1
        bundle.seen = []
        scored = scorer.score(batch)
        assume(not scored.dead_letters)  # a repeat, or another currency than the contract's
        users = np.unique([item.key for item in batch], return_inverse=True)[1]
        order, _ = waves(wave_numbers(users), np.array([item.kind_no for item in batch]))
        ids = [batch[place].event.event_id for place in order.tolist() if batch[place].kind == "repayments"]
        found |= dict(zip(ids, np.concatenate([np.empty((0, 19), np.float32), *bundle.seen]), strict=True))
    return found


@settings(max_examples=150)
@given(courses(), st.sampled_from([1, 4, 100]))
def test_training_sees_what_serving_sees(events: list[Event], size: int) -> None:
    together = list(with_missed_among(events, GRACE_DAYS, MADRID))
    until_ms = round(max(event.occurred_at for event in together).timestamp() * 1000)
    sequences = trained_on(together, None)
    found = served(together, size)
    expected = [
        found[event.event_id]
        for user in sequences.user_ids
        for event in together
        if event.user_id == user and event.KIND == "repayments"
    ]
    numeric = sequences.numeric["repayments"]
    np.testing.assert_array_equal(numeric, np.array(expected, np.float32).reshape(numeric.shape))
    # The watchdog's events, inserted in training, are those that it publishes; its clock runs on after the last event.
    inserting = trained_on(events, GRACE_DAYS)
    assert until_ms == inserting.times_ms.max(initial=0)
    for user, user_id in enumerate(inserting.user_ids):
        mine = inserting.numeric["repayments"][slice(*inserting.starts["repayments"][user : user + 2])]
        other = numeric[slice(*sequences.starts["repayments"][sequences.user_ids.index(user_id) :][:2])]
        np.testing.assert_array_equal(mine[: len(other)], other)


@settings(max_examples=50)
@given(courses())
def test_an_absent_contract_id_is_as_good_as_a_constant_one(events: list[Event]) -> None:
    def of(contract_id: str | None) -> list[NDArray[np.float32]]:
        return contract_inputs(
            [
                [msgspec.structs.replace(each, contract_id=contract_id) for each in events if each.user_id == user]
                for user in "uvw"
            ]
        )

    for absent, constant in zip(of(None), of("only"), strict=True):
        np.testing.assert_array_equal(absent, constant)


@settings(max_examples=100)
@given(st.lists(repayments(), min_size=2, max_size=12), st.randoms(use_true_random=False), st.data())
def test_contracts_of_one_moment_come_in_any_order(
    fields: list[dict[str, Any]], random: Any, data: st.DataObject
) -> None:
    own = (
        "contract_gap_days",
        "contract_days_past_due",
        "amount_due_to_usual",
        "amount_paid_to_usual",
        "balance_to_highest",
    )
    past = [each | {"day": day} for day, each in enumerate(fields)]
    last = [data.draw(repayments()) | {"contract_id": contract, "day": 40} for contract in ("a", "b", None)]

    def final(order: Sequence[dict[str, Any]]) -> dict[str | None, list[float]]:
        events: list[Event] = []
        for number, each in enumerate([*past, *order]):
            more = {name: value for name, value in each.items() if name != "day"}
            at = START + dt.timedelta(days=each["day"])
            events.append(Repayment(event_id=f"e{number}", user_id="u", occurred_at=at, **more))
        (inputs,) = contract_inputs([events])
        places = [CONTRACT_COLUMNS.index(name) for name in own]
        return {each["contract_id"]: row[places].tolist() for each, row in zip(order, inputs[-3:], strict=True)}

    shuffled = random.sample(last, 3)
    found, expected = final(shuffled), final(last)
    for contract, values in expected.items():
        np.testing.assert_array_equal(found[contract], values)


def test_inputs_are_where_they_are_named() -> None:
    assert COLUMNS["repayments"].standing == CONTRACT_COLUMNS
    assert len(COLUMNS["repayments"].numeric_inputs) == 19
