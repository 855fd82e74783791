"""How scores shift from one model to another: in all, by level, by decile of the live score, and by segment.

Deciles are made of bins of `BIN` in log-odds, so memory does not grow with the number of scores. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream.comparison.stability import population_stability
from stream.outputs import LEVELS, Level

BIN = 0.01
"""Width of a bin in log-odds."""

LARGEST_LOG_ODDS = 16.0
"""Scores below about 1e-7 and above 1 - 1e-7 share the outermost bins."""

DECILES = 10
BINS = round(2 * LARGEST_LOG_ODDS / BIN)

MOST_SEGMENTS = 50
OTHER_SEGMENTS = "other"
"""All segments beyond the first `MOST_SEGMENTS`."""

_LEVEL_CODE: dict[Level, int] = {level: code for code, level in enumerate(LEVELS)}


@dataclass(frozen=True)
class Decile:
    """One tenth of the live scores, lowest first, and what the other model says of the same events.

    `up` and `down` are the shares of scores that are higher and lower.
    """

    decile: int
    scores: int
    live_from: float
    live_to: float
    mean_live: float
    mean_other: float
    mean_shift: float
    up: float
    down: float


@dataclass(frozen=True)
class SegmentShift:
    """The scores of one segment."""

    segment: str
    scores: int
    mean_live: float
    mean_other: float
    mean_shift: float
    level_changed: int


@dataclass
class SegmentSums:
    """Sums over pairs of scores by segment."""

    _codes: dict[str, int] = field(default_factory=dict)
    _sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((4, MOST_SEGMENTS + 1)))

    def add(
        self,
        segments: Sequence[str],
        live: NDArray[np.float64],
        other: NDArray[np.float64],
        level_changed: NDArray[np.bool_],
    ) -> None:
        """Add pairs, `[n]` of each."""
        codes = np.array([self._code(segment) for segment in segments])
        for row, weights in enumerate((None, live, other, level_changed.astype(np.float64))):
            self._sums[row] += np.bincount(codes, weights=weights, minlength=MOST_SEGMENTS + 1)

    def shifts(self) -> Iterator[SegmentShift]:
        """Every segment, the largest first."""
        found = {**self._codes, OTHER_SEGMENTS: MOST_SEGMENTS}
        for name, code in sorted(found.items(), key=lambda item: -self._sums[0, item[1]]):
            count, live, other, changed = self._sums[:, code].tolist()
            if count:
                yield SegmentShift(name, int(count), live / count, other / count, (other - live) / count, int(changed))

    def _code(self, name: str) -> int:
        if name not in self._codes and len(self._codes) < MOST_SEGMENTS:
            self._codes[name] = len(self._codes)
        return self._codes.get(name, MOST_SEGMENTS)


@dataclass
class ScoreShifts:
    """Sums over pairs of scores. `levels` int64 `[live, other]` counts them by their levels."""

    scores: int = 0
    identical: int = 0
    largest_shift: float = 0.0
    absolute_shift: float = 0.0
    levels: NDArray[np.int64] = field(default_factory=lambda: np.zeros((len(LEVELS), len(LEVELS)), dtype=np.int64))
    _sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((5, BINS)))
    """By bin of the live score: how many, their sum, that of the other's, how many are higher, how many lower."""
    _others: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    """By bin, how many of the other's scores."""
    _fields: dict[str, SegmentSums] = field(default_factory=dict)

    def add(
        self,
        live: Sequence[float],
        other: Sequence[float],
        live_levels: Sequence[Level],
        other_levels: Sequence[Level],
        segments: Mapping[str, Sequence[str]],
    ) -> None:
        """Add pairs, one of each sequence; `segments` has theirs by the field that they are of."""
        if not len(live):
            return
        was, now = np.asarray(live, dtype=np.float64), np.asarray(other, dtype=np.float64)
        shift = now - was
        self.scores += len(was)
        self.identical += int(np.count_nonzero(shift == 0))
        self.largest_shift = max(self.largest_shift, float(np.abs(shift).max()))
        self.absolute_shift += float(np.abs(shift).sum())
        level_was = np.array([_LEVEL_CODE[level] for level in live_levels])
        level_now = np.array([_LEVEL_CODE[level] for level in other_levels])
        np.add.at(self.levels, (level_was, level_now), 1)
        bins = _bins(was)
        for row, values in enumerate((None, was, now, shift > 0, shift < 0)):
            weights = None if values is None else values.astype(np.float64)
            self._sums[row] += np.bincount(bins, weights=weights, minlength=BINS)
        self._others += np.bincount(_bins(now), minlength=BINS)
        for name, own in segments.items():
            self._fields.setdefault(name, SegmentSums()).add(own, was, now, level_was != level_now)

    @property
    def level_changed(self) -> int:
        return int(self.levels.sum() - self.levels.trace())

    @property
    def mean_absolute_shift(self) -> float:
        return self.absolute_shift / self.scores if self.scores else 0.0

    def deciles(self) -> Iterator[Decile]:
        """The tenths of the live scores; one where all scores are in few bins may be larger, or missing."""
        tenth = self._tenths()
        for number in range(DECILES):
            bins = np.flatnonzero((tenth == number) & (self._sums[0] > 0))
            if not len(bins):
                continue
            count, live, other, up, down = self._sums[:, bins].sum(axis=1).tolist()
            yield Decile(
                decile=number + 1,
                scores=int(count),
                live_from=_score_at(int(bins[0])),
                live_to=_score_at(int(bins[-1]) + 1),
                mean_live=live / count,
                mean_other=other / count,
                mean_shift=(other - live) / count,
                up=up / count,
                down=down / count,
            )

    def population_stability(self) -> float:
        """The population stability index of the other's scores over the deciles of the live ones; 0 without scores."""
        if not self.scores:
            return 0.0
        tenth = self._tenths()
        was = np.bincount(tenth, weights=self._sums[0], minlength=DECILES)
        now = np.bincount(tenth, weights=self._others, minlength=DECILES)
        return population_stability(was, now)

    def segments(self, name: str) -> Iterator[SegmentShift]:
        """Every segment of the field `name`, the largest first."""
        return self._fields.get(name, SegmentSums()).shifts()

    def _tenths(self) -> NDArray[np.int64]:
        """The decile of each bin, by the rank of its middle."""
        counts = self._sums[0]
        middle = np.cumsum(counts) - counts / 2
        tenth: NDArray[np.int64] = (DECILES * middle / max(counts.sum(), 1)).astype(np.int64)
        return np.minimum(tenth, DECILES - 1)


def _bins(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    kept = np.clip(scores, 1e-12, 1 - 1e-12)
    log_odds = np.log(kept) - np.log1p(-kept)
    return np.clip(((log_odds + LARGEST_LOG_ODDS) / BIN).astype(np.int64), 0, BINS - 1)


def _score_at(edge: int) -> float:
    """The score at the lower edge of a bin."""
    if edge in (0, BINS):
        return float(edge == BINS)
    return float(1 / (1 + np.exp(LARGEST_LOG_ODDS - edge * BIN)))
