"""Whether what comes in is distributed as where the model was trained: a population stability index for each input.

The bundle's drift reference counts one random event of each user and kind, so one random event of each user and kind
counts here in each part of the window: the k-th that is looked at takes the place of the one before with probability
1/k. A user is known by the number of their row, which an eviction may give to another one. Within a month, instalments
come due and are paid on some days and not on others, so that one day is no sample: nothing is said before the events
are of a week. A part ends after half of the window, or with the process: what was counted by then can be kept, counts
alone and nothing of who it was, and gone on with. Does no I/O once it is made. Filled in the event loop; read in any
thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
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
SHORTEST_PART_MS = DAY_MS
"""Parts that begin closer together are kept as one: a worker that is started over and over would have many."""
EVENTS_PER_S = 500.0
MOST_AT_ONCE = 1_000
"""So many events are looked at a second on average, and at once: what is looked at is a random part of a busy batch."""
LEAST_USERS = 200
"""With fewer users in the window, chance alone would move the index."""
LEAST_DAYS = 7.0
"""Of so many days events have to be, in event time: with fewer, the time of the month alone would move it."""
MOST_SEEN = np.iinfo(np.uint16).max
MOST_USERS = 1 << 40
"""More in a part that is kept are none that anybody has counted."""


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


@dataclass(frozen=True)
class _Part:
    """What was counted in a part of the window: `counts` of all inputs' bins, one after another, int64, of so many
    `users`, and by day the events that were looked at."""

    begun_ms: int
    counts: NDArray[np.int64]
    users: int
    days: Counter[int]

    def __add__(self, other: _Part) -> _Part:
        """Both as one, as old as this one."""
        return _Part(
            self.begun_ms, self.counts + other.counts, self.users + other.users, self.days + other.days
        )  # fmt: skip


class KeptPart(msgspec.Struct, frozen=True):
    """A `_Part`, as it is kept."""

    begun_ms: int
    counts: list[int]
    users: int
    days: dict[int, int]


class KeptInputs(msgspec.Struct, frozen=True):
    """What was counted of the kinds of events, with the bins of each input that was counted in them, by its name."""

    bins: dict[str, dict[str, int]]
    parts: dict[str, list[KeptPart]]


class _OfKind:
    """What has come of one kind in the parts of the window."""

    def __init__(self, bins: _Bins, random: np.random.Generator) -> None:
        self._bins = bins
        self._begins = bins.begins
        self._random = random
        self._past: tuple[_Part, ...] = ()
        self._now = self._empty(0)
        smallest = np.uint8 if max(map(len, bins.reference), default=0) <= 1 << 8 else np.uint16
        self._places = np.zeros((0, len(bins.names)), dtype=smallest)
        self._looked_at = np.zeros(0, dtype=np.uint16)

    def _empty(self, begun_ms: int) -> _Part:
        return _Part(begun_ms, np.zeros(self._begins[-1], dtype=np.int64), 0, Counter())

    def begin_part(self, now_ms: int) -> None:
        """A part of the window begins."""
        if self._now.users:
            self._past = (*self._past, self._now)
        self._now = self._empty(now_ms)
        self._looked_at[:] = 0

    def leave_behind(self, now_ms: int) -> None:
        """Forget the parts that the window has left behind."""
        if self._past and now_ms - self._past[0].begun_ms >= 2 * HALF_WINDOW_MS:
            self._past = tuple(part for part in self._past if now_ms - part.begun_ms < 2 * HALF_WINDOW_MS)

    def bins(self) -> dict[str, int]:
        """How many bins each input has."""
        return {name: len(counts) for name, counts in zip(self._bins.names, self._bins.reference, strict=True)}

    def kept(self) -> list[KeptPart]:
        return [
            KeptPart(part.begun_ms, part.counts.tolist(), part.users, dict(part.days))
            for part in (*self._past, self._now)
            if part.users
        ]

    def go_on(self, parts: Iterable[_Part]) -> None:
        """Count these parts as well, which are older than all that is counted here."""
        self._past = (*parts, *self._past)

    def parts_of(self, kept: Iterable[KeptPart], now_ms: int) -> list[_Part]:
        """What the window still reaches of parts that are kept. Raises `ValueError` for what is none."""
        found: list[_Part] = []
        for one in sorted(kept, key=lambda part: part.begun_ms):
            # Each user counts once in the bins of each input.
            of_inputs = np.split(np.array(one.counts, dtype=object), self._begins[1:-1])
            if len(one.counts) != self._begins[-1] or min(one.counts, default=0) < 0 or one.users > MOST_USERS:
                raise ValueError(f"{len(one.counts)} counts of {one.users} users, and not of {self._begins[-1]} bins")
            if any(sum(counts) != one.users for counts in of_inputs):
                raise ValueError(f"counts of another number of users than {one.users}")
            if not 0 <= now_ms - one.begun_ms < 2 * HALF_WINDOW_MS:
                continue
            part = _Part(one.begun_ms, np.array(one.counts, dtype=np.int64), one.users, Counter(one.days))
            if found and part.begun_ms - found[-1].begun_ms < SHORTEST_PART_MS:
                found[-1] = found[-1] + part
            else:
                found.append(part)
        return found

    def note(self, part: ScoredInputs, most: int) -> int:
        """Look at up to `most` of the events; returns at how many."""
        rows = part.row
        taken = self._random.permutation(len(rows))[:most]
        _, first = np.unique(rows[taken], return_index=True)  # at one of each user
        chosen = taken[first]
        users = rows[chosen]
        days, events = np.unique(part.occurred_ms[chosen] // DAY_MS, return_counts=True)
        seen = Counter(dict(zip(days.tolist(), events.tolist(), strict=True)))
        if (missing := int(users.max()) + 1 - len(self._looked_at)) > 0:
            missing = max(missing, len(self._looked_at))
            self._looked_at = np.concatenate([self._looked_at, np.zeros(missing, dtype=np.uint16)])
            more = np.zeros((missing, self._places.shape[1]), dtype=self._places.dtype)
            self._places = np.concatenate([self._places, more])
        before = self._looked_at[users]
        self._looked_at[users] = np.minimum(before, MOST_SEEN - 1) + 1
        takes_place = self._random.random(len(users)) * self._looked_at[users] < 1
        chosen, users, had = chosen[takes_place], users[takes_place], before[takes_place] > 0
        now = replace(self._now, days=self._now.days + seen)
        if len(chosen):
            places = self._bins.places(part.numeric[chosen], part.categorical[chosen])
            change = self._counted(places) - self._counted(self._places[users[had]])
            self._places[users] = places
            now = replace(now, counts=now.counts + change, users=now.users + int(np.count_nonzero(~had)))
        self._now = now
        return len(taken)

    def _counted(self, places: NDArray[np.integer]) -> NDArray[np.int64]:
        return np.bincount((places + self._begins[:-1]).ravel(), minlength=int(self._begins[-1]))

    @property
    def users(self) -> int:
        """Users who count in the window, once in each of its parts."""
        return sum(part.users for part in (*self._past, self._now))

    def days(self) -> float:
        """Of how many days the events are: the number of equally busy days that would be as unequal, so that a few late
        events count for little."""
        days = sum((part.days for part in (*self._past, self._now)), Counter[int]())
        events = np.array(list(days.values()), dtype=np.float64)
        return float(events.sum() ** 2 / (events**2).sum()) if len(events) else 0.0

    def indices(self) -> Iterator[tuple[str, float]]:
        """Each input's name and index; none with fewer than `LEAST_USERS`, or of fewer than `LEAST_DAYS`."""
        if self.days() < LEAST_DAYS:
            return
        counts = np.sum([part.counts for part in (*self._past, self._now)], axis=0)
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
            for kind in self._kinds.values():
                kind.begin_part(now_ms)
            self._begun_ms = now_ms
        for kind in self._kinds.values():
            kind.leave_behind(now_ms)
        passed_s = max(now_ms - self._noted_ms, 0) / 1000
        self._allowed, self._noted_ms = min(self._allowed + passed_s * EVENTS_PER_S, MOST_AT_ONCE), now_ms
        events = [part for part in parts if part.kind_no in self._kinds and len(part.row)]
        total = sum(len(part.row) for part in events)
        share = min(max(self._allowed, 0.0) / total, 1.0) if total else 0.0
        for part in events:
            if (most := round(len(part.row) * share)) > 0:
                self._allowed -= self._kinds[part.kind_no].note(part, most)

    def kept(self) -> KeptInputs:
        """What was counted in the window, for who goes on with it."""
        return KeptInputs(
            {KINDS[kind_no]: kind.bins() for kind_no, kind in self._kinds.items()},
            {KINDS[kind_no]: kind.kept() for kind_no, kind in self._kinds.items()},
        )

    def go_on(self, kept: KeptInputs, now_ms: int) -> None:
        """Count what a process before has counted as well. Raises `ValueError` where it was counted in other bins, or
        is none of that; then nothing is."""
        if kept.bins != {KINDS[kind_no]: kind.bins() for kind_no, kind in self._kinds.items()}:
            raise ValueError("inputs were counted in other bins")
        parts = [kind.parts_of(kept.parts.get(KINDS[no], []), now_ms) for no, kind in self._kinds.items()]
        for kind, found in zip(self._kinds.values(), parts, strict=True):
            kind.go_on(found)

    def users(self) -> dict[Kind, int]:
        """Users who count in the window, by kind, once in each of its parts."""
        return {KINDS[kind_no]: kind.users for kind_no, kind in self._kinds.items()}

    def indices(self) -> dict[str, float]:
        """The population stability index of each input, `<kind>.<input>`."""
        return {
            f"{KINDS[kind_no]}.{name}": index for kind_no, kind in self._kinds.items() for name, index in kind.indices()
        }
