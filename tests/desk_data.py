"""A small portfolio for tests of the desk, written by the sink's own writer: scores, alerts, contracts, events.

`portfolio` has what pages and lists have to show: every level and product, an exposure that is not known, alerts that
escalated or cleared, borrowers without any. Ids begin with a prefix, so that tests of one database keep apart.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from events.reasons import CATALOGUE
from events.types import Activity, Event, Profile, Repayment, Transaction
from stream.database.connection import DatabaseConnection
from stream.database.kept_events import KeptEvent, kept_event
from stream.database.products import ContractProduct
from stream.database.writer import DatabaseWriter
from stream.outputs import Alert, AlertKind, BorrowerContracts, ContractStanding, Level, Reason, Score, WeighedEvent

DAY = dt.timedelta(days=1)
MODEL = "0123456789abcdef"
HORIZONS = (30, 60, 90, 180)

_TEXTS = {
    "overdue": "41 days past due",
    "missed_payments": "several payments were missed recently",
    "cash_out": "3.1 times as much cash as usual",
    "credit_inquiries": "asked for credit repeatedly",
    "near_limit": "near the limit for 3 weeks",
    "income_down": "income is 60% of what is usual",
}
assert _TEXTS.keys() <= CATALOGUE.keys()


@dataclass(frozen=True)
class Borrower:
    """A borrower with one contract. `opened_days` is how many days before `now` the alert opened, None for no alert;
    `levels` are those that it went through; `cleared_days` when it cleared."""

    user_id: str
    score: float = 0.2
    product: str | None = "card"
    exposure: float | None = 5_000.0
    opened_days: float | None = 5.0
    levels: Sequence[Level] = ("MEDIUM",)
    cleared_days: float | None = None
    reasons: Sequence[str] = ("overdue", "cash_out")
    days_past_due: float = 12.0
    scored: int = 8
    payments: Sequence[tuple[Literal["paid", "reversed"], float, float]] = field(default=())
    """Kind, days before `now`, amount."""

    @property
    def alert_id(self) -> str:
        return f"alert-{self.user_id}"

    @property
    def contract_id(self) -> str:
        return f"{self.product or 'loan'}-{self.user_id}"[-40:]


def portfolio(prefix: str = "u") -> list[Borrower]:
    """Two dozen borrowers, the same each time."""
    products = ("card", "loan", "mortgage", "card")
    codes = tuple(_TEXTS)
    found = []
    for number in range(24):
        levels: Sequence[Level] = (("MEDIUM",), ("MEDIUM", "HIGH"), ("HIGH",))[number % 3]
        found.append(
            Borrower(
                f"{prefix}{number:04}",
                score=round(0.05 + 0.035 * number, 3),
                product=products[number % 4],
                exposure=None if number % 8 == 5 else 1_000.0 + 750.0 * number,
                opened_days=None if number % 6 == 4 else 1.5 + 2 * number,
                levels=levels,
                cleared_days=0.5 if number % 8 == 7 else None,
                reasons=(codes[number % 6], codes[(number + 2) % 6]),
                days_past_due=float((number * 7) % 65),
                payments=(("paid", 40.0, 120.0), ("paid", 9.0, 60.0)) if number % 2 else (),
            )
        )
    return found


def write_portfolio(database: DatabaseConnection, borrowers: Iterable[Borrower], now: dt.datetime) -> None:
    """Write all that the sink would have written of these borrowers by `now`."""
    written = list(borrowers)
    with DatabaseWriter(database) as writer:
        writer.register_model(MODEL, {"name": "sample"})
        writer.write(
            scores=[score for one in written for score in scores_of(one, now)],
            alerts=[alert for one in written for alert in alerts_of(one, now)],
            contracts=[contracts_of(one, now) for one in written],
            products=[product_of(one, now) for one in written if one.product is not None],
            events=[event for one in written for event in kept_events_of(one, now)],
        )


def horizons_of(score: float) -> dict[str, float]:
    """Probabilities that rise with the horizon; that of 90 days is the score."""
    return {str(days): round(1 - (1 - score) ** (days / 90), 6) for days in HORIZONS}


def scores_of(borrower: Borrower, now: dt.datetime) -> Iterator[Score]:
    """One a week up to `now`, rising to the borrower's score."""
    for number in range(1, borrower.scored + 1):
        score = round(borrower.score * number / borrower.scored, 6)
        known = borrower.exposure is not None
        yield Score(
            score_id=f"transactions:0:{borrower.user_id}-{number}",
            event_id=f"e-{borrower.user_id}-{number}",
            user_id=borrower.user_id,
            occurred_at=now - 7 * (borrower.scored - number) * DAY,
            sequence=number,
            score=score,
            horizons=horizons_of(score),
            level="HIGH" if score > 0.5 else "MEDIUM" if score > 0.15 else "LOW",
            baseline=0.02,
            delta=score - 0.02,
            days_past_due=borrower.days_past_due,
            source_topic="transactions",
            source_partition=0,
            source_offset=number,
            model=MODEL,
            status="past_due" if borrower.days_past_due else "performing",
            contracts=1,
            exposure=borrower.exposure,
            amount_overdue=120.0 if known else None,
            expected_loss=None if borrower.exposure is None else score * borrower.exposure * 0.45,
        )


