"""Promises to pay: kept or broken, by the borrower's repayments. Deciding is pure; `decide_promises` reads and writes.

Payments count from the moment of the promise to the end of its last day, on its contract (any, where it names none) and
in its currency. Partial ones add up; it is kept when they reach `PAID_IN_FULL` of the amount. Of several promises, the
one that is due first is paid first. A payment that is reversed counts back, and may break what was kept. What is paid
after the last day leaves the promise broken, and says when it was paid after all.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import Connection, Row, select, text, update

from desk.cases.actions import act_by_itself
from desk.cases.life import Act
from desk.cases.rules import CaseRules
from events.contracts import PAID_IN_FULL
from stream.case_records import FORESHOCK, PromisedPayment
from stream.database.case_tables import Case, PromiseState, PromiseToPay

ARRIVAL_TOLERANCE = dt.timedelta(days=1)
"""A promise is called broken so long after its last day at the earliest: payments are told of after they happen."""

LOOKED_BACK = dt.timedelta(days=92)
"""So long after it was decided, a promise is looked at again: a payment may be told of late, or be reversed."""

LOOK_EVERY = dt.timedelta(minutes=1)
LOOK_AGAIN_EVERY = dt.timedelta(hours=6)
"""How often an open promise, and one that is decided, is looked at."""

DECIDED_AT_ONCE = 500
"""Promises that `decide_promises` looks at in one transaction."""


@dataclass(frozen=True)
class Promise:
    """A promise as payments are counted towards it: from `made_at` and before `deadline`."""

    promise_id: uuid.UUID
    amount: float
    made_at: dt.datetime
    deadline: dt.datetime
    contract_id: str | None = None
    currency: str | None = None

    def counts(self, payment: Payment) -> bool:
        """Whether it is a payment of this kind of money on this contract."""
        return self.contract_id in (None, payment.contract_id) and (
            None in (self.currency, payment.currency) or self.currency == payment.currency
        )


@dataclass(frozen=True)
class Payment:
    """A repayment of kind `paid` or `reversed`. `amount` None: in full, or what was paid last."""

    kind: Literal["paid", "reversed"]
    at: dt.datetime
    amount: float | None
    contract_id: str | None = None
    currency: str | None = None
    instalment_no: int | None = None


@dataclass(frozen=True)
class Settlement:
    """How a promise stands: what was paid in time, since when it is kept or broken, and when it was paid late."""

    state: PromiseState
    paid: float
    settled_at: dt.datetime | None
    paid_late_at: dt.datetime | None


@dataclass
class _Counted:
    promise: Promise
    in_time: float = 0.0
    late: float = 0.0
    kept_at: dt.datetime | None = None
    fell_at: dt.datetime | None = None
    paid_late_at: dt.datetime | None = None

    @property
    def needed(self) -> float:
        return self.promise.amount * PAID_IN_FULL

    @property
    def lacks(self) -> float:
        return max(self.promise.amount - self.in_time - self.late, 0.0)

    @property
    def is_full(self) -> bool:
        return self.in_time + self.late >= self.needed

    def add(self, amount: float, at: dt.datetime) -> None:
        """Count an amount, or take it back where it is below 0 by its time `at` of the payment it belongs to."""
        if at < self.promise.deadline:
            self.in_time += amount
        else:
            self.late += amount

    def note(self, at: dt.datetime) -> None:
        """Note what has become of it by the event at this moment."""
        if self.in_time >= self.needed:
            self.kept_at, self.fell_at = self.kept_at or at, None
        elif self.kept_at is not None:
            self.kept_at, self.fell_at = None, at
        self.paid_late_at = (self.paid_late_at or at) if self.is_full and self.kept_at is None else None


@dataclass(frozen=True)
class _Part:
    """What of a payment went to which promise."""

    counted: _Counted
    amount: float
    paid_at: dt.datetime
    instalment_no: int | None


@dataclass
class _Book:
    counted: list[_Counted]
    parts: list[_Part] = field(default_factory=list)

    def take(self, payment: Payment) -> None:
        """Count a payment towards the promises that it may keep, then towards those that are broken."""
        left = payment.amount
        for counted in self._in_turn(payment):
            part = counted.lacks if left is None else min(left, counted.lacks)
            if part > 0:
                counted.add(part, payment.at)
                counted.note(payment.at)
                self.parts.append(_Part(counted, part, payment.at, payment.instalment_no))
            if left is None or (left := left - part) <= 0:
                return

    def give_back(self, payment: Payment) -> None:
        """Take a reversed payment back: that of its instalment, else the latest."""
        left = payment.amount
        for part in reversed(tuple(self.parts)):
            if not part.counted.promise.counts(payment):
                continue
            if None not in (payment.instalment_no, part.instalment_no) and payment.instalment_no != part.instalment_no:
                continue
            back = part.amount if left is None else min(left, part.amount)
            part.counted.add(-back, part.paid_at)
            part.counted.note(payment.at)
            self.parts.remove(part)
            if part.amount > back:
                self.parts.append(_Part(part.counted, part.amount - back, part.paid_at, part.instalment_no))
            if left is None or (left := left - back) <= 0:
                return

    def _in_turn(self, payment: Payment) -> list[_Counted]:
        able = [
            counted
            for counted in self.counted
            if counted.promise.made_at <= payment.at and counted.promise.counts(payment) and not counted.is_full
        ]
        return sorted(able, key=lambda counted: (payment.at >= counted.promise.deadline, counted.promise.deadline))


def settle(promises: Sequence[Promise], payments: Iterable[Payment], now: dt.datetime) -> dict[uuid.UUID, Settlement]:
    """How each of a borrower's promises stands at `now`, by their payments in the order in which they happened."""
    book = _Book([_Counted(promise) for promise in sorted(promises, key=lambda one: (one.made_at, one.promise_id))])
    for payment in payments:
        (book.take if payment.kind == "paid" else book.give_back)(payment)
    return {counted.promise.promise_id: _settlement(counted, now) for counted in book.counted}


