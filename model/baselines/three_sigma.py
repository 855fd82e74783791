"""The 3-sigma rule: an alert where spending or balance is an outlier of the user's own history."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.progress import Progress

from events.calendar import DAY_MS
from model.baselines.challenger import Challenger
from model.baselines.cost import Kept
from model.baselines.timeline import Floats, Ints, Timeline
from model.baselines.windows import Windows
from model.comparison.problem import Problem
from model.histories.sequences import Sequences

SPENDING_DAYS = 30
HELD_DAYS = 30
"""How long the latest movement's deviation is kept without another movement."""
LEAST_MOVEMENTS = 10
"""Earlier movements that a mean and a standard deviation need."""


class ThreeSigma(Challenger):
    """The larger deviation, in the user's own standard deviations, of spending over 30 days and of the balance.

    Both directions count. A stream keeps 30 days of movements and, for each series, count, mean and sum of squares.
    """

    name = "3-sigma"
    is_probability = False
    alert_at = 3.0

    def fit(self, problem: Problem, folder: Path, progress: Progress) -> None:  # noqa: ARG002
        """Nothing is learnt; the cost is measured."""
        self._measure(problem, Kept(days=SPENDING_DAYS, totals=6))

    def score_rows(self, sequences: Sequences, rows: Ints) -> Floats:
        owner = np.searchsorted(sequences.merged_starts, rows, side="right") - 1
        timeline = Timeline(sequences, np.unique(owner))
        windows = Windows(timeline, np.arange(len(timeline)))
        moved = timeline.of_kind("transactions")
        amount = timeline.value("transactions", "amount")
        spent = windows.total("transactions", np.where(amount < 0, -amount, np.nan), SPENDING_DAYS)
        # The first month's sums are not yet sums over a month.
        young = timeline.clock_ms - timeline.clock_ms[timeline.start] < SPENDING_DAYS * DAY_MS
        series = (np.where(moved & ~young, spent, np.nan), timeline.value("transactions", "balance_after"))
        deviation = np.fmax(*(_deviation(timeline, windows, values) for values in series))
        return _held(timeline, np.nan_to_num(deviation), moved)[np.searchsorted(timeline.rows, rows)]


def _deviation(timeline: Timeline, windows: Windows, values: Floats) -> Floats:
    """Distance of each value from the mean of the user's values before it, in their standard deviations; NaN where
    there is no value, or too few before it."""
    known = ~np.isnan(values)
    # Distances from the user's first value keep the sums of squares small.
    centred = np.where(known, values - _first(timeline, values), 0.0)
    count = windows.count("transactions", known, None) - known
    mean = (windows.total("transactions", centred, None) - centred) / np.maximum(count, 1)
    squares = windows.total("transactions", centred**2, None) - centred**2
    spread = np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean**2, 0.0))
    usable = known & (count >= LEAST_MOVEMENTS) & (spread > 0)
    return np.where(usable, np.abs(centred - mean) / np.where(spread > 0, spread, 1.0), np.nan)


def _first(timeline: Timeline, values: Floats) -> Floats:
    """The first known value of the same user, NaN where there is none; may lie ahead of an event without a value."""
    ahead = np.append(np.flatnonzero(~np.isnan(values)), len(values))
    first: Floats = np.append(values, np.nan)[ahead[np.searchsorted(ahead, timeline.start)]]
    return first


def _held(timeline: Timeline, deviation: Floats, moved: np.ndarray) -> Floats:
    """The latest movement's deviation, carried for `HELD_DAYS`."""
    latest = np.maximum.accumulate(np.where(moved, np.arange(len(timeline)), -1))
    age_ms = timeline.clock_ms - timeline.clock_ms[np.maximum(latest, 0)]
    holds = (latest >= timeline.start) & (age_ms <= HELD_DAYS * DAY_MS)
    return np.where(holds, deviation[np.maximum(latest, 0)], 0.0)
