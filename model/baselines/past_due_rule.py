"""The regulators' backstop: a borrower 30 days past due has a significant increase in credit risk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.progress import Progress

from events.contracts import LEDGER, STANDING
from model.baselines.challenger import Challenger
from model.baselines.cost import Kept
from model.baselines.timeline import Floats, Ints
from model.comparison.problem import Problem
from model.histories.sequences import Sequences


class PastDueRule(Challenger):
    """The score is the days past due, so that a threshold for an alert budget exists; the rule alerts at `alert_at`.

    They are the borrower's by the one rule, of the worst contract, as workers publish them. In a stream it keeps what
    that rule keeps of a borrower's contracts, and its cost here is that of looking a number up.
    """

    name = "30-days-past-due"
    is_probability = False
    alert_at = 30.0

    def fit(self, problem: Problem, folder: Path, progress: Progress) -> None:  # noqa: ARG002
        """Nothing is learnt; the cost is measured."""
        self._measure(problem, Kept())
        self._state_bytes = STANDING.itemsize + LEDGER.itemsize

    def score_rows(self, sequences: Sequences, rows: Ints) -> Floats:
        return np.nan_to_num(sequences.days_past_due[rows].astype(np.float64))
