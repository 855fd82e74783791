"""Whether what comes in is distributed as where the model was trained: a population stability index for each input.

The bundle's drift reference counts one random event of each user and kind, so one random event of each user and kind
counts here in each half of the window: the k-th that is looked at takes the place of the one before with probability
1/k. A user is known by the number of their row, which an eviction may give to another one. Within a month, instalments
come due and are paid on some days and not on others, so that one day is no sample: nothing is said before the events
are of a week. Does no I/O once it is made. Filled in the event loop; read in any thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from events.columns import COLUMNS
from events.types import KINDS, Kind
from model.bundle import Bundle
from stream.comparison.stability import population_stability
from stream.scoring.scorer import ScoredInputs
from stream.worker.drift_reference import Distribution

HALF_WINDOW_MS = 14 * DAY_MS
EVENTS_PER_S = 500.0
MOST_AT_ONCE = 1_000
"""So many events are looked at a second on average, and at once: what is looked at is a random part of a busy batch."""
LEAST_USERS = 200
"""With fewer users in the window, chance alone would move the index."""
LEAST_DAYS = 7.0
"""Of so many days events have to be, in event time: with fewer, the time of the month alone would move it."""
MOST_SEEN = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class _Bins:
    """The bins of one kind's inputs, one input after the other: numeric ones, then categories.

    `numeric` and `categorical` are the positions of the inputs, `edges` float64 `[numeric, most edges]`, infinite where
    an input has fewer, `missing` int64 `[numeric]` and `highest` int64 `[categorical]` the last bin of each.
    """

    names: tuple[str, ...]
    numeric: NDArray[np.int64]
    categorical: NDArray[np.int64]
    edges: NDArray[np.float64]
    missing: NDArray[np.int64]
    highest: NDArray[np.int64]
    reference: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, kind: Kind, taken: Sequence[str], known: Mapping[str, Distribution]) -> _Bins:
        """Of the inputs that the bundle takes and the reference knows."""
        columns, numeric, categorical = COLUMNS[kind], list[tuple[str, int]](), list[tuple[str, int]]()
        for names, found, is_numeric in ((taken, numeric, True), (columns.categorical, categorical, False)):
            order = columns.numeric_inputs if is_numeric else columns.categorical
            for name in names:
                one = known.get(f"{kind}.{name}")
                if one is not None and (one.edges is not None) == is_numeric:
                    found.append((name, order.index(name)))
        of = [known[f"{kind}.{name}"] for name, _ in (*numeric, *categorical)]
        edges = np.full((len(numeric), max((len(one.edges or ()) for one in of), default=0)), np.inf)
        for row, one in zip(edges, of, strict=False):
            row[: len(one.edges or ())] = one.edges or ()
        last = np.array([len(one.counts) - 1 for one in of], dtype=np.int64)
        return cls(
            tuple(name for name, _ in (*numeric, *categorical)),
            np.array([position for _, position in numeric], dtype=np.int64),
            np.array([position for _, position in categorical], dtype=np.int64),
            edges,
            last[: len(numeric)],
            last[len(numeric) :],
            tuple(np.array(one.counts, dtype=np.int64) for one in of),
        )

    @property
    def begins(self) -> NDArray[np.int64]:
        """Where each input's bins begin among all, int64 `[inputs + 1]`."""
        return np.cumsum([0, *map(len, self.reference)])

    def places(self, numeric: NDArray[np.float32], categorical: NDArray[np.int64]) -> NDArray[np.int64]:
        """The bin of each event's inputs, `[n, inputs]`, as the drift reference counts them."""
        values = numeric[:, self.numeric].astype(np.float64)
        above = (values[:, :, None] > self.edges).sum(axis=2)
        codes = np.minimum(categorical[:, self.categorical], self.highest)
        return np.concatenate([np.where(np.isnan(values), self.missing, above), codes], axis=1)


