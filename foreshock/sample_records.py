"""One complete record of every topic, for docs/topics.md and for whoever writes a producer or a consumer.

A small invented history of one borrower goes through intake and scorer with the pretrained bundle, so the outputs are
what a worker would publish. Their probabilities are rounded: floating point differs in the last bits between kinds of
processor. No I/O but for the bundle's files.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from events.calendar import DAY_MS
from events.types import KINDS, Activity, Event, Profile, Repayment, Transaction, encode_event
from model.bundle import Bundle
from stream.case_records import FORESHOCK, AlertAction, PromisedPayment, encode_action
from stream.kafka.record import RawRecord
from stream.outputs import Alert, DeadLetter, caused_id
from stream.scoring.contract_records import contract_records
from stream.scoring.dead_letters import DeadLetters
from stream.scoring.intake import Intake, Taken
from stream.scoring.scorer import Scorer
from stream.settings import PRETRAINED_BUNDLE, Settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab

USER_ID = "customer-4711"
CONTRACT_ID = "loan-2"
APPLICATION_ID = "foreshock"
OWN_HEADERS = [("producer", b"card-gateway-2")]
FIRST_DAY = dt.datetime(2024, 1, 1, 9, 0, tzinfo=dt.UTC)
INSTALMENT = 240.0
DIGITS = 3
"""Decimal places that the floats of a published record are rounded to."""


@dataclass(frozen=True)
class Sample:
    """A record's topic, what it shows, and its JSON value; of a dead letter, the whole record as JSON."""

    topic: str
    title: str
    value: bytes


@cache
def sample_records() -> tuple[Sample, ...]:
    """The samples in the order of the topics in docs/topics.md."""
    return (*_inputs(), *(Sample(topic, title, rounded(value)) for topic, title, value in published()))


def rounded(value: bytes) -> bytes:
    """A JSON value with every float rounded to `DIGITS`."""

    def of(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: of(each) for name, each in part.items()}
        if isinstance(part, list):
            return [of(each) for each in part]
        return round(part, DIGITS) if isinstance(part, float) else part

    return msgspec.json.encode(of(msgspec.json.decode(value)))


def samples_section() -> str:
    """The Markdown section of the samples."""
    lines = [
        "Each sample is a record's value, without the fields that events of its kind lack; of the dead letter,",
        "key and headers are shown beside it. The inputs are those of one invented borrower. The outputs are what the",
        f"pretrained model and the default policy make of this history; numbers have {DIGITS} decimals.",
    ]
    topic = None
    for sample in sample_records():
        if sample.topic != topic:
            topic = sample.topic
            lines += ["", f"### `{topic}`"]
        pretty = msgspec.json.format(sample.value, indent=2).decode()
        lines += ["", f"{sample.title}:", "", "```json", pretty, "```"]
    return "\n".join(lines)


def _inputs() -> Iterator[Sample]:
    """One of each kind of event; together those of a topic have every field set."""
    titles: dict[str, str] = {
        "due": "An instalment fell due",
        "paid": "It was paid in full, two days late",
        "missed": "Another was not paid within its days of grace; a worker publishes this event when nobody else does",
        "reversed": "A payment was taken back, for example a direct debit that the bank returned",
        "opened": "A contract began",
        "restructured": "A contract got a new schedule; bills of the new one follow",
        "written_off": "A contract was given up",
        "closed": "A contract ended",
    }
    events = [*history(), *_ends_of_contracts()]
    for kind, title in titles.items():
        yield _input(title, next(event for event in events if isinstance(event, Repayment) and event.kind == kind))
    for kind_of, title in (
        (Transaction, "A card payment in a shop; money out is negative"),
        (Activity, "The borrower used the app"),
        (Profile, "What is known of the borrower and the contract"),
    ):
        yield _input(title, next(event for event in events if isinstance(event, kind_of)))


def _input(title: str, event: Event) -> Sample:
    return Sample(event.KIND, title, encode_event(event))


