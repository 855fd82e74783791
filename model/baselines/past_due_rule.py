"""The regulators' backstop: a borrower 30 days past due has a significant increase in credit risk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.progress import Progress

from model.baselines.arrears import overdue_days
from model.baselines.challenger import Challenger
from model.baselines.cost import Kept
from model.baselines.timeline import Floats, Ints, Timeline
from model.comparison.problem import Problem
from model.histories.sequences import Sequences


class PastDueRule(Challenger):
    """The score is the days past due, so that a threshold for an alert budget exists; the rule alerts at `alert_at`.

    In a stream it would keep two numbers per user: days past due, and the time of their last update.
    """

    name = "30-days-past-due"
    is_probability = False
    alert_at = 30.0

    def fit(self, problem: Problem, folder: Path, progress: Progress) -> None:  # noqa: ARG002
        """Nothing is learnt; the cost is measured."""
        self._measure(problem, Kept())
        self._state_bytes = 16

    def score_rows(self, sequences: Sequences, rows: Ints) -> Floats:
        owner = np.searchsorted(sequences.merged_starts, rows, side="right") - 1
        timeline = Timeline(sequences, np.unique(owner))
        return overdue_days(timeline)[np.searchsorted(timeline.rows, rows)]
