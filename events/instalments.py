"""Instalments: which are open, and when an unpaid one counts as missed. This is the rule of the due-date watchdog:
serving publishes the `missed` events, training inserts the same ones. Does no I/O; the clock is an argument.

The rule, per user:

- `due` opens an instalment (number, due date, amount). Opening the same number again replaces its date and amount.
- `paid` counts towards the instalment of its number, or the oldest open one if it has no number. The instalment closes
  when the payments reach `PAID_IN_FULL` of the amount due; a payment without an amount, or an instalment without one,
  counts as paid in full.
- A payment in full for a number that is not open settles that number: a `due` that comes later for it, or for a lower
  number, opens nothing (payment ahead of the bill, or records out of order).
- `missed` closes its instalment (or the oldest open one if it has no number). `reversed` reopens nothing.
- At most `SLOTS` are open; one more replaces the one with the earliest due date.
- An instalment still open when the clock reaches its deadline, the end of the due date plus the days of grace, is
  missed. An event at that very millisecond is applied first.

A `due` without a number or a due date is ignored: no later event could refer to it.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from events.columns import DAY_MS, due_ms
from events.types import Event, Repayment

DUE, PAID, MISSED, REVERSED = range(1, 5)
REPAYMENT_CODES = {"due": DUE, "paid": PAID, "missed": MISSED, "reversed": REVERSED}
"""Number of each kind of repayment event in arrays; 0 is no repayment."""

SLOTS = 4
PAID_IN_FULL = 0.99
"""Share of the amount due that closes an instalment; the rest is rounding and fees."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:foreshock:instalments")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(slots=True)
class Instalment:
    """An open instalment: what is due and what was paid towards it so far (in the account's currency)."""

    instalment_no: int
    due_date: dt.date
    amount_due: float | None
    amount_paid: float = 0.0


def deadline_ms(due_date: dt.date, grace_days: float) -> int:
    """When an unpaid instalment counts as missed: end of the due date (UTC) plus the grace, ms since 1970-01-01."""
    return due_ms(due_date) + DAY_MS + round(grace_days * DAY_MS)


def missed_event(
    user_id: str, instalment_no: int, due_date: dt.date, amount_due: float | None, grace_days: float
) -> Repayment:
    """The `missed` event that the watchdog publishes. Equal arguments give equal bytes.

    The id depends on the user, the instalment's number and its due date, not on the grace.
    """
    cause = "\x1f".join((user_id, str(instalment_no), due_date.isoformat()))
    return Repayment(
        event_id=str(uuid.uuid5(_NAMESPACE, cause)),
        user_id=user_id,
        occurred_at=_EPOCH + dt.timedelta(milliseconds=deadline_ms(due_date, grace_days)),
        kind="missed",
        amount_due=amount_due,
        days_past_due=float(grace_days),
        instalment_no=instalment_no,
        due_date=due_date,
    )


def with_missed_among(events: Iterable[Event], grace_days: float) -> Iterator[Event]:
    """The events of any number of users, with the `missed` events that the watchdog publishes among them.

    Each `missed` event stands in order of time among its own user's events, not among those of others.
    """
    by_user: dict[str, OpenInstalments] = {}
    for event in events:
        clock_ms = round(event.occurred_at.timestamp() * 1000)
        instalments = by_user.get(event.user_id)
        if instalments is not None:
            yield from _published(instalments, event.user_id, clock_ms - 1, grace_days)
        if isinstance(event, Repayment):
            instalments = by_user.setdefault(event.user_id, OpenInstalments())
            instalments.apply(event)
        yield event
        if instalments is not None:
            yield from _published(instalments, event.user_id, clock_ms, grace_days)


class OpenInstalments:
    """The open instalments of one user, at most `SLOTS`."""

    __slots__ = ("_open", "_settled_no")

    def __init__(self) -> None:
        self._open: list[Instalment] = []
        self._settled_no = -1

    @property
    def open(self) -> tuple[Instalment, ...]:
        """Open instalments, earliest due date first."""
        return tuple(self._open)

    def apply(self, event: Repayment) -> None:
        """Take one repayment event of the user into account."""
        if event.kind == "due":
            self._open_one(event)
        elif event.kind == "paid":
            self._pay(event)
        elif event.kind == "missed":
            self._discard(self._find(event.instalment_no))

    def missed(self, clock_ms: int, grace_days: float) -> list[Instalment]:
        """Close and return the instalments whose deadline the clock has reached, earliest due date first."""
        due = [entry for entry in self._open if deadline_ms(entry.due_date, grace_days) <= clock_ms]
        self._open = [entry for entry in self._open if deadline_ms(entry.due_date, grace_days) > clock_ms]
        return due

    def _open_one(self, event: Repayment) -> None:
        if event.instalment_no is None or event.due_date is None or event.instalment_no <= self._settled_no:
            return
        known = self._find(event.instalment_no)
        paid = 0.0 if known is None else known.amount_paid
        self._discard(known)
        self._open.append(Instalment(event.instalment_no, event.due_date, event.amount_due, paid))
        self._open.sort(key=lambda entry: (entry.due_date, entry.instalment_no))
        del self._open[:-SLOTS]

    def _pay(self, event: Repayment) -> None:
        entry = self._find(event.instalment_no)
        if entry is None:
            if event.instalment_no is not None and _in_full(event.amount_paid, event.amount_due):
                self._settled_no = max(self._settled_no, event.instalment_no)
            return
        entry.amount_paid += event.amount_paid or 0.0
        if event.amount_paid is None or _in_full(entry.amount_paid, entry.amount_due):
            self._discard(entry)

    def _find(self, instalment_no: int | None) -> Instalment | None:
        if instalment_no is None:
            return self._open[0] if self._open else None
        return next((entry for entry in self._open if entry.instalment_no == instalment_no), None)

    def _discard(self, entry: Instalment | None) -> None:
        if entry is not None:
            self._open.remove(entry)


def with_missed(events: Iterable[Repayment], grace_days: float, until_ms: int | None = None) -> Iterator[Repayment]:
    """One user's repayments with the `missed` events that the watchdog would have published among them.

    `events` are in order of event time. A `missed` event stands at its deadline; one whose deadline had passed before
    its `due` arrived follows that `due`. `until_ms` is the time at which observation ends, by default the last event's.
    """
    instalments = OpenInstalments()
    user_id = ""
    for event in events:
        user_id = event.user_id
        clock_ms = round(event.occurred_at.timestamp() * 1000)
        yield from _published(instalments, user_id, clock_ms - 1, grace_days)
        instalments.apply(event)
        yield event
        yield from _published(instalments, user_id, clock_ms, grace_days)
    if until_ms is not None:
        yield from _published(instalments, user_id, until_ms, grace_days)


def _published(instalments: OpenInstalments, user_id: str, clock_ms: int, grace_days: float) -> Iterator[Repayment]:
    for entry in instalments.missed(clock_ms, grace_days):
        yield missed_event(user_id, entry.instalment_no, entry.due_date, entry.amount_due, grace_days)


def _in_full(amount_paid: float | None, amount_due: float | None) -> bool:
    return amount_paid is None or amount_due is None or amount_paid >= PAID_IN_FULL * amount_due