def published() -> Iterator[tuple[str, str, bytes]]:
    """Topic, title and exact JSON of the published records: a score, an alert, an action, contracts, a dead letter."""
    bundle, settings = Bundle.load(PRETRAINED_BUNDLE), Settings.model_construct()
    slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
    scorer = Scorer(
        bundle, settings.alert_policy(bundle.thresholds), slab, settings.topics, rules=settings.portfolio_rules()
    )
    taken, letters = _taken(list(history()))
    scores: list[bytes] = []
    alerts: list[bytes] = []
    contracts: list[bytes] = []
    for item in taken:
        scored = scorer.score([item])
        rows = slab.gather(slab.locate(item.partition, [item.key]))
        told = contract_records(item.partition, [item.key], rows, settings.portfolio_rules(), told=True)
        contracts.append(told[0][1] if told else b"")
        scores += [value for values in scored.scores.values() for _, value in values]
        alerts += [value for values in scored.alerts.values() for _, value in values]
    opened = next(value for value in alerts if msgspec.json.decode(value)["kind"] == "opened")
    cause = msgspec.json.decode(opened)["sequence"]
    yield "scores", "The score after the event that opened the alert below", scores[cause - 1]
    yield "alerts", "The alert that this score opened", opened
    for title, action in _actions(opened):
        yield "alert-actions", title, encode_action(action)
    yield "contracts", "The borrower's contracts at that moment", contracts[cause - 1]
    yield "dead-letters", "A record that is not JSON, as it came, with one header of its own", shown(letters[0])


def _actions(opened: bytes) -> Iterator[tuple[str, AlertAction]]:
    """What was done about an alert, with titles: together with every field set."""
    alert = msgspec.json.decode(opened, type=Alert)
    first = alert.occurred_at + dt.timedelta(hours=20)
    promise = PromisedPayment(
        amount=INSTALMENT, due_on=(first + dt.timedelta(days=7)).date(), contract_id=CONTRACT_ID, currency="EUR"
    )
    promise_id = caused_id("sample", "promise")
    # Version, day, title and what the record says.
    done: tuple[tuple[int, float, str, dict[str, Any]], ...] = (
        (2, 0.0, "A collector took the case", {"action": "take", "status_from": "open", "status_to": "acknowledged",
                                               "assignee": "ann"}),
        (3, 0.01, "The borrower promised to pay", {"action": "promise", "status_from": "acknowledged",
                                                   "status_to": "promised", "promise": promise, "action_id": promise_id,
                                                   "reason": "is paid again at the end of the month"}),
        (4, 9.0, "The payment did not come", {"action": "promise_broken", "status_from": "promised",
                                              "status_to": "in_progress", "actor": FORESHOCK, "promise": promise,
                                              "promise_id": promise_id}),
        (5, 9.1, "The case rests until a day", {"action": "snooze", "status_from": "in_progress",
                                                "status_to": "snoozed", "until": first + dt.timedelta(days=14)}),
        (7, 15.0, "The contract got a new schedule, and the case was closed",
         {"action": "close", "status_from": "in_progress", "status_to": "closed", "closed_as": "restructured"}),
    )  # fmt: skip
    for version, days, title, said in done:
        yield (
            title,
            AlertAction(
                **{
                    "action_id": caused_id("sample", str(version)),
                    "alert_id": alert.alert_id,
                    "user_id": alert.user_id,
                    "level": alert.level_to,
                    "product": "card",
                    "actor": "ann",
                    "at": first + dt.timedelta(days=days),
                    "version": version,
                    **said,
                }
            ),
        )


def shown(letter: DeadLetter) -> bytes:
    """The record of a dead letter as JSON, all of whose bytes are text."""
    return msgspec.json.encode(
        {
            "key": (letter.key or b"").decode(),
            "headers": {name: (content or b"").decode() for name, content in letter.record_headers()},
            "value": (letter.value or b"").decode(),
        }
    )


def _taken(events: Sequence[Event]) -> tuple[list[Taken], list[DeadLetter]]:
    """The history as a worker takes it in, and the dead letters; a broken record stands at the end."""
    offsets: Counter[str] = Counter()
    last_ms = round(events[-1].occurred_at.timestamp() * 1000)
    taken: list[Taken] = []
    letters: list[DeadLetter] = []
    key = USER_ID.encode()
    values = [(event.KIND, encode_event(event), round(event.occurred_at.timestamp() * 1000)) for event in events]
    intakes = {kind: Intake(kind, DeadLetters(APPLICATION_ID)) for kind in KINDS}
    for kind, value, at_ms in [*values, ("transactions", b'{"event_id": "t-0028", "user_id"', last_ms)]:
        record = RawRecord(kind, 3, offsets[kind], at_ms, key, value, OWN_HEADERS)
        offsets[kind] += 1
        good, refused = intakes[kind].take_all([record], last_ms + DAY_MS)
        taken += good
        letters += refused
    return taken, letters


