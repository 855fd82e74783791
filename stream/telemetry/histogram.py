"""A histogram with fixed bounds, filled with whole arrays at once. Does no I/O and knows nothing of Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Histogram:
    """Counts of values by upper bound, as Prometheus has them: a value counts in the first bucket whose bound it does
    not exceed, and in a last one without a bound.

    One thread fills it, any other may read it: what is read is of some moment, and never less than what was read
    before."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` must rise."""
        self.bounds = tuple(float(bound) for bound in bounds)
        self._bounds = np.array(self.bounds)
        self._counts = np.zeros(len(self.bounds) + 1, dtype=np.int64)
        self.total = 0.0
        """Sum of all values."""

    def observe(self, values: NDArray[np.floating]) -> None:
        """Count values, `[n]`, none of them NaN."""
        self._counts += np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._counts))
        self.total += float(values.sum(dtype=np.float64))

    def observe_one(self, value: float, times: int = 1) -> None:
        """Count one value, `times` times."""
        self._counts[np.searchsorted(self._bounds, value)] += times
        self.total += value * times

    def add(self, counts: NDArray[np.int64], total: float) -> None:
        """Count what another one counted: how many by bucket, `[bounds + 1]`, and the sum of its values."""
        self._counts += counts
        self.total += total

    @property
    def count(self) -> int:
        """How many values were counted."""
        return int(self._counts.sum())

    def cumulative(self) -> list[tuple[str, float]]:
        """By bound, how many values do not exceed it; the last bound is `+Inf`."""
        sums = np.cumsum(self._counts).tolist()
        return list(zip([*map(str, self.bounds), "+Inf"], map(float, sums), strict=True))
