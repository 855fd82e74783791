"""Which alerts one model opens and the other does not, or opens earlier or later.

Pairs the openings of one user: those at most `PAIR_DAYS` apart warn of the same trouble. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from stream.outputs import Level

PAIR_DAYS = 90.0
"""Openings further apart are two alerts, one lost and one gained: the headline horizon of the shipped bundle."""

DAY_MS = 86_400_000
EXAMPLES = 10

Shift: TypeAlias = Literal["same", "earlier", "later", "gained", "lost"]
SHIFTS: tuple[Shift, ...] = ("same", "earlier", "later", "gained", "lost")


class Opening(NamedTuple):
    """One opened alert: event time in ms, and the level that it opened with."""

    opened_ms: int
    level: Level


class ShiftedAlert(NamedTuple):
    """What became of an alert. One of the openings is None where an alert is gained or lost."""

    shift: Shift
    live: Opening | None
    other: Opening | None

    @property
    def lead_days(self) -> float | None:
        """Days by which the other model warns earlier; below zero, later."""
        if self.live is None or self.other is None:
            return None
        return (self.live.opened_ms - self.other.opened_ms) / DAY_MS


def paired(live: Sequence[Opening], other: Sequence[Opening], pair_days: float = PAIR_DAYS) -> list[ShiftedAlert]:
    """The alerts of one user on both sides, in order of time; each side is given in that order.

    Openings at the same time are one alert; of the others, the first of one side and the first of the other are where
    they are near enough.
    """
    same = Counter(one.opened_ms for one in live) & Counter(one.opened_ms for one in other)
    (both_live, only_live), (both_other, only_other) = _apart(live, same), _apart(other, same)
    found = [ShiftedAlert("same", was, now) for was, now in zip(both_live, both_other, strict=True)]
    found += _in_turn(only_live, only_other, pair_days * DAY_MS)
    return sorted(found, key=lambda one: min(opening.opened_ms for opening in one[1:] if opening is not None))


def _apart(openings: Sequence[Opening], same: Mapping[int, int]) -> tuple[list[Opening], list[Opening]]:
    """Openings at the times in `same`, as many as it says, and all others."""
    left = Counter(same)
    taken: tuple[list[Opening], list[Opening]] = [], []
    for opening in openings:
        is_same = left[opening.opened_ms] > 0
        left[opening.opened_ms] -= is_same
        taken[0 if is_same else 1].append(opening)
    return taken


def _in_turn(live: Sequence[Opening], other: Sequence[Opening], most_ms: float) -> Iterator[ShiftedAlert]:
    i = j = 0
    while i < len(live) or j < len(other):
        was = live[i] if i < len(live) else None
        now = other[j] if j < len(other) else None
        if was is not None and now is not None and abs(was.opened_ms - now.opened_ms) <= most_ms:
            yield ShiftedAlert("earlier" if now.opened_ms < was.opened_ms else "later", was, now)
            i, j = i + 1, j + 1
        elif now is None or (was is not None and was.opened_ms < now.opened_ms):
            yield ShiftedAlert("lost", was, None)
            i += 1
        else:
            yield ShiftedAlert("gained", None, now)
            j += 1


@dataclass(frozen=True)
class AlertExample:
    """An alert that differs, by its user."""

    user_id: str
    shift: Shift
    lead_days: float | None


@dataclass
class AlertShifts:
    """Counts of alerts of many users; `by_segment` has them by field and segment as well.

    `examples` has up to `EXAMPLES` alerts of each kind of shift but `same`, those first added.
    """

    counts: Counter[Shift] = field(default_factory=Counter)
    live_levels: Counter[Level] = field(default_factory=Counter)
    other_levels: Counter[Level] = field(default_factory=Counter)
    by_segment: dict[tuple[str, str], Counter[Shift]] = field(default_factory=dict)
    examples: list[AlertExample] = field(default_factory=list)
    _leads: Counter[float] = field(default_factory=Counter)
    """Lead days, to a tenth."""

    def add(self, user_id: str, segments: Mapping[str, str], shifted: Iterable[ShiftedAlert]) -> None:
        """Add alerts of one user, who is of these segments, by field."""
        for alert in shifted:
            self.counts[alert.shift] += 1
            for segment in segments.items():
                self.by_segment.setdefault(segment, Counter())[alert.shift] += 1
            if alert.live is not None:
                self.live_levels[alert.live.level] += 1
            if alert.other is not None:
                self.other_levels[alert.other.level] += 1
            lead = alert.lead_days
            if lead:
                self._leads[round(lead, 1)] += 1
            if alert.shift != "same" and sum(one.shift == alert.shift for one in self.examples) < EXAMPLES:
                self.examples.append(AlertExample(user_id, alert.shift, None if lead is None else round(lead, 2)))

    def median_lead_days(self, shift: Literal["earlier", "later"]) -> float | None:
        """Median of the days by which alerts are earlier, or later; None where none is."""
        sign = 1 if shift == "earlier" else -1
        leads = {sign * days: count for days, count in self._leads.items() if sign * days > 0}
        return _median(leads)


def _median(counts: Mapping[float, int]) -> float | None:
    total, seen = sum(counts.values()), 0
    for value in sorted(counts):
        seen += counts[value]
        if 2 * seen >= total:
            return value
    return None
