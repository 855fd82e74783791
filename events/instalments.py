"""The due-date watchdog: when an unpaid instalment counts as missed. Serving publishes the `missed` events, training
inserts the same ones. Does no I/O; the clock is an argument.

What is unpaid is the rule of `events.repayments`. An instalment that no `missed` event has named yet is missed when the
clock reaches its deadline: the end of the due date in the lender's calendar, plus the days of grace. An event at that
very millisecond is applied first.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from events.calendar import DAY_MS, UTC, Calendar, date_of, day_number
from events.contracts import NO_DAY, contract_id_of, initial_ledger, initial_standing
from events.repayments import apply_repayments, repayment_columns
from events.types import Event, Repayment

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:foreshock:instalments")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NEVER_MS = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Instalment:
    """An unpaid instalment: what is due and what was paid towards it so far (in the contract's currency)."""

    contract_id: str | None
    instalment_no: int
    due_date: dt.date
    amount_due: float | None
    amount_paid: float
    missed: bool


def deadline_ms(due_date: dt.date, grace_days: float, calendar: Calendar = UTC) -> int:
    """When an unpaid instalment counts as missed: end of the due date plus the grace, ms since 1970-01-01."""
    return calendar.start_ms(day_number(due_date) + 1) + round(grace_days * DAY_MS)


def missed_event(user_id: str, instalment: Instalment, grace_days: float, calendar: Calendar = UTC) -> Repayment:
    """The `missed` event that the watchdog publishes. Equal arguments give equal bytes.

    The id depends on the user, the contract, the instalment's number and its due date, not on the grace.
    """
    contract = () if instalment.contract_id is None else (instalment.contract_id,)
    cause = "\x1f".join((user_id, *contract, str(instalment.instalment_no), instalment.due_date.isoformat()))
    return Repayment(
        event_id=str(uuid.uuid5(_NAMESPACE, cause)),
        user_id=user_id,
        occurred_at=_EPOCH + dt.timedelta(milliseconds=deadline_ms(instalment.due_date, grace_days, calendar)),
        kind="missed",
        amount_due=instalment.amount_due,
        days_past_due=float(grace_days),
        instalment_no=instalment.instalment_no,
        due_date=instalment.due_date,
        contract_id=instalment.contract_id,
    )


class OpenInstalments:
    """The unpaid instalments of one user, over all contracts."""

    __slots__ = ("_calendar", "_ledger", "_next_ms", "_standing", "_today")

    def __init__(self, calendar: Calendar = UTC) -> None:
        self._calendar = calendar
        self._standing = initial_standing(1)
        self._ledger = initial_ledger(1)
        self._today = NO_DAY
        self._next_ms: tuple[float, int] | None = None

    @property
    def open(self) -> tuple[Instalment, ...]:
        """Unpaid instalments, earliest due date first."""
        return unpaid_instalments(self._standing[0], self._ledger[0])

    def apply(self, event: Repayment) -> None:
        """Take one repayment event of the user into account."""
        occurred_ms = np.array([round(event.occurred_at.timestamp() * 1000)], dtype=np.int64)
        event_day = self._calendar.days_of(occurred_ms)
        self._today = max(self._today, int(event_day[0]))
        columns = repayment_columns([event], occurred_ms)
        apply_repayments(self._standing, self._ledger, columns, event_day, np.array([self._today]))
        self._next_ms = None

    def missed(self, clock_ms: int, grace_days: float) -> list[Instalment]:
        """The instalments that no `missed` event has named, whose deadline the clock has reached, earliest first."""
        if self._next_ms is None or self._next_ms[0] != grace_days:
            self._next_ms = (grace_days, self._next_deadline_ms(grace_days))
        if clock_ms < self._next_ms[1]:
            return []
        return [
            entry
            for entry in self.open
            if not entry.missed and deadline_ms(entry.due_date, grace_days, self._calendar) <= clock_ms
        ]

    def _next_deadline_ms(self, grace_days: float) -> int:
        ledger = self._ledger[0]
        waiting = ledger["due_day"][(ledger["due_day"] != NO_DAY) & (ledger["missed"] == 0)]
        return deadline_ms(date_of(int(waiting.min())), grace_days, self._calendar) if len(waiting) else _NEVER_MS


def unpaid_instalments(standing: np.void, ledger: np.void) -> tuple[Instalment, ...]:
    """The unpaid instalments of one user's STANDING and LEDGER, earliest due date first."""
    slots = np.flatnonzero(ledger["due_day"] != NO_DAY).tolist()
    slots.sort(key=lambda slot: (int(ledger["due_day"][slot]), int(ledger["instalment_no"][slot])))
    return tuple(instalment_at(standing, ledger, slot) for slot in slots)


def instalment_at(standing: np.void, ledger: np.void, slot: int) -> Instalment:
    """The unpaid instalment at a place of one user's LEDGER."""
    amount_due = float(ledger["amount_due"][slot])
    return Instalment(
        contract_id=contract_id_of(standing["contract_id"][ledger["contract"][slot]]),
        instalment_no=int(ledger["instalment_no"][slot]),
        due_date=date_of(int(ledger["due_day"][slot])),
        amount_due=None if np.isnan(amount_due) else amount_due,
        amount_paid=float(ledger["amount_paid"][slot]),
        missed=bool(ledger["missed"][slot]),
    )


def publish_missed(
    instalments: OpenInstalments, user_id: str, clock_ms: int, grace_days: float, calendar: Calendar = UTC
) -> Iterator[Repayment]:
    """The `missed` events of one user that are due at `clock_ms`, each applied to `instalments`."""
    for entry in instalments.missed(clock_ms, grace_days):
        event = missed_event(user_id, entry, grace_days, calendar)
        instalments.apply(event)
        yield event


def with_missed_among(events: Iterable[Event], grace_days: float, calendar: Calendar = UTC) -> Iterator[Event]:
    """The events of any number of users, with the `missed` events that the watchdog publishes among them.

    Each `missed` event stands in order of time among its own user's events, not among those of others.
    """
    by_user: dict[str, OpenInstalments] = {}
    for event in events:
        clock_ms = round(event.occurred_at.timestamp() * 1000)
        instalments = by_user.get(event.user_id)
        if instalments is not None:
            yield from publish_missed(instalments, event.user_id, clock_ms - 1, grace_days, calendar)
        if isinstance(event, Repayment):
            instalments = by_user.setdefault(event.user_id, OpenInstalments(calendar))
            instalments.apply(event)
        yield event
        if instalments is not None:
            yield from publish_missed(instalments, event.user_id, clock_ms, grace_days, calendar)


def with_missed(
    events: Iterable[Repayment], grace_days: float, until_ms: int | None = None, calendar: Calendar = UTC
) -> Iterator[Repayment]:
    """One user's repayments with the `missed` events that the watchdog would have published among them.

    `events` are in order of event time. A `missed` event stands at its deadline; one whose deadline had passed before
    its `due` arrived follows that `due`. `until_ms` is the time at which observation ends, by default the last event's.
    """
    instalments = OpenInstalments(calendar)
    user_id = ""
    for event in events:
        user_id = event.user_id
        clock_ms = round(event.occurred_at.timestamp() * 1000)
        yield from publish_missed(instalments, user_id, clock_ms - 1, grace_days, calendar)
        instalments.apply(event)
        yield event
        yield from publish_missed(instalments, user_id, clock_ms, grace_days, calendar)
    if until_ms is not None:
        yield from publish_missed(instalments, user_id, until_ms, grace_days, calendar)