class _OfKind:
    """What has come of one kind in the two halves of the window. Counts are of all inputs' bins, one after another."""

    def __init__(self, bins: _Bins, random: np.random.Generator) -> None:
        self._bins = bins
        self._begins = bins.begins
        self._random = random
        self._before, self._now = (np.zeros(self._begins[-1], dtype=np.int64) for _ in range(2))
        self._users_before = self._users = 0
        self._days_before, self._days = Counter[int](), Counter[int]()
        """Events that were looked at, by day."""
        smallest = np.uint8 if max(map(len, bins.reference), default=0) <= 1 << 8 else np.uint16
        self._places = np.zeros((0, len(bins.names)), dtype=smallest)
        self._looked_at = np.zeros(0, dtype=np.uint16)

    def begin_half(self, *, follows: bool) -> None:
        """A half of the window begins; it `follows` the one before unless there was a pause."""
        nothing = np.zeros_like(self._now), 0, Counter[int]()
        self._before, self._users_before, self._days_before = (
            (self._now, self._users, self._days) if follows else nothing
        )
        self._now, self._users, self._days = np.zeros_like(self._now), 0, Counter()
        self._looked_at[:] = 0

    def note(self, part: ScoredInputs, most: int) -> int:
        """Look at up to `most` of the events; returns at how many."""
        rows = part.row
        taken = self._random.permutation(len(rows))[:most]
        _, first = np.unique(rows[taken], return_index=True)  # at one of each user
        chosen = taken[first]
        users = rows[chosen]
        days, events = np.unique(part.occurred_ms[chosen] // DAY_MS, return_counts=True)
        self._days = self._days + Counter(dict(zip(days.tolist(), events.tolist(), strict=True)))
        if (missing := int(users.max()) + 1 - len(self._looked_at)) > 0:
            missing = max(missing, len(self._looked_at))
            self._looked_at = np.concatenate([self._looked_at, np.zeros(missing, dtype=np.uint16)])
            more = np.zeros((missing, self._places.shape[1]), dtype=self._places.dtype)
            self._places = np.concatenate([self._places, more])
        before = self._looked_at[users]
        self._looked_at[users] = np.minimum(before, MOST_SEEN - 1) + 1
        takes_place = self._random.random(len(users)) * self._looked_at[users] < 1
        chosen, users, had = chosen[takes_place], users[takes_place], before[takes_place] > 0
        if len(chosen):
            places = self._bins.places(part.numeric[chosen], part.categorical[chosen])
            change = self._counted(places) - self._counted(self._places[users[had]])
            self._places[users] = places
            self._users += int(np.count_nonzero(~had))
            self._now = self._now + change
        return len(taken)

    def _counted(self, places: NDArray[np.integer]) -> NDArray[np.int64]:
        return np.bincount((places + self._begins[:-1]).ravel(), minlength=len(self._now))

    @property
    def users(self) -> int:
        """Users who count in the window."""
        return self._users_before + self._users

    def days(self) -> float:
        """Of how many days the events are: the number of equally busy days that would be as unequal, so that a few late
        events count for little."""
        events = np.array(list((self._days_before + self._days).values()), dtype=np.float64)
        return float(events.sum() ** 2 / (events**2).sum()) if len(events) else 0.0

    def indices(self) -> Iterator[tuple[str, float]]:
        """Each input's name and index; none with fewer than `LEAST_USERS`, or of fewer than `LEAST_DAYS`."""
        if self.days() < LEAST_DAYS:
            return
        counts = self._before + self._now
        for number, name in enumerate(self._bins.names):
            now = counts[self._begins[number] : self._begins[number + 1]]
            if now.sum() >= LEAST_USERS:
                yield name, population_stability(self._bins.reference[number], now)


class InputDrift:
    """Counts inputs in the bins of a reference, over a window of the last 14 to 28 days of wall time."""

    def __init__(self, bins: Mapping[Kind, _Bins]) -> None:
        random = np.random.default_rng(0)
        self._kinds = {KINDS.index(kind): _OfKind(found, random) for kind, found in bins.items() if found.names}
        self._begun_ms: int | None = None
        self._allowed, self._noted_ms = float(MOST_AT_ONCE), 0

    @classmethod
    def of(cls, bundle: Bundle, reference: Mapping[str, Distribution] | None) -> InputDrift | None:
        """By the bundle's reference; None where it has none."""
        if reference is None:
            return None
        return cls({kind: _Bins.of(kind, bundle.manifest.numeric_inputs[kind], reference) for kind in KINDS})

    def note(self, parts: Iterable[ScoredInputs], now_ms: int) -> None:
        """Look at some of these events, at this wall time."""
        if self._begun_ms is None or now_ms - self._begun_ms >= HALF_WINDOW_MS:
            follows = self._begun_ms is not None and now_ms - self._begun_ms < 2 * HALF_WINDOW_MS
            for kind in self._kinds.values():
                kind.begin_half(follows=follows)
            self._begun_ms = now_ms
        passed_s = max(now_ms - self._noted_ms, 0) / 1000
        self._allowed, self._noted_ms = min(self._allowed + passed_s * EVENTS_PER_S, MOST_AT_ONCE), now_ms
        events = [part for part in parts if part.kind_no in self._kinds and len(part.row)]
        total = sum(len(part.row) for part in events)
        share = min(max(self._allowed, 0.0) / total, 1.0) if total else 0.0
        for part in events:
            if (most := round(len(part.row) * share)) > 0:
                self._allowed -= self._kinds[part.kind_no].note(part, most)

    def users(self) -> dict[Kind, int]:
        """Users who count in the window, by kind."""
        return {KINDS[kind_no]: kind.users for kind_no, kind in self._kinds.items()}

    def indices(self) -> dict[str, float]:
        """The population stability index of each input, `<kind>.<input>`."""
        return {
            f"{KINDS[kind_no]}.{name}": index for kind_no, kind in self._kinds.items() for name, index in kind.indices()
        }
