"""What alerts are worth: how far they are ahead of the 30-days-past-due rule, and how much exposure they save.

With a budget of alerts, collectors do best to work those first of which most would be lost: alerts are called by score
times exposure here. Thresholds come from the validation part, as in `model.comparison.budget`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from events.columns import COLUMNS
from events.types import KINDS
from model.comparison.budget import UserAlerts, alerts_by_user, operate_at
from model.comparison.problem import Problem
from model.comparison.trial import Trial
from model.histories.labels import NEVER_MS
from model.histories.sequences import Sequences

RULE_DAYS = 30.0
"""Days past due at which lenders act without a model: significant increase in credit risk by IFRS 9's backstop."""


def exposures(sequences: Sequences, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Exposure of the user right after each of the events `rows` (merged order), float64 `[rows]`, as their latest
    repayment event tells; 0 where nothing is known of it."""
    position = KINDS.index("repayments")
    arrived = sequences.latest[rows, position]
    owner = np.searchsorted(sequences.merged_starts, rows, side="right") - 1
    told = sequences.numeric["repayments"][:, COLUMNS["repayments"].numeric_inputs.index("exposure")]
    if not len(told):
        return np.zeros(len(rows))
    at = np.maximum(sequences.starts["repayments"][owner] + arrived - 1, 0)
    found = np.where(arrived > 0, told[np.minimum(at, len(told) - 1)], 0.0).astype(np.float64)
    return np.maximum(np.nan_to_num(found), 0.0)


def rule_ms(sequences: Sequences) -> NDArray[np.int64]:
    """When each user was first seen `RULE_DAYS` past due, int64 `[users]`; `NEVER_MS` for those who never were."""
    late = np.flatnonzero(np.nan_to_num(sequences.days_past_due) >= RULE_DAYS)
    owner = sequences.user_of_event[late]
    first = np.full(sequences.users, NEVER_MS, dtype=np.int64)
    np.minimum.at(first, owner, sequences.times_ms[late])
    return first


def days_ahead_of_rule(problem: Problem, found: UserAlerts) -> NDArray[np.float64]:
    """Days from each caught user's first warning to the day on which the rule would have called them, or to the default
    date where that came first; below zero where the rule was first. In the order of `found.lead_days`."""
    users = found.lead_user
    default_ms = problem.truth.default_date_ms[users]
    called_ms = np.minimum(rule_ms(problem.sequences)[users], default_ms)
    days: NDArray[np.float64] = found.lead_days - (default_ms - called_ms) / DAY_MS
    return days


@dataclass(frozen=True)
class Saved:
    """Of each user `[U]`: `alerts` called by score times exposure, exposure `at_default` (0 for users without one), and
    what of it was `saved`: had an alert at least `EARLY_DAYS` before."""

    alerts: NDArray[np.float64]
    at_default: NDArray[np.float64]
    saved: NDArray[np.float64]


def saved(problem: Problem, trial: Trial, budget: float) -> Saved:
    """What a budget of alerts saves on the test part."""
    sequences, owner = problem.sequences, problem.sequences.user_of_event

    def valued(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return (trial.scores[rows] * exposures(sequences, rows)).astype(np.float32)

    rows = problem.example_rows(problem.parts.validation)
    rows = rows[~np.isnan(trial.scores[rows])]  # an oracle is asked for a sample of users
    operating = operate_at(sequences.times_ms[rows], owner[rows], valued(rows), budget)
    rows = problem.example_rows(problem.parts.test)
    found = alerts_by_user(
        sequences.times_ms[rows], owner[rows], valued(rows), problem.truth, operating, problem.headline_days
    )
    at_default = np.zeros(sequences.users)
    at_default[owner[rows]] = exposures(sequences, rows)  # of equal users the last row stays: the one before default
    at_default *= found.defaulted
    return Saved(found.alerts, at_default, at_default * found.early)
