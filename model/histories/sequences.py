"""Histories of many users as flat arrays, built from events; no event objects are kept.

A user's events are stored in the order of their arrival. Needs numpy alone; must not use outcomes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    time_columns,
)
from events.instalments import OpenInstalments, publish_missed
from events.types import KINDS, Event, Kind, Repayment, encode_event

Vocabularies = dict[Kind, dict[str, dict[str, int]]]
"""Per kind and categorical field: category to code."""

EVENTS_PER_CHUNK = 4_096
LARGEST_VOCABULARY = 10_000
"""Categories of one field beyond this many share one code: a field with more is an identifier, not a category."""


@dataclass(frozen=True)
class Sequences:
    """Histories of `U` users with `N` events, of which `N_k` are of kind k. Users stand in order of first appearance.

    `numeric[k]` float32 `[N_k, numeric inputs]`, time columns included; `categorical[k]` int64 `[N_k, categories]`;
    user u's events of kind k are rows `starts[k][u]` to `starts[k][u + 1]`. Over all kinds, user u's events are rows
    `merged_starts[u]` to `merged_starts[u + 1]` of `kinds` uint8 `[N]` (position in `KINDS`), `times_ms` int64 `[N]`
    and `latest` int32 `[N, 4]`: how many of the user's events of each kind have arrived, this one included.
    """

    user_ids: list[str]
    numeric: dict[Kind, NDArray[np.float32]]
    categorical: dict[Kind, NDArray[np.int64]]
    starts: dict[Kind, NDArray[np.int64]]
    merged_starts: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    times_ms: NDArray[np.int64]
    latest: NDArray[np.int32]
    vocabularies: Vocabularies
    fingerprint: str

    @property
    def users(self) -> int:
        """How many users there are."""
        return len(self.user_ids)

    @property
    def user_of_event(self) -> NDArray[np.int64]:
        """Position of each merged event's user, int64 `[N]`."""
        return np.repeat(np.arange(self.users), np.diff(self.merged_starts))

    @cached_property
    def ages_days(self) -> NDArray[np.float32]:
        """Days since the user's latest event of each kind after each merged event, float32 `[N, 4]`, -1 for none: as
        `events.columns.ages_days`."""
        latest_ms = np.full(self.latest.shape, -1, dtype=np.int64)
        owner = self.user_of_event
        for position, kind in enumerate(KINDS):
            mine = self.kinds == position
            running = _running_ms(owner[mine], self.times_ms[mine])
            arrived = self.latest[:, position] > 0
            rows = self.starts[kind][owner[arrived]] + self.latest[arrived, position] - 1
            latest_ms[arrived, position] = running[rows]
        return ages_days(latest_ms)

    def recoded(self, vocabularies: Vocabularies) -> Sequences:
        """The same histories under other vocabularies; a category that they do not list becomes unseen."""
        categorical = {}
        for kind in KINDS:
            codes = np.zeros_like(self.categorical[kind])
            for position, name in enumerate(COLUMNS[kind].categorical):
                if name not in vocabularies[kind] or name not in self.vocabularies[kind]:
                    continue
                old = self.vocabularies[kind][name]
                table = np.full(len(old) + FIRST_CATEGORY_CODE, UNSEEN_CODE, dtype=np.int64)
                table[0] = 0
                for category, code in old.items():
                    table[code] = vocabularies[kind][name].get(category, UNSEEN_CODE)
                codes[:, position] = table[self.categorical[kind][:, position]]
            categorical[kind] = codes
        return replace(self, categorical=categorical, vocabularies=vocabularies)

    def events_before(self, limit_ms: int) -> NDArray[np.int64]:
        """Per user, how many events arrive before the first one at or after `limit_ms`, int64 `[U]`."""
        late = np.concatenate([[0], np.cumsum(self.times_ms >= limit_ms)])
        # The first late event of a user is where the running count of late events first exceeds that at their start.
        first = np.searchsorted(late, late[self.merged_starts[:-1]], side="right") - 1
        return np.minimum(first, self.merged_starts[1:]) - self.merged_starts[:-1]

    def rows_of(self, kind: Kind, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of `numeric[kind]` within each user's first `counts` merged events."""
        position = KINDS.index(kind)
        has_any = counts > 0
        last = self.merged_starts[:-1] + np.maximum(counts, 1) - 1
        of_kind = np.where(has_any, self.latest[np.minimum(last, len(self.latest) - 1), position], 0)
        begin = self.starts[kind][:-1]
        return np.concatenate(
            [np.arange(b, b + n) for b, n in zip(begin, of_kind, strict=True)] or [np.zeros(0, np.int64)]
        )


@dataclass
class _Buffer:
    """Events of one kind that are not yet columns, and the columns so far."""

    events: list[Any]
    users: list[int]
    order: list[int]
    chunks: list[tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]


class SequenceBuilder:
    """Takes events in order of arrival, over any number of users, and keeps their columns.

    Without `vocabularies` it collects the categories from the events. With `grace_days` it adds the `missed` events
    that the watchdog publishes in serving, by the lender's `calendar`.
    """

    def __init__(
        self, vocabularies: Vocabularies | None = None, grace_days: float | None = None, calendar: Calendar = UTC
    ) -> None:
        self._learns = vocabularies is None
        self._vocabularies: Vocabularies = (
            {kind: {name: {} for name in COLUMNS[kind].categorical} for kind in KINDS}
            if vocabularies is None
            else vocabularies
        )
        self._grace_days = grace_days
        self._calendar = calendar
        self._buffers: dict[Kind, _Buffer] = {kind: _Buffer([], [], [], []) for kind in KINDS}
        self._positions: dict[str, int] = {}
        self._instalments: dict[int, OpenInstalments] = {}
        self._events = 0
        self._latest_ms = 0
        self._hash = hashlib.sha256()

    @property
    def events(self) -> int:
        """How many events there are so far, inserted ones included."""
        return self._events

    def add(self, event: Event) -> None:
        """Append one event to its user's history."""
        user = self._positions.setdefault(event.user_id, len(self._positions))
        self._hash.update(encode_event(event))
        if self._grace_days is None:
            self._append(user, event)
            return
        clock_ms = round(event.occurred_at.timestamp() * 1000)
        self._latest_ms = max(self._latest_ms, clock_ms)
        self._publish_missed(user, event.user_id, clock_ms - 1)
        if isinstance(event, Repayment):
            self._instalments.setdefault(user, OpenInstalments(self._calendar)).apply(event)
        self._append(user, event)
        self._publish_missed(user, event.user_id, clock_ms)

    def finish(self) -> Sequences:
        """The histories. The watchdog's clock runs on to the last event of all users."""
        for user_id, user in self._positions.items():
            self._publish_missed(user, user_id, self._latest_ms)
        numeric, categorical, starts = {}, {}, {}
        merged_user, merged_order, merged_kind, merged_times = [], [], [], []
        users = len(self._positions)
        for position, kind in enumerate(KINDS):
            self._flush(kind)
            values, codes, times, owner, order = self._columns(kind)
            by_user = np.argsort(owner, kind="stable")
            values, codes, times, owner, order = (part[by_user] for part in (values, codes, times, owner, order))
            numeric[kind] = np.concatenate([values, time_columns(times, _previous_ms(owner, times))], axis=1)
            categorical[kind] = codes
            starts[kind] = np.searchsorted(owner, np.arange(users + 1))
            merged_user.append(owner)
            merged_order.append(order)
            merged_times.append(times)
            merged_kind.append(np.full(len(owner), position, dtype=np.uint8))
        owner, order = np.concatenate(merged_user), np.concatenate(merged_order)
        arrival = np.lexsort((order, owner))
        kinds = np.concatenate(merged_kind)[arrival]
        merged_starts = np.searchsorted(owner[arrival], np.arange(users + 1))
        return Sequences(
            user_ids=list(self._positions),
            numeric=numeric,
            categorical=categorical,
            starts=starts,
            merged_starts=merged_starts,
            kinds=kinds,
            times_ms=np.concatenate(merged_times)[arrival],
            latest=_arrived(kinds, merged_starts),
            vocabularies=self._vocabularies,
            fingerprint=self._hash.hexdigest(),
        )

    def _publish_missed(self, user: int, user_id: str, clock_ms: int) -> None:
        instalments = self._instalments.get(user)
        if instalments is None or self._grace_days is None:
            return
        for event in publish_missed(instalments, user_id, clock_ms, self._grace_days, self._calendar):
            self._append(user, event)

    def _append(self, user: int, event: Event) -> None:
        buffer = self._buffers[event.KIND]
        buffer.events.append(event)
        buffer.users.append(user)
        buffer.order.append(self._events)
        self._events += 1
        if len(buffer.events) >= EVENTS_PER_CHUNK:
            self._flush(event.KIND)

    def _flush(self, kind: Kind) -> None:
        buffer = self._buffers[kind]
        if self._learns:
            self._learn(kind, buffer.events)
        times = occurred_ms(buffer.events)
        buffer.chunks.append(
            (
                numeric_columns(kind, buffer.events, times),
                categorical_columns(kind, buffer.events, self._vocabularies[kind]),
                times,
                np.array(buffer.users, dtype=np.int64),
                np.array(buffer.order, dtype=np.int64),
            )
        )
        buffer.events, buffer.users, buffer.order = [], [], []

    def _learn(self, kind: Kind, events: Sequence[Any]) -> None:
        for name, codes in self._vocabularies[kind].items():
            for category in sorted({getattr(event, name) for event in events} - codes.keys() - {None}):
                if len(codes) < LARGEST_VOCABULARY:
                    codes[category] = FIRST_CATEGORY_CODE + len(codes)

    def _columns(self, kind: Kind) -> tuple[Any, Any, Any, Any, Any]:
        values, codes, times, owner, order = (
            np.concatenate(parts) for parts in zip(*self._buffers[kind].chunks, strict=True)
        )
        return values, codes, times, owner, order


def build_sequences(
    events: Iterable[Event], vocabularies: Vocabularies | None = None, grace_days: float | None = None
) -> Sequences:
    """Histories of all users among `events`; see `SequenceBuilder`."""
    builder = SequenceBuilder(vocabularies, grace_days)
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
            counts = np.bincount(
                sequences.categorical[kind][rows[kind], position], minlength=len(known) + FIRST_CATEGORY_CODE
            )
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


def _previous_ms(owner: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Latest time among the user's earlier events of the kind, -1 for the first; rows sorted by user."""
    previous = np.full(len(times), -1, dtype=np.int64)
    same_user = owner[1:] == owner[:-1]
    previous[1:][same_user] = _running_ms(owner, times)[:-1][same_user]
    return previous


def _running_ms(owner: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Latest time among the user's events so far, each row's own included; rows sorted by user."""
    if not len(times):
        return times
    earliest = times.min()
    span = times.max() - earliest + 1
    running: NDArray[np.int64] = np.maximum.accumulate(owner * span + (times - earliest)) - owner * span + earliest
    return running


def _arrived(kinds: NDArray[np.uint8], merged_starts: NDArray[np.int64]) -> NDArray[np.int32]:
    counts = np.zeros((len(kinds) + 1, len(KINDS)), dtype=np.int32)
    np.cumsum(kinds[:, None] == np.arange(len(KINDS)), axis=0, out=counts[1:])
    lengths = np.diff(merged_starts)
    return counts[1:] - np.repeat(counts[merged_starts[:-1]], lengths, axis=0)
