"""Whether the scores of the last hours are distributed as where the model was trained: the population stability index.
Of inputs `stream.worker.input_drift` tells.

The bundle's drift reference counts one score for each user, so at most one of each user counts here in each half of the
window; a user is known by the number of their row, which an eviction may give to another one. Does no I/O once it is
made. Filled in the event loop, a few numpy calls for a batch; read in any thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.comparison.stability import population_stability
from stream.worker.drift_reference import Distribution

HALF_WINDOW_MS = 12 * 3_600_000
LEAST_USERS = 200
"""With fewer scores in the window, chance alone would move the index."""


class ScoreDrift:
    """Counts scores in the bins of a reference, over a window of the last 12 to 24 hours of wall time."""

    def __init__(self, edges: Sequence[float], counts: Sequence[int]) -> None:
        """`edges` are the upper bounds, included, of all bins but the last; `counts` the reference's, by bin."""
        if len(counts) != len(edges) + 1 or list(edges) != sorted(edges) or min(counts) < 0 or not any(counts):
            raise ValueError(f"{len(edges)} edges and {len(counts)} counts, which are no distribution")
        self._edges = np.array(edges, dtype=np.float64)
        self._reference = np.array(counts, dtype=np.int64)
        self._before, self._now = np.zeros_like(self._reference), np.zeros_like(self._reference)
        self._seen = np.zeros(1024, dtype=np.bool_)
        self._begun_ms: int | None = None

    @classmethod
    def of(cls, reference: Mapping[str, Distribution] | None) -> ScoreDrift | None:
        """By a bundle's reference; None where it has none, or none of scores."""
        found = None if reference is None else reference.get("score")
        if found is None or found.edges is None or not any(found.counts[:-1]):
            return None
        return cls(found.edges, found.counts[:-1])  # the last are users without a score

    def note(self, rows: NDArray[np.int64], scores: NDArray[np.floating[Any]], now_ms: int) -> None:
        """Count scores, `[n]`, of users with these rows, at this wall time."""
        if self._begun_ms is None or now_ms - self._begun_ms >= HALF_WINDOW_MS:
            is_next = self._begun_ms is not None and now_ms - self._begun_ms < 2 * HALF_WINDOW_MS
            self._before = self._now if is_next else np.zeros_like(self._now)
            self._now = np.zeros_like(self._now)
            self._seen[:] = False
            self._begun_ms = now_ms
        if not len(rows):
            return
        if (most := int(rows.max())) >= len(self._seen):
            self._seen = np.concatenate([self._seen, np.zeros(most + 1, dtype=np.bool_)])
        new = np.flatnonzero(~self._seen[rows])
        if not len(new):
            return
        _, first = np.unique(rows[new], return_index=True)
        counted = new[first]
        self._seen[rows[counted]] = True
        places = np.searchsorted(self._edges, scores[counted].astype(np.float64), side="left")
        self._now = self._now + np.bincount(places, minlength=len(self._now))

    @property
    def users(self) -> int:
        """Scores in the window."""
        return int(self._before.sum() + self._now.sum())

    def index(self) -> float | None:
        """The population stability index; None where there are fewer than `LEAST_USERS` scores."""
        counts = self._before + self._now
        return None if counts.sum() < LEAST_USERS else population_stability(self._reference, counts)
