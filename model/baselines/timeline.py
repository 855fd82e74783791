"""Histories of users on one axis: all their events in order of arrival, with columns that are filled at events of the
column's kind. Windows and rules are computed from it; it uses nothing but the histories.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from events.columns import COLUMNS, FIRST_CATEGORY_CODE
from events.types import KINDS, Kind
from model.evaluation.playback import merged_rows
from model.histories.sequences import Sequences

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Timeline:
    """Events of `users` (positions, int64 `[u]`), user after user; `n` events in all.

    `rows` int64 `[n]`: where they stand in the merged arrays. `owner` int64 `[n]`: position in `users`. `start` int64
    `[n]`: the first event of the same user. `clock_ms` int64 `[n]`: the latest of the user's event times so far; a late
    event counts as if it occurred then.
    """

    def __init__(self, sequences: Sequences, users: Ints) -> None:
        self.sequences = sequences
        self.users = users
        self.rows = merged_rows(sequences, users)
        lengths = np.diff(sequences.merged_starts)[users]
        self.owner = np.repeat(np.arange(len(users)), lengths)
        self.start = np.repeat(np.cumsum(lengths) - lengths, lengths)
        self.kinds = sequences.kinds[self.rows]
        times = sequences.times_ms[self.rows]
        self._least_ms = int(times.min(initial=0)) if len(times) else 0
        self._span_ms = int(times.max(initial=0)) - self._least_ms + 1
        self._key = np.maximum.accumulate(self.owner * self._span_ms + (times - self._least_ms))
        self.clock_ms = self._key - self.owner * self._span_ms + self._least_ms

    def __len__(self) -> int:
        return len(self.rows)

    def begin(self, at: Ints, days: float | None) -> Ints:
        """First event that is less than `days` older than each of the events `at`, of the same user; None: their
        first."""
        if days is None:
            return self.start[at]
        earliest = self._key[at] - round(days * DAY_MS) + 1
        first: Ints = np.maximum(np.searchsorted(self._key, earliest, side="left"), self.start[at])
        return first

    def of_kind(self, kind: Kind) -> Flags:
        """Whether each event is of `kind`, bool `[n]`."""
        flags: Flags = self.kinds == KINDS.index(kind)
        return flags

    def latest(self, kind: Kind, at: Ints, back: int = 0) -> Ints:
        """Row in `sequences.numeric[kind]` of the latest event of `kind` up to each event `at`, or of the one `back`
        before it; -1 where there is none."""
        arrived = self.sequences.latest[self.rows[at], KINDS.index(kind)].astype(np.int64)
        first = self.sequences.starts[kind][self.users[self.owner[at]]]
        return np.where(arrived > back, first + arrived - 1 - back, -1)

    def latest_value(self, kind: Kind, name: str, at: Ints, back: int = 0) -> Floats:
        """Numeric input `name` of `latest(kind, at, back)`, float64, NaN where there is none."""
        return _gathered(self.sequences.numeric[kind][:, _input(kind, name)], self.latest(kind, at, back), np.nan)

    def latest_code(self, kind: Kind, name: str, at: Ints, back: int = 0) -> Floats:
        """Category code of `latest(kind, at, back)`; NaN where there is none or the value is missing. Unseen is 1."""
        position = COLUMNS[kind].categorical.index(name)
        codes = _gathered(self.sequences.categorical[kind][:, position], self.latest(kind, at, back), 0.0)
        return np.where(codes > 0, codes, np.nan)

    def value(self, kind: Kind, name: str) -> Floats:
        """Numeric input `name` on the axis, float64 `[n]`, NaN at events of other kinds."""
        return np.where(self.of_kind(kind), self.latest_value(kind, name, self._all), np.nan)

    def has_category(self, kind: Kind, name: str, categories: frozenset[str]) -> Flags:
        """Whether each event is of `kind` and its field `name` one of `categories`, bool `[n]`."""
        listed = self.sequences.vocabularies[kind].get(name, {})
        wanted = np.zeros(len(listed) + FIRST_CATEGORY_CODE, dtype=np.bool_)
        wanted[[code for category, code in listed.items() if category in categories]] = True
        return wanted[self._codes[kind, name]] & self.of_kind(kind)

    @cached_property
    def _all(self) -> Ints:
        return np.arange(len(self))

    @cached_property
    def _codes(self) -> dict[tuple[Kind, str], Ints]:
        """Category codes on the axis, 0 at events of other kinds."""
        codes = {}
        for kind in KINDS:
            rows = np.where(self.of_kind(kind), self.latest(kind, self._all), -1)
            for position, name in enumerate(COLUMNS[kind].categorical):
                column = self.sequences.categorical[kind][:, position]
                codes[kind, name] = _gathered(column, rows, 0.0).astype(np.int64)
        return codes


def _input(kind: Kind, name: str) -> int:
    return COLUMNS[kind].numeric_inputs.index(name)


def _gathered(column: NDArray[np.float32] | Ints, rows: Ints, nothing: float) -> Floats:
    """`column[rows]` as float64, `nothing` where a row is -1."""
    if not len(column):
        return np.full(len(rows), nothing)
    return np.where(rows >= 0, column[rows].astype(np.float64), nothing)
