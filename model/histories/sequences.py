"""Histories of many users as flat arrays, built from events; no event objects are kept.

A user's events are stored in the order of their arrival. Needs numpy alone; must not use outcomes.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.calendar import UTC, Calendar
from events.columns import (
    COLUMNS,
    FIRST_CATEGORY_CODE,
    PROTECTED_FIELDS,
    UNSEEN_CODE,
    ages_days,
    categorical_columns,
    numeric_columns,
    occurred_ms,
)
from events.contract_histories import ContractHistories, Followed
from events.types import KINDS, Event, Kind, encode_event
from model.histories.backing import Arrays, Backing, InMemory
from model.histories.ordering import Ordered, assembled, ordered, running_ms

Vocabularies = dict[Kind, dict[str, dict[str, int]]]
"""Per kind and categorical field: category to code."""

EVENTS_PER_CHUNK = 4_096
EVENTS_PER_RUN = 1_000_000
"""Events of which something is computed in one go."""
EVENTS_AT_ONCE = 32_768
"""Events that are held before the rule of contracts is applied to them, to many users at once."""
LARGEST_VOCABULARY = 10_000
"""Categories of one field beyond this many share one code: a field with more is an identifier, not a category."""


@dataclass(frozen=True)
class Sequences:
    """Histories of `U` users with `N` events, of which `N_k` are of kind k. Users stand in order of first appearance.

    `numeric[k]` float32 `[N_k, numeric inputs]`, time columns included; `categorical[k]` int64 `[N_k, categories]`;
    user u's events of kind k are rows `starts[k][u]` to `starts[k][u + 1]`. Over all kinds, user u's events are rows
    `merged_starts[u]` to `merged_starts[u + 1]` of `kinds` uint8 `[N]` (position in `KINDS`), `times_ms` int64 `[N]`
    and `latest` int32 `[N, 4]`: how many of the user's events of each kind have arrived, this one included.

    `days_past_due` float32 `[N]` and `written_off` bool `[N]` are the user's right after each event, of whatever kind,
    by the rule of `events.contracts`: days of the worst contract, NaN while nothing is known, and whether any contract
    was given up. `contract_place` uint8 `[N_repayments]` is the place of each repayment's contract among the user's.
    `backing` keeps what follows from the arrays and is as large.
    """

    user_ids: list[str]
    numeric: dict[Kind, NDArray[np.float32]]
    categorical: dict[Kind, NDArray[np.int64]]
    starts: dict[Kind, NDArray[np.int64]]
    merged_starts: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    times_ms: NDArray[np.int64]
    latest: NDArray[np.int32]
    days_past_due: NDArray[np.float32]
    written_off: NDArray[np.bool_]
    contract_place: NDArray[np.uint8]
    vocabularies: Vocabularies
    fingerprint: str
    backing: Backing = field(default_factory=InMemory)

    @property
    def users(self) -> int:
        """How many users there are."""
        return len(self.user_ids)

    @property
    def user_of_event(self) -> NDArray[np.int64]:
        """Position of each merged event's user, int64 `[N]`."""
        return np.repeat(np.arange(self.users), np.diff(self.merged_starts))

    def owners(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of the users of merged rows, int64 `[rows]`; `user_of_event` of some, without all others."""
        return np.searchsorted(self.merged_starts, rows, side="right") - 1

    def runs(self) -> Iterator[tuple[NDArray[np.int64], slice]]:
        """All users in runs of at most `EVENTS_PER_RUN` events, or one user, each with the slice of its merged rows."""
        for users in chunks_of_users(self, np.arange(self.users), EVENTS_PER_RUN):
            yield users, slice(int(self.merged_starts[users[0]]), int(self.merged_starts[users[-1] + 1]))

    @cached_property
    def ages_days(self) -> NDArray[np.float32]:
        """Days since the user's latest event of each kind after each merged event, float32 `[N, 4]`, -1 for none: as
        `events.columns.ages_days`."""
        ages = self.backing.zeros(self.latest.shape, np.float32)
        for users, rows in self.runs():
            ages[rows] = self._ages_days(users, rows)
        return ages

    def _ages_days(self, users: NDArray[np.int64], rows: slice) -> NDArray[np.float32]:
        latest, kinds, times_ms = self.latest[rows], self.kinds[rows], self.times_ms[rows]
        latest_ms = np.full(latest.shape, -1, dtype=np.int64)
        owner = np.repeat(users, np.diff(self.merged_starts)[users])
        for position, kind in enumerate(KINDS):
            mine = kinds == position
            running = running_ms(owner[mine], times_ms[mine])
            arrived = latest[:, position] > 0
            first = self.starts[kind][users[0]]
            latest_ms[arrived, position] = running[
                self.starts[kind][owner[arrived]] - first + latest[arrived, position] - 1
            ]
        return ages_days(latest_ms)

    def recoded(self, vocabularies: Vocabularies) -> Sequences:
        """The same histories under other vocabularies; a category that they do not list becomes unseen."""
        categorical = {}
        for kind in KINDS:
            held = self.categorical[kind]
            codes = self.backing.zeros(held.shape, held.dtype)
            for position, name in enumerate(COLUMNS[kind].categorical):
                if name not in vocabularies[kind] or name not in self.vocabularies[kind]:
                    continue
                old = self.vocabularies[kind][name]
                table = np.full(len(old) + FIRST_CATEGORY_CODE, UNSEEN_CODE, dtype=np.int64)
                table[0] = 0
                for category, code in old.items():
                    table[code] = vocabularies[kind][name].get(category, UNSEEN_CODE)
                for start in range(0, len(held), EVENTS_PER_RUN):
                    rows = slice(start, start + EVENTS_PER_RUN)
                    codes[rows, position] = table[held[rows, position]]
            categorical[kind] = codes
        return replace(self, categorical=categorical, vocabularies=vocabularies)

    def events_before(self, limit_ms: int) -> NDArray[np.int64]:
        """Per user, how many events arrive before the first one at or after `limit_ms`, int64 `[U]`."""
        before = np.zeros(self.users, dtype=np.int64)
        for users, rows in self.runs():
            late = np.concatenate([[0], np.cumsum(self.times_ms[rows] >= limit_ms)])
            starts = self.merged_starts[users[0] : users[-1] + 2] - rows.start
            # The first late event of a user is where the running count of late ones first exceeds that at their start.
            first = np.searchsorted(late, late[starts[:-1]], side="right") - 1
            before[users] = np.minimum(first, starts[1:]) - starts[:-1]
        return before

    def rows_of(self, kind: Kind, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of `numeric[kind]` within each user's first `counts` merged events."""
        position = KINDS.index(kind)
        has_any = counts > 0
        last = self.merged_starts[:-1] + np.maximum(counts, 1) - 1
        of_kind = np.where(has_any, self.latest[np.minimum(last, len(self.latest) - 1), position], 0)
        within = np.arange(int(of_kind.sum())) - np.repeat(np.cumsum(of_kind) - of_kind, of_kind)
        rows: NDArray[np.int64] = np.repeat(self.starts[kind][:-1], of_kind) + within
        return rows


@dataclass
class _Buffer:
    """Events of one kind that are not yet columns, and how many are."""

    events: list[Any]
    users: list[int]
    order: list[int]
    followed: list[Followed]
    flushed: int


class SequenceBuilder:
    """Takes events in order of arrival, over any number of users, and keeps their columns.

    Days past due are those of the lender's `calendar`. Without `vocabularies` it collects the categories from the
    events. With `grace_days` it adds the `missed` events that the watchdog publishes in serving. The columns are kept
    by `backing`, by default in memory.
    """

    def __init__(
        self,
        vocabularies: Vocabularies | None = None,
        grace_days: float | None = None,
        calendar: Calendar = UTC,
        backing: Backing | None = None,
    ) -> None:
        self._learns = vocabularies is None
        self._vocabularies: Vocabularies = (
            {kind: {name: {} for name in COLUMNS[kind].categorical} for kind in KINDS}
            if vocabularies is None
            else vocabularies
        )
        self._calendar = calendar
        self._publishes = grace_days is not None
        self._contracts = ContractHistories(calendar, grace_days)
        self._backing = backing or InMemory()
        self._pieces = self._backing.pieces()
        self._buffers: dict[Kind, _Buffer] = {kind: _Buffer([], [], [], [], 0) for kind in KINDS}
        self._positions: dict[str, int] = {}
        self._waiting: list[Event] = []
        self._waiting_users: list[int] = []
        self._events = 0
        self._latest_ms = 0
        self._hash = hashlib.sha256()

    @property
    def events(self) -> int:
        """How many events there are so far, inserted ones included but those among the last `EVENTS_AT_ONCE`."""
        return self._events + len(self._waiting)

    def add(self, event: Event) -> None:
        """Append one event to its user's history."""
        self._waiting_users.append(self._positions.setdefault(event.user_id, len(self._positions)))
        self._waiting.append(event)
        self._hash.update(encode_event(event))
        if len(self._waiting) >= EVENTS_AT_ONCE:
            self._take_waiting()

    def finish(self) -> Sequences:
        """The histories. The watchdog's clock runs on to the last event of all users."""
        self._take_waiting()
        if self._publishes:
            for missed in self._contracts.publish_until(self._latest_ms, list(self._positions)):
                self._append(missed.user, missed.event, missed.followed)
        for kind in KINDS:
            self._flush(kind)
        blocks, users = self._blocks(), len(self._positions)
        events = {kind: self._buffers[kind].flushed for kind in KINDS}
        if self._backing.users_at_once is None:
            (found,) = blocks
        else:
            found = assembled(blocks, users, events, self._backing)
        return Sequences(
            user_ids=list(self._positions),
            **found._asdict(),
            vocabularies=self._vocabularies,
            fingerprint=self._hash.hexdigest(),
            backing=self._backing,
        )

    def _blocks(self) -> Iterator[Ordered]:
        """The users in order, some at a time; one block without any where there are none."""
        users = len(self._positions)
        size = self._backing.users_at_once or max(users, 1)
        for number in range(max(1, -(-users // size))):
            # A first piece without rows says how wide the columns are, of kinds that the block lacks.
            parts = {kind: [self._columns(kind, _Buffer([], [], [], [], 0))] for kind in KINDS}
            for kind_no, *piece in self._pieces.take(number):
                parts[KINDS[int(kind_no)]].append(tuple(piece))
            yield ordered(parts, number * size, min(size, users - number * size), self._calendar)

    def _take_waiting(self) -> None:
        """Apply the rule of contracts to the events that are held, and append them with what is published among
        them."""
        events, users = self._waiting, self._waiting_users
        self._waiting, self._waiting_users = [], []
        times = occurred_ms(events)
        self._latest_ms = max(self._latest_ms, int(times.max(initial=0)))
        followed, published = self._contracts.take(np.array(users, dtype=np.int64), times, events)
        rows, missed = iter(range(len(followed.inputs))), deque(published)
        for position, (user, event) in enumerate(zip(users, events, strict=True)):
            while missed and missed[0].position == position and not missed[0].after:
                self._append(*missed.popleft()[2:])
            row = next(rows) if event.KIND == "repayments" else None
            self._append(user, event, None if row is None else followed.at(slice(row, row + 1)))
            while missed and missed[0].position == position:
                self._append(*missed.popleft()[2:])

    def _append(self, user: int, event: Event, followed: Followed | None) -> None:
        buffer = self._buffers[event.KIND]
        buffer.events.append(event)
        buffer.users.append(user)
        buffer.order.append(self._events)
        if followed is not None:
            buffer.followed.append(followed)
        self._events += 1
        if len(buffer.events) >= (EVENTS_PER_CHUNK if self._backing.users_at_once is None else EVENTS_AT_ONCE):
            self._flush(event.KIND)

    def _flush(self, kind: Kind) -> None:
        buffer = self._buffers[kind]
        if not buffer.events:
            return
        if self._learns:
            self._learn(kind, buffer.events)
        columns, kind_no = self._columns(kind, buffer), np.array(KINDS.index(kind))
        size = self._backing.users_at_once
        if size is None:
            self._pieces.put(0, (kind_no, *columns))
        else:
            block = columns[3] // size
            order = np.argsort(block, kind="stable")
            for rows in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
                # What repayments came to is empty for other kinds.
                piece = (column[rows] if len(column) else column for column in columns)
                self._pieces.put(int(block[rows[0]]), (kind_no, *piece))
        self._buffers[kind] = _Buffer([], [], [], [], buffer.flushed + len(buffer.events))

    def _columns(self, kind: Kind, buffer: _Buffer) -> Arrays:
        """The columns of a buffer's events, as `ordered` takes them."""
        times = occurred_ms(buffer.events)
        followed = Followed.joined(buffer.followed)
        contracts = followed.inputs if kind == "repayments" else np.empty((len(times), 0), dtype=np.float32)
        return (
            np.concatenate([numeric_columns(kind, buffer.events, times), contracts], axis=1),
            categorical_columns(kind, buffer.events, self._vocabularies[kind]),
            times,
            np.array(buffer.users, dtype=np.int64),
            np.array(buffer.order, dtype=np.int64),
            followed.since_day,
            followed.written_off,
            followed.place,
        )

    def _learn(self, kind: Kind, events: Sequence[Any]) -> None:
        for name, codes in self._vocabularies[kind].items():
            for category in sorted({getattr(event, name) for event in events} - codes.keys() - {None}):
                if len(codes) < LARGEST_VOCABULARY:
                    codes[category] = FIRST_CATEGORY_CODE + len(codes)


def build_sequences(
    events: Iterable[Event],
    vocabularies: Vocabularies | None = None,
    grace_days: float | None = None,
    calendar: Calendar = UTC,
    backing: Backing | None = None,
) -> Sequences:
    """Histories of all users among `events`; see `SequenceBuilder`."""
    builder = SequenceBuilder(vocabularies, grace_days, calendar, backing)
    for event in events:
        builder.add(event)
    return builder.finish()


def learn_vocabularies(
    sequences: Sequences, rows: Mapping[Kind, NDArray[np.int64]], least_count: int, protected_inputs: Iterable[str] = ()
) -> Vocabularies:
    """Vocabularies from the given rows of each kind: categories seen at least `least_count` times, in order of name.

    Protected fields get none, and are thus no input, unless they are in `protected_inputs`.
    """
    excluded = PROTECTED_FIELDS - set(protected_inputs)
    learned: Vocabularies = {}
    for kind in KINDS:
        learned[kind] = {}
        for position, name in enumerate(COLUMNS[kind].categorical):
            known = sequences.vocabularies[kind].get(name, {})
            counts = np.zeros(len(known) + FIRST_CATEGORY_CODE, dtype=np.int64)
            for start in range(0, len(rows[kind]), EVENTS_PER_RUN):
                codes = sequences.categorical[kind][rows[kind][start : start + EVENTS_PER_RUN], position]
                counts += np.bincount(codes, minlength=len(counts))
            kept = sorted(category for category, code in known.items() if counts[code] >= least_count)
            if name not in excluded and kept:
                learned[kind][name] = {category: FIRST_CATEGORY_CODE + rank for rank, category in enumerate(kept)}
    return learned


def chunks_of_users(sequences: Sequences, users: NDArray[np.int64], most_events: int) -> Iterator[NDArray[np.int64]]:
    """Split `users` into runs of at most `most_events` events each, or one user where that alone has more."""
    lengths = np.diff(sequences.merged_starts)[users]
    begin, held = 0, 0
    for end, length in enumerate(lengths):
        if held and held + length > most_events:
            yield users[begin:end]
            begin, held = end, 0
        held += int(length)
    if begin < len(users):
        yield users[begin:]
