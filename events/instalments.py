"""The due-date watchdog: when an unpaid instalment counts as missed. Serving publishes the `missed` events, training
inserts the same ones. Does no I/O; the clock is an argument.

What is unpaid is the rule of `events.repayments`. An instalment that no `missed` event has named yet is missed when the
clock reaches its deadline: the end of the due date in the lender's calendar, plus the days of grace. An event at that
very millisecond is applied first.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS, UTC, Calendar, date_of, day_number
from events.contracts import NO_DAY, contract_id_of, initial_ledger, initial_standing
from events.repayments import apply_repayments, repayment_columns
from events.types import Event, Repayment

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:foreshock:instalments")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

NEVER = int(np.iinfo(np.int64).max)
"""Due day and deadline, in milliseconds, of a borrower of whom no instalment is waited for."""


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

    __slots__ = ("_calendar", "_ledger", "_next_ms", "_standing", "_today", "announced")

    def __init__(self, calendar: Calendar = UTC) -> None:
        self._calendar = calendar
        self._standing = initial_standing(1)
        self._ledger = initial_ledger(1)
        self._today = NO_DAY
        self._next_ms: tuple[float, int] | None = None
        self.announced: set[str] = set()
        """Ids of the `missed` events that were published at the latest deadline; see `news_among`."""

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

    def observe(self, occurred_ms: int) -> None:
        """Take the time of an event of any kind into account."""
        self._today = max(self._today, self._calendar.day_of(occurred_ms))

    def missed(self, clock_ms: int, grace_days: float) -> list[Instalment]:
        """The instalments that no `missed` event has named, whose deadline the clock has reached, earliest first."""
        if self._next_ms is None or self._next_ms[0] != grace_days:
            self._next_ms = (grace_days, self._next_deadline_ms(grace_days))
        if clock_ms < self._next_ms[1]:
            return []
        return missed_instalments(self._standing[0], self._ledger[0], clock_ms, grace_days, self._calendar)

    def _next_deadline_ms(self, grace_days: float) -> int:
        return int(next_deadlines_ms(self._ledger, grace_days, self._calendar)[0])


def first_unnamed(due_day: NDArray[np.int32], missed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Due day of the earliest unpaid instalment that no `missed` event has named, int64 `[n]`; `NEVER` for none.

    `due_day` and `missed` `[n, INSTALMENTS]` are those of LEDGER.
    """
    named = (due_day == NO_DAY) | (missed != 0)
    first: NDArray[np.int64] = np.where(named, NEVER, due_day.astype(np.int64)).min(axis=1)
    return first


def next_deadlines_ms(ledger: NDArray[np.void], grace_days: float, calendar: Calendar) -> NDArray[np.int64]:
    """When the next instalment of each of `n` borrowers counts as missed, int64 `[n]`, `NEVER` for none."""
    day = first_unnamed(ledger["due_day"], ledger["missed"])
    found = np.full(len(day), NEVER, dtype=np.int64)
    owing = np.flatnonzero(day != NEVER)
    found[owing] = calendar.starts_ms(day[owing] + 1) + round(grace_days * DAY_MS)
    return found


def missed_instalments(
    standing: np.void, ledger: np.void, clock_ms: int, grace_days: float, calendar: Calendar
) -> list[Instalment]:
    """Of one user, the instalments that no `missed` event has named and whose deadline the clock has reached, earliest
    first."""
    return [
        entry
        for entry in unpaid_instalments(standing, ledger)
        if not entry.missed and deadline_ms(entry.due_date, grace_days, calendar) <= clock_ms
    ]


def news_among(missed: Sequence[Repayment], announced: set[str]) -> list[Repayment]:
    """Those that were not published before; `announced`, the ids of those that were, becomes that of all of these.

    A `missed` event that the rule takes no notice of, one from before a restructuring for instance, leaves its
    instalment unnamed, and is not published again and again.
    """
    news = [event for event in missed if event.event_id not in announced]
    announced.clear()
    announced.update(event.event_id for event in missed)
    return news


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
    missed = [missed_event(user_id, each, grace_days, calendar) for each in instalments.missed(clock_ms, grace_days)]
    if missed:
        for event in news_among(missed, instalments.announced):
            instalments.apply(event)
            yield event


def with_missed_among(events: Iterable[Event], grace_days: float, calendar: Calendar = UTC) -> Iterator[Event]:
    """The events of any number of users, with the `missed` events that the watchdog publishes among them.

    Each `missed` event stands in order of time among its own user's events, not among those of others.
    """
    by_user: dict[str, OpenInstalments] = {}
    latest_ms: dict[str, int] = {}
    for event in events:
        clock_ms = round(event.occurred_at.timestamp() * 1000)
        instalments = by_user.get(event.user_id)
        if instalments is not None:
            yield from publish_missed(instalments, event.user_id, clock_ms - 1, grace_days, calendar)
        if isinstance(event, Repayment):
            if instalments is None:
                instalments = by_user[event.user_id] = OpenInstalments(calendar)
                instalments.observe(latest_ms.pop(event.user_id, clock_ms))
            instalments.apply(event)
        elif instalments is not None:
            instalments.observe(clock_ms)
        else:
            latest_ms[event.user_id] = max(latest_ms.get(event.user_id, clock_ms), clock_ms)
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
