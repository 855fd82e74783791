"""The examples of a part: which scores are judged, and their outcomes.

The same for every candidate; must not depend on scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.comparison.problem import Problem
from model.histories.labels import within_horizons
from model.histories.splits import Part


@dataclass(frozen=True)
class Examples:
    """`rows` int64 `[n]` of the merged order, their `users` int64 `[n]`, and per horizon whether the default came
    within it (`happened`) and whether that is known (`known`), both bool `[n, horizons]`."""

    rows: NDArray[np.int64]
    users: NDArray[np.int64]
    happened: NDArray[np.bool_]
    known: NDArray[np.bool_]
    horizons_days: tuple[int, ...]

    def of(self, horizon_days: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Rows, users and outcomes of the examples whose outcome at this horizon is known."""
        column = self.horizons_days.index(horizon_days)
        known = self.known[:, column]
        return self.rows[known], self.users[known], self.happened[known, column]


def examples_of(problem: Problem, part: Part) -> Examples:
    """A part's examples under the part's own truth.

    `hazard`: every event that counts, at every horizon. `label`: each labelled user's last event, at the headline
    horizon alone.
    """
    if problem.task == "label":
        return _labelled(problem, part)
    rows = problem.example_rows(part)
    users = problem.sequences.user_of_event[rows]
    times = problem.sequences.times_ms[rows]
    happened, known = within_horizons(times, users, part.truth, problem.horizons_days)
    return Examples(rows, users, happened, known, problem.horizons_days)


def _labelled(problem: Problem, part: Part) -> Examples:
    labelled = (problem.labels[part.users] >= 0) & (part.counts > 0)
    users = part.users[labelled]
    rows = problem.sequences.merged_starts[users] + part.counts[labelled] - 1
    happened = (problem.labels[users] > 0)[:, None]
    return Examples(rows, users, happened, np.ones_like(happened), (problem.headline_days,))