def _settlement(counted: _Counted, now: dt.datetime) -> Settlement:
    paid, deadline = round(max(counted.in_time, 0.0), 2), counted.promise.deadline
    if counted.kept_at is not None:
        return Settlement("kept", paid, counted.kept_at, None)
    if now < deadline + ARRIVAL_TOLERANCE:
        return Settlement("open", paid, None, None)
    return Settlement("broken", paid, max(deadline, counted.fell_at or deadline), counted.paid_late_at)


_DUE_FOR_A_LOOK = text("""
SELECT DISTINCT user_id FROM (
    SELECT user_id FROM promises WHERE state <> 'withdrawn' AND checked_at <= :looked_at
        AND (state = 'open' OR (checked_at <= :again_at AND settled_at >= :since))
    ORDER BY checked_at LIMIT :most
) AS due
""")

_PAYMENTS = text("""
SELECT occurred_at, payload ->> 'kind' AS kind, (payload ->> 'amount_paid')::double precision AS amount,
    payload ->> 'contract_id' AS contract_id, payload ->> 'currency' AS currency,
    (payload ->> 'instalment_no')::bigint AS instalment_no
FROM taken_events
WHERE user_id = :user_id AND occurred_at >= :since AND kind = 'repayments'
    AND payload ->> 'kind' IN ('paid', 'reversed')
ORDER BY occurred_at, source_partition, source_offset
""")


def decide_promises(
    connection: Connection, now: dt.datetime, rules: CaseRules, *, most: int = DECIDED_AT_ONCE
) -> tuple[int, int]:
    """Look at up to `most` promises that are due for it; returns how many were looked at, and how many were decided or
    are decided otherwise. What becomes of a promise is an action on its case."""
    users = connection.execute(
        _DUE_FOR_A_LOOK,
        {
            "looked_at": now - LOOK_EVERY,
            "again_at": now - LOOK_AGAIN_EVERY,
            "since": now - LOOKED_BACK,
            "most": most,
        },
    ).scalars()
    looked = decided = 0
    for user_id in sorted(users):
        one_looked, one_decided = _decide_of(connection, user_id, now, rules)
        looked, decided = looked + one_looked, decided + one_decided
    return looked, decided


def _decide_of(connection: Connection, user_id: str, now: dt.datetime, rules: CaseRules) -> tuple[int, int]:
    """Of one borrower. Their cases are locked, as whoever makes or withdraws a promise locks them."""
    of_user = select(PromiseToPay.alert_id).where(PromiseToPay.user_id == user_id)
    connection.execute(
        select(Case.alert_id).where(Case.alert_id.in_(of_user)).order_by(Case.alert_id).with_for_update()
    ).all()
    rows = connection.execute(
        select(*PromiseToPay.__table__.columns).where(
            PromiseToPay.user_id == user_id, PromiseToPay.state != "withdrawn"
        )
    ).all()
    if not rows:
        return 0, 0
    promises = [
        Promise(row.action_id, row.amount, row.made_at, rules.end_of(row.due_on), row.contract_id, row.currency)
        for row in rows
    ]
    since = min(promise.made_at for promise in promises)
    payments = [
        Payment(row.kind, row.occurred_at, row.amount, row.contract_id, row.currency, row.instalment_no)
        for row in connection.execute(_PAYMENTS, {"user_id": user_id, "since": since})
    ]
    standing = settle(promises, payments, now)
    decided = 0
    for row in rows:
        found = standing[row.action_id]
        if found.state == "open" and row.state == "kept":
            # A payment was reversed while there is time to pay: what was kept may still be.
            found = Settlement("kept", found.paid, row.settled_at, None)
        if found.state != row.state:
            _tell(connection, row, found, now, rules)
            decided += 1
        connection.execute(
            update(PromiseToPay)
            .where(PromiseToPay.action_id == row.action_id)
            .values(
                state=found.state,
                paid=found.paid,
                settled_at=found.settled_at,
                paid_late_at=found.paid_late_at,
                checked_at=now,
            )
        )
    return len(rows), decided


def _tell(
    connection: Connection, row: Row[tuple[object, ...]], found: Settlement, now: dt.datetime, rules: CaseRules
) -> None:
    """Note on the case what became of a promise."""
    promise = PromisedPayment(amount=row.amount, due_on=row.due_on, contract_id=row.contract_id, currency=row.currency)
    act_by_itself(
        connection,
        row.alert_id,
        Act(
            "promise_kept" if found.state == "kept" else "promise_broken",
            FORESHOCK,
            promise=promise,
            promise_id=str(row.action_id),
            promise_was_open=row.state == "open",
        ),
        now,
        rules,
    )
