"""Counterfactuals: per reason code, the user's events as they would be without the cause that the code names. Pure.

A reason (`events.reasons`) says why a score is high. Scoring its counterfactual shows how much higher the score is for
that cause, all else being equal. Used offline, by `model.explanation.explain` and `reports.faithfulness`; no worker
calls it. The events that are passed in are never changed.

Recent events are those of the last `RECENT_DAYS`; what is usual for a user is taken from the events before them.
"""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from events.contracts import PAID_IN_FULL
from events.reasons import NEAR_LIMIT_UNTIL, is_cash
from events.types import Activity, Event, Kind, Repayment, Transaction

RECENT_DAYS = 90
MODEST_UTILISATION = 0.5
"""Usual share of the limit of a user whose balance was close to the limit in all earlier events, or has none."""

PAYMENT_EVERY_DAYS = 30

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Past:
    """One user's events in order of arrival, at least one. The last is the event whose score is explained."""

    events: Sequence[Event]

    @cached_property
    def now(self) -> dt.datetime:
        """The latest event time."""
        return max(event.occurred_at for event in self.events)

    @cached_property
    def recent_from(self) -> dt.datetime:
        """Events after this moment are recent."""
        return self.now - RECENT_DAYS * _DAY

    def is_recent(self, event: Event) -> bool:
        return event.occurred_at > self.recent_from

    @cached_property
    def repayments(self) -> list[Repayment]:
        return [event for event in self.events if isinstance(event, Repayment)]

    @cached_property
    def usual_lateness_days(self) -> float:
        """Median days past due of the payments before the recent ones; 0 where there are none."""
        late = [
            event.days_past_due
            for event in self.repayments
            if event.kind == "paid" and event.days_past_due is not None and not self.is_recent(event)
        ]
        return statistics.median(late) if late else 0.0

    @cached_property
    def usual_utilisation(self) -> float:
        """Median share of the credit limit in use before the recent events, without balances close to the limit."""
        used = [
            share
            for event in self.events
            if isinstance(event, Transaction) and not self.is_recent(event)
            if (share := utilisation(event)) is not None and share < NEAR_LIMIT_UNTIL
        ]
        return statistics.median(used) if used else MODEST_UTILISATION

    def edited(self, change: Callable[[Event], Event | None]) -> list[Event]:
        """The events, each recent one replaced by what `change` returns, or left out where that is None."""
        changed = (change(event) if self.is_recent(event) else event for event in self.events)
        return [event for event in changed if event is not None]

    def with_inserted(self, inserted: Iterable[Event], kept: Callable[[Event], bool] = lambda _: True) -> list[Event]:
        """The events without the recent ones that are not `kept`, and with `inserted` events added in order of time.

        Events that arrived late stay where they are.
        """
        waiting = deque(sorted(inserted, key=lambda event: event.occurred_at))
        merged: list[Event] = []
        for event in self.events:
            while waiting and waiting[0].occurred_at <= event.occurred_at:
                merged.append(waiting.popleft())
            if kept(event) or not self.is_recent(event):
                merged.append(event)
        return [*merged, *waiting]


Counterfactual = Callable[[Past], list[Event]]


def utilisation(event: Transaction) -> float | None:
    """Share of the credit limit in use, whichever sign the balance has; None where it is not known."""
    if event.balance_after is None or not event.credit_limit:
        return None
    return abs(event.balance_after) / event.credit_limit


def without_cause(code: str, events: Sequence[Event]) -> list[Event] | None:
    """The events of one user without the cause that `code` names; None where that changes nothing.

    Raises `KeyError` for a code that has no counterfactual.
    """
    past = Past(events)
    without = COUNTERFACTUALS[code](past)
    return None if without == list(events) else without


def _on_time(past: Past, event: Repayment) -> Repayment:
    """The event with the user's usual lateness, if it came later than that."""
    usual = past.usual_lateness_days
    if event.days_past_due is None or event.days_past_due <= usual:
        return event
    return _late_by(event, usual)


