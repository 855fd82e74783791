"""Rows that a challenger is trained on: events of one part of a problem, with the outcome known when that part ended.
Must not use another part or the whole truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.comparison.problem import Problem
from model.histories.labels import within_horizons
from model.histories.splits import Part

MOST_ROWS = 300_000
"""Rows of one part that are read: 350 MB of window features. A larger part is sampled."""


@dataclass(frozen=True)
class Examples:
    """`rows` int64 `[n]`, ascending positions in the merged order; `happened` bool `[n]`."""

    rows: NDArray[np.int64]
    happened: NDArray[np.bool_]


def examples_of(problem: Problem, part: Part, most: int = MOST_ROWS) -> Examples:
    """Examples of a part: every judged event whose outcome at the headline horizon is known, or each client's last one.

    Where the task is `label`, a client gives one row, their last event, and its outcome is the source's verdict. Of
    more than `most` rows a seeded sample is taken, regardless of the outcome, so that the rate of default is kept.
    """
    rows, happened = _labelled(problem, part) if problem.task == "label" else _matured(problem, part)
    if len(rows) > most:
        kept = np.sort(np.random.default_rng(problem.seed).choice(len(rows), most, replace=False))
        rows, happened = rows[kept], happened[kept]
    return Examples(rows, happened)


def _matured(problem: Problem, part: Part) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    sequences = problem.sequences
    rows = np.sort(problem.example_rows(part))
    owner = np.searchsorted(sequences.merged_starts, rows, side="right") - 1
    happened, known = within_horizons(sequences.times_ms[rows], owner, part.truth, (problem.headline_days,))
    return rows[known[:, 0]], happened[known[:, 0], 0]


def _labelled(problem: Problem, part: Part) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    chosen = (part.counts > part.skips) & (problem.labels[part.users] >= 0)
    users = part.users[chosen]
    rows = problem.sequences.merged_starts[users] + part.counts[chosen] - 1
    order = np.argsort(rows)
    return rows[order], problem.labels[users[order]] > 0