def history() -> Iterator[Event]:
    """The invented borrower's events in the order of event time: a good start, then less income, cash, unpaid bills."""
    yield Profile(
        event_id="p-0001",
        user_id=USER_ID,
        occurred_at=FIRST_DAY,
        age_band="35-44",
        sex="female",
        income=2_400.0,
        employment="employed",
        education="secondary",
        marital_status="married",
        region="region_03",
        product="card",
        tenure_months=18.0,
        credit_limit=5_000.0,
        origination_pd=0.04,
        bureau_score=640.0,
        interest_rate=0.12,
        payment_to_income=0.1,
        loan_to_value=0.0,
        term_months=36.0,
        contract_id=CONTRACT_ID,
        currency="EUR",
    )
    events: list[Event] = [
        Repayment(
            event_id="r-0000-opened",
            user_id=USER_ID,
            occurred_at=FIRST_DAY,
            kind="opened",
            contract_id=CONTRACT_ID,
            currency="EUR",
            amount=8_000.0,
            term_months=36.0,
            balance=8_000.0,
        )
    ]
    for number in range(1, 7):
        due = FIRST_DAY + dt.timedelta(days=30 * number)
        events.append(_repayment("due", number, due, due))
        if number < 4:
            events.append(_repayment("paid", number, due, due + dt.timedelta(days=2), paid=INSTALMENT))
        elif number == 4:
            events.append(_repayment("paid", number, due, due + dt.timedelta(days=6), paid=INSTALMENT))
            events.append(_repayment("reversed", number, due, due + dt.timedelta(days=9), paid=INSTALMENT))
        else:
            events.append(_repayment("missed", number, due, due + dt.timedelta(days=5), paid=0.0))
    for week in range(1, 28):
        at = FIRST_DAY + dt.timedelta(days=7 * week, hours=4)
        events.append(
            Transaction(
                event_id=f"t-{week:04}",
                user_id=USER_ID,
                occurred_at=at,
                amount=-150.0,
                category="cash" if week > 14 else "groceries",
                channel="atm" if week > 14 else "card",
                balance_after=-(2_000.0 + 100.0 * week),
                credit_limit=5_000.0,
                counterparty_type="own_account" if week > 14 else "merchant",
                contract_id="card-1",
                currency="EUR",
            )
        )
        events.append(
            Activity(
                event_id=f"a-{week:04}",
                user_id=USER_ID,
                occurred_at=at + dt.timedelta(hours=1),
                kind="session",
                count=3.0,
                duration_s=240.0,
            )
        )
    yield from sorted(events, key=lambda event: event.occurred_at)


def _ends_of_contracts() -> Iterator[Repayment]:
    """What may become of contracts, after the history."""
    for number, (kind, contract_id, days, balance) in enumerate(
        (
            ("restructured", CONTRACT_ID, 0.0, 6_900.0),
            ("written_off", "card-0", 120.0, 310.0),
            ("closed", "loan-1", 0.0, 0.0),
        )
    ):
        yield Repayment(
            event_id=f"r-{number:04}-{kind}",
            user_id=USER_ID,
            occurred_at=FIRST_DAY + dt.timedelta(days=200 + number),
            kind=kind,  # type: ignore[arg-type]
            days_past_due=days,
            balance=balance,
            contract_id=contract_id,
            currency="EUR",
        )


def _repayment(kind: Any, number: int, due: dt.datetime, at: dt.datetime, paid: float | None = None) -> Repayment:
    return Repayment(
        event_id=f"r-{number:04}-{kind}",
        user_id=USER_ID,
        occurred_at=at,
        kind=kind,
        amount_due=INSTALMENT,
        amount_paid=0.0 if paid is None else paid,
        days_past_due=float((at - due).days),
        balance=8_000.0 - 200.0 * number,
        instalment_no=number,
        due_date=due.date(),
        contract_id=CONTRACT_ID,
        currency="EUR",
    )