def _late_by(event: Repayment, days: float) -> Repayment:
    """The event `days` after its due date. Its own time stays: moving it would change the order of the events."""
    due = event.due_date
    if due is not None:
        due = (event.occurred_at.astimezone(dt.UTC) - days * _DAY).date()
    return msgspec.structs.replace(event, days_past_due=days, due_date=due)


def _paid_in_full(past: Past, event: Repayment) -> Repayment:
    """A payment in full, as late as usual for the user, in place of the event."""
    paid = msgspec.structs.replace(event, kind="paid", amount_paid=event.amount_due)
    return _late_by(paid, past.usual_lateness_days)


def _is_part(event: Repayment) -> bool:
    return (
        event.kind == "paid"
        and event.amount_paid is not None
        and event.amount_due is not None
        and event.amount_paid < PAID_IN_FULL * event.amount_due
    )


def _settle(past: Past, event: Event) -> Event:
    """The event had nothing been left unpaid: no days past due on bills, missed and partial payments made in full."""
    if not isinstance(event, Repayment):
        return event
    if event.kind == "missed" or (_is_part(event) and (event.days_past_due or 0) > 0):
        return _paid_in_full(past, event)
    if event.kind == "due" and (event.days_past_due or 0) > 0:
        return msgspec.structs.replace(event, days_past_due=0.0)
    return event


def _overdue(past: Past) -> list[Event]:
    return past.edited(lambda event: _settle(past, event))


def _lateness(past: Past) -> list[Event]:
    """Payments, including missed ones, no later than usual. Bills stay: their days past due count as arrears."""

    def change(event: Event) -> Event:
        tells = isinstance(event, Repayment) and event.kind in ("paid", "missed")
        return _on_time(past, event) if isinstance(event, Repayment) and tells else event

    return past.edited(change)


def _missed_payments(past: Past) -> list[Event]:
    def change(event: Event) -> Event:
        return _paid_in_full(past, event) if isinstance(event, Repayment) and event.kind == "missed" else event

    return past.edited(change)


def _part_payments(past: Past) -> list[Event]:
    def change(event: Event) -> Event:
        if isinstance(event, Repayment) and _is_part(event):
            return msgspec.structs.replace(event, amount_paid=event.amount_due)
        return event

    return past.edited(change)


def _reversed_payment(past: Past) -> list[Event]:
    return past.edited(lambda e: None if isinstance(e, Repayment) and e.kind == "reversed" else e)


def _no_payment(past: Past) -> list[Event]:
    """Payments like the last one every 30 days since it, in place of the missed payments since."""
    paid = [event for event in past.repayments if event.kind == "paid"]
    if not paid:
        return list(past.events)
    last = paid[-1]
    silent_days = (past.now - last.occurred_at) / _DAY
    made = []
    for number in range(1, math.floor(silent_days / PAYMENT_EVERY_DAYS) + 1):
        at = last.occurred_at + number * PAYMENT_EVERY_DAYS * _DAY
        like = msgspec.structs.replace(
            last, event_id=f"{last.event_id}+{number}"[-128:], occurred_at=at, amount_paid=last.amount_due
        )
        made.append(_late_by(like, past.usual_lateness_days))

    def kept(event: Event) -> bool:
        missed = isinstance(event, Repayment) and event.kind == "missed"
        return not (missed and event.occurred_at > last.occurred_at)

    return past.with_inserted(made, kept) if made else list(past.events)


def _near_limit(past: Past) -> list[Event]:
    usual = past.usual_utilisation

    def change(event: Event) -> Event:
        if not isinstance(event, Transaction) or event.balance_after is None or event.credit_limit is None:
            return event
        if (utilisation(event) or 0.0) <= usual:
            return event
        return msgspec.structs.replace(
            event, balance_after=math.copysign(usual * event.credit_limit, event.balance_after)
        )

    return past.edited(change)