def alerts_of(borrower: Borrower, now: dt.datetime) -> Iterator[Alert]:
    """The transitions of the borrower's alert."""
    if borrower.opened_days is None:
        return
    opened_at = now - borrower.opened_days * DAY
    before: Level = "LOW"
    for number, level in enumerate(borrower.levels):
        kind: AlertKind = "escalated" if number else "opened"
        yield transition(borrower, kind, before, level, opened_at + number * DAY / 2, opened_at, number + 1)
        before = level
    if borrower.cleared_days is not None:
        cleared_at = now - borrower.cleared_days * DAY
        yield transition(borrower, "cleared", before, "LOW", cleared_at, opened_at, len(borrower.levels) + 1)


def transition(
    borrower: Borrower,
    kind: AlertKind,
    level_from: Level,
    level_to: Level,
    occurred_at: dt.datetime,
    opened_at: dt.datetime,
    sequence: int,
) -> Alert:
    """One transition of a borrower's alert."""
    raised = kind != "cleared"
    return Alert(
        transition_id=f"{borrower.alert_id}-{sequence}",
        alert_id=borrower.alert_id,
        user_id=borrower.user_id,
        kind=kind,
        occurred_at=occurred_at,
        opened_at=opened_at,
        level_from=level_from,
        level_to=level_to,
        score=borrower.score,
        baseline=0.02,
        delta=borrower.score - 0.02,
        reference_pd=0.03,
        days_past_due=borrower.days_past_due,
        triggers=["level"] if raised else [],
        reasons=[
            Reason(code=code, text=_TEXTS[code], contribution=1.5 - place / 2)
            for place, code in enumerate(borrower.reasons if raised else ())
        ],
        weighed_most=[
            WeighedEvent(topic="transactions", partition=0, offset=1, occurred_at=occurred_at - DAY, weight=0.75)
        ],
        sequence=sequence,
        source_topic="transactions",
        source_partition=0,
        source_offset=sequence,
        policy="policy-1",
        model=MODEL,
        status="past_due",
        exposure=borrower.exposure,
        amount_overdue=None if borrower.exposure is None else 120.0,
        expected_loss=None if borrower.exposure is None else borrower.score * borrower.exposure * 0.45,
        contracts=[standing_of(borrower)],
    )


def standing_of(borrower: Borrower) -> ContractStanding:
    return ContractStanding(
        contract_id=borrower.contract_id,
        status="past_due" if borrower.days_past_due else "performing",
        days_past_due=borrower.days_past_due,
        amount_overdue=None if borrower.exposure is None else 120.0,
        exposure=borrower.exposure,
        credit_limit=8_000.0,
        currency="EUR",
    )


def contracts_of(borrower: Borrower, now: dt.datetime) -> BorrowerContracts:
    return BorrowerContracts(
        user_id=borrower.user_id,
        sequence=borrower.scored,
        occurred_at=now,
        source_partition=0,
        contracts=[standing_of(borrower)],
    )


def product_of(borrower: Borrower, now: dt.datetime) -> ContractProduct:
    return ContractProduct(
        user_id=borrower.user_id,
        contract_id=borrower.contract_id,
        product=borrower.product,
        occurred_at=now - 300 * DAY,
        source_partition=0,
        source_offset=1,
    )


def kept_events_of(borrower: Borrower, now: dt.datetime) -> Iterator[KeptEvent]:
    """Events of every kind, with the borrower's payments."""
    for number, event in enumerate(events_of(borrower, now)):
        yield kept_event(event, event.KIND, 0, offset_of(borrower, number))


def offset_of(borrower: Borrower, number: int) -> int:
    """An offset of its own for each event of each borrower."""
    return int.from_bytes(f"{borrower.user_id:>12}".encode()[-4:]) * 1_000 + number


def events_of(borrower: Borrower, now: dt.datetime) -> Iterator[Event]:
    """A profile, then a bill, a withdrawal and a session a week, and the payments."""

    def named(what: str, days: float) -> dict[str, object]:
        return {
            "event_id": f"{what}-{borrower.user_id}-{days:g}",
            "user_id": borrower.user_id,
            "occurred_at": now - days * DAY,
        }

    yield msgspec.convert(
        {**named("profile", 300), "product": borrower.product, "contract_id": borrower.contract_id}, Profile
    )
    of_contract = {"contract_id": borrower.contract_id, "currency": "EUR"}
    for week in range(8, 0, -1):
        yield msgspec.convert(
            {**named("due", 7 * week), **of_contract, "kind": "due", "amount_due": 120.0, "instalment_no": 9 - week},
            Repayment,
        )
        yield msgspec.convert(
            {**named("cash", 7 * week - 1), **of_contract, "amount": -40.0 - week, "category": "cash"}, Transaction
        )
        yield msgspec.convert({**named("session", 7 * week - 2), "kind": "session", "count": 1.0}, Activity)
    for kind, days, amount in borrower.payments:
        yield msgspec.convert({**named(kind, days), **of_contract, "kind": kind, "amount_paid": amount}, Repayment)


def write_payments(
    database: DatabaseConnection,
    borrower: Borrower,
    payments: Iterable[tuple[Literal["paid", "reversed"], dt.datetime, float | None]],
    *,
    first_offset: int,
) -> None:
    """Write payments of a borrower that the sink comes to later; offsets count from `first_offset`."""
    with DatabaseWriter(database) as writer:
        writer.write(
            events=[
                kept_event(
                    Repayment(
                        event_id=f"{kind}-{first_offset + number}",
                        user_id=borrower.user_id,
                        occurred_at=at,
                        kind=kind,
                        amount_paid=amount,
                        contract_id=borrower.contract_id,
                        currency="EUR",
                    ),
                    "repayments",
                    0,
                    first_offset + number,
                )
                for number, (kind, at, amount) in enumerate(payments)
            ]
        )
