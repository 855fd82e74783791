"""The contracts of many borrowers along their histories, for those who keep no rows: training, explanation.

Gives each repayment event the columns of `events.contract_columns`, with the `missed` events of the watchdog among the
others if asked to. The events of a borrower are taken in order, those of different borrowers at once, in waves; the
rule (`events.repayments`) is applied once to each. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.calendar import UTC, Calendar
from events.columns import CONTRACT_COLUMNS, occurred_ms
from events.contract_columns import contract_columns
from events.contracts import LEDGER, LOST, STANDING, initial_ledger, initial_standing
from events.instalments import NEVER, missed_event, missed_instalments, news_among, next_deadlines_ms
from events.repayments import RepaymentColumns, apply_repayments, repayment_columns
from events.types import Event, Repayment
from events.waves import wave_numbers

Ints = NDArray[np.int64]
Inputs = NDArray[np.float32]

_BOOKS = np.dtype([("standing", STANDING), ("ledger", LEDGER)])


class Followed(NamedTuple):
    """What repayments came to, one a row. `inputs` float32 `[n, columns]` are their `CONTRACT_COLUMNS`. `since_day`
    float64 `[n]` and `written_off` bool `[n]` are of the borrower after each: the day from which days past due are
    counted, as STANDING has it, and whether a contract is written off. `place` uint8 `[n]` is that of the repayment's
    contract among the `CONTRACTS` of the borrower."""

    inputs: Inputs
    since_day: NDArray[np.float64]
    written_off: NDArray[np.bool_]
    place: NDArray[np.uint8]

    def at(self, rows: Ints | slice) -> Followed:
        """The repayments at `rows`, in that order."""
        return Followed._make(column[rows] for column in self)

    @classmethod
    def joined(cls, parts: Sequence[Followed]) -> Followed:
        """Parts one after another."""
        return cls._make(map(np.concatenate, zip(_NONE, *parts, strict=True)))


_NONE = Followed(
    np.empty((0, len(CONTRACT_COLUMNS)), dtype=np.float32),
    np.empty(0),
    np.empty(0, dtype=np.bool_),
    np.empty(0, dtype=np.uint8),
)


class Published(NamedTuple):
    """A `missed` event of the borrower `user`, and what it came to, `[1]`. It stands right before the event at
    `position` of those that were taken, or right after it."""

    position: int
    after: bool
    user: int
    event: Repayment
    followed: Followed


class ContractHistories:
    """Borrowers by number, from 0 on. With `grace_days`, their missed instalments are published."""

    def __init__(self, calendar: Calendar = UTC, grace_days: float | None = None) -> None:
        self._calendar = calendar
        self._grace_days = grace_days
        self._books = np.empty((0, _BOOKS.itemsize), dtype=np.uint8)  # bytes, which numpy copies far faster than fields
        self._latest_ms = np.empty(0, dtype=np.int64)
        self._deadline_ms = np.empty(0, dtype=np.int64)
        self._announced: dict[int, set[str]] = {}

    def copies(self, users: int) -> ContractHistories:
        """So many borrowers, each of whom stands as borrower 0 does here."""
        copies = ContractHistories(self._calendar, self._grace_days)
        self._make_room(1)
        copies._books = np.repeat(self._books[:1], users, axis=0)
        copies._latest_ms = np.repeat(self._latest_ms[:1], users)
        copies._deadline_ms = np.repeat(self._deadline_ms[:1], users)
        return copies

    def take(self, users: Ints, times_ms: Ints, events: Sequence[Event]) -> tuple[Followed, list[Published]]:
        """What the repayments among the events came to, and what was published among them, in order of position.

        `users` int64 `[n]` are the events' borrowers, `times_ms` their `occurred_ms`.
        """
        self._make_room(int(users.max(initial=-1)) + 1)
        repaying = np.array([event.KIND == "repayments" for event in events], dtype=np.bool_)
        places = np.flatnonzero(repaying)
        columns = repayment_columns([events[place] for place in places.tolist()], times_ms[places])
        event_day = self._calendar.days_of(times_ms[places])
        row_of = np.cumsum(repaying) - 1
        parts: list[Followed] = []
        taken: list[Ints] = [np.empty(0, dtype=np.int64)]
        published: list[Published] = []
        user_ids = [event.user_id for event in events]
        numbers = wave_numbers(users)
        order = np.argsort(numbers, kind="stable")
        for wave in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else ():
            mine, clock = users[wave], times_ms[wave]
            published += self._publish(wave, mine, clock - 1, user_ids, after=False)
            self._latest_ms[mine] = np.maximum(self._latest_ms[mine], clock)
            rows = row_of[wave[repaying[wave]]]
            if rows.size:
                parts.append(self._repay(users[places[rows]], columns.at(rows), event_day[rows]))
                taken.append(rows)
            published += self._publish(wave, mine, clock, user_ids, after=True)
        published.sort(key=lambda each: each[:2])
        return Followed.joined(parts).at(np.argsort(np.concatenate(taken))), published

    def publish_until(self, clock_ms: int, user_ids: Sequence[str]) -> list[Published]:
        """What is missed when the clock has come to `clock_ms`, borrower after borrower, whose ids `user_ids` are."""
        users = np.arange(len(user_ids))
        self._make_room(len(users))
        return self._publish(users, users, np.full(len(users), clock_ms), user_ids, after=True)

    def _make_room(self, users: int) -> None:
        held = len(self._books)
        if users <= held:
            return
        more = max(users, 2 * held) - held
        blank = np.zeros(1, dtype=_BOOKS)
        blank["standing"], blank["ledger"] = initial_standing(1), initial_ledger(1)
        new = np.repeat(blank.view(np.uint8).reshape(1, -1), more, axis=0)
        self._books = np.concatenate((self._books, new))
        self._latest_ms = np.concatenate((self._latest_ms, np.full(more, -1, dtype=np.int64)))
        self._deadline_ms = np.concatenate((self._deadline_ms, np.full(more, NEVER, dtype=np.int64)))

    def _repay(self, users: Ints, columns: RepaymentColumns, event_day: Ints) -> Followed:
        """Apply one repayment for each of different borrowers, who have come to the time of it."""
        books = self._books[users].view(_BOOKS)[:, 0]
        standing, ledger = books["standing"], books["ledger"]
        today = self._calendar.days_of(self._latest_ms[users])
        applied = apply_repayments(standing, ledger, columns, event_day, today)
        inputs = contract_columns(standing, ledger, columns, applied, today)
        self._books[users] = books.view(np.uint8).reshape(len(users), -1)
        if self._grace_days is not None:
            self._deadline_ms[users] = next_deadlines_ms(ledger, self._grace_days, self._calendar)
        lost = (standing["phase"] == LOST).any(axis=1)
        return Followed(inputs, standing["since_day"].copy(), lost, applied.place.astype(np.uint8))

    def _publish(
        self, positions: Ints, users: Ints, clock_ms: Ints, user_ids: Sequence[str], *, after: bool
    ) -> list[Published]:
        """The `missed` events of different borrowers whose clocks have come so far, each borrower's in order.

        `user_ids` are by position.
        """
        if self._grace_days is None:
            return []
        waiting: list[tuple[int, int, list[Repayment]]] = []
        for number in np.flatnonzero(self._deadline_ms[users] <= clock_ms).tolist():
            position, user = int(positions[number]), int(users[number])
            books = self._books[user].view(_BOOKS)[0]
            missed = [
                missed_event(user_ids[position], entry, self._grace_days, self._calendar)
                for entry in missed_instalments(
                    books["standing"], books["ledger"], int(clock_ms[number]), self._grace_days, self._calendar
                )
            ]
            waiting.append((position, user, news_among(missed, self._announced.setdefault(user, set()))))
        found: list[list[Published]] = [[] for _ in waiting]
        for turn in range(max((len(missed) for _, _, missed in waiting), default=0)):
            taking = [number for number, (_, _, missed) in enumerate(waiting) if len(missed) > turn]
            named = [waiting[number][2][turn] for number in taking]
            of = np.array([waiting[number][1] for number in taking], dtype=np.int64)
            times = occurred_ms(named)
            self._latest_ms[of] = np.maximum(self._latest_ms[of], times)
            followed = self._repay(of, repayment_columns(named, times), self._calendar.days_of(times))
            for row, (number, event) in enumerate(zip(taking, named, strict=True)):
                position, user, _ = waiting[number]
                found[number].append(Published(position, after, user, event, followed.at(slice(row, row + 1))))
        return [each for of_user in found for each in of_user]


def contract_inputs(histories: Sequence[Sequence[Event]], calendar: Calendar = UTC) -> list[Inputs]:
    """`CONTRACT_COLUMNS` of the repayments of each history, float32 `[repayments, columns]`.

    A history has the events of one borrower in order of arrival, of all kinds: those of other kinds than repayments say
    how far the time has come.
    """
    events = [event for history in histories for event in history]
    lengths = [len(history) for history in histories]
    users = np.repeat(np.arange(len(histories)), lengths)
    followed, _ = ContractHistories(calendar).take(users, occurred_ms(events), events)
    counts = [sum(event.KIND == "repayments" for event in history) for history in histories]
    return np.split(followed.inputs, np.cumsum(counts)[:-1]) if counts else []