def _cash_out(past: Past) -> list[Event]:
    return past.edited(lambda event: None if isinstance(event, Transaction) and is_cash(event) else event)


def _is_income(event: Event) -> bool:
    return isinstance(event, Transaction) and event.amount > 0


def _is_spending(event: Event) -> bool:
    return isinstance(event, Transaction) and event.amount < 0


def _is_session(event: Event) -> bool:
    return isinstance(event, Activity) and event.kind == "session"


def _as_before(past: Past, concerned: Callable[[Event], bool]) -> list[Event]:
    """The events with the recent ones that are `concerned` replaced by those of the period of equal length before."""
    length = RECENT_DAYS * _DAY
    before = [e for e in past.events if concerned(e) and past.recent_from - length < e.occurred_at <= past.recent_from]
    again = [
        msgspec.structs.replace(e, event_id=f"{e.event_id}+"[-128:], occurred_at=e.occurred_at + length) for e in before
    ]
    if not again:
        return list(past.events)
    return past.with_inserted(again, lambda event: not concerned(event))


def _spending_up(past: Past) -> list[Event]:
    """Recent spending scaled to its usual amount a day."""
    spent = [event for event in past.events if isinstance(event, Transaction) and event.amount < 0]
    earlier = [event for event in spent if not past.is_recent(event)]
    if not earlier:
        return list(past.events)
    days = (past.recent_from - min(event.occurred_at for event in past.events)) / _DAY
    usual = sum(event.amount for event in earlier) / max(days, 1.0)
    recent = sum(event.amount for event in spent if past.is_recent(event)) / RECENT_DAYS
    if recent >= usual:  # amounts of spending are negative
        return list(past.events)

    def change(event: Event) -> Event:
        if isinstance(event, Transaction) and event.amount < 0:
            return msgspec.structs.replace(event, amount=event.amount * usual / recent)
        return event

    return past.edited(change)


def _sessions_up(past: Past) -> list[Event]:
    """Recent sessions left out at even steps, until they are as frequent as before."""
    sessions = [event for event in past.events if _is_session(event)]
    recent = [event for event in sessions if past.is_recent(event)]
    days = (past.recent_from - min(event.occurred_at for event in past.events)) / _DAY
    usual = (len(sessions) - len(recent)) / days * RECENT_DAYS if days >= 1 else len(recent)
    if len(recent) <= usual:
        return list(past.events)
    share = usual / len(recent)
    kept = {e.event_id for n, e in enumerate(recent) if math.floor((n + 1) * share) > math.floor(n * share)}
    return past.edited(lambda event: event if not _is_session(event) or event.event_id in kept else None)


def _activity_of(kind: str) -> Counterfactual:
    return lambda past: past.edited(lambda e: None if isinstance(e, Activity) and e.kind == kind else e)


def _nothing_known(kind: Kind) -> Counterfactual:
    return lambda past: [event for event in past.events if kind != event.KIND]


COUNTERFACTUALS: dict[str, Counterfactual] = {
    "overdue": _overdue,
    "late_payment": _lateness,
    "paying_later": _lateness,
    "missed_payments": _missed_payments,
    "part_payments": _part_payments,
    "reversed_payment": _reversed_payment,
    "no_payment": _no_payment,
    "repayment_pattern": _nothing_known("repayments"),
    "near_limit": _near_limit,
    "cash_out": _cash_out,
    "income_down": lambda past: _as_before(past, _is_income),
    "spending_up": _spending_up,
    "spending_down": lambda past: _as_before(past, _is_spending),
    "spending_pattern": _nothing_known("transactions"),
    "credit_inquiries": _activity_of("inquiry"),
    "device_change": _activity_of("device_change"),
    "sessions_up": _sessions_up,
    "sessions_down": lambda past: _as_before(past, _is_session),
    "activity_pattern": _nothing_known("activity"),
    "profile_risk": _nothing_known("profiles"),
}
"""By reason code. `combination` has none, since it names no cause."""
