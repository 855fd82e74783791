"""Oracles: hazards that the simulator computes. They know the process and learn nothing; they bound every model.

`oracle` uses the latent truth and bounds any prediction. `attainable` uses the events and the simulator's parameters
and bounds any prediction from events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from events.calendar import DAY_MS
from model.baselines.challenger import ChallengerError
from model.comparison.problem import Problem
from model.datasets.simulator import Simulator
from model.datasets.simulator.belief import attainable_hazards

Advance: TypeAlias = Callable[[float], None] | None
Hazards: TypeAlias = Callable[
    [Simulator, Sequence[str], NDArray[np.int64], int, Advance],
    NDArray[np.float64],
]
"""Probability of default within a horizon (days) of each user at each time (ms), both `[n]`: float64 `[n]`, NaN where
the user is not at risk. The last argument is called with the share done."""

VALIDATION_USERS = 2_000
"""Validation users that an oracle which samples them is asked for."""


def latent_hazards(
    simulator: Simulator, user_ids: Sequence[str], times_ms: NDArray[np.int64], horizon_days: int, advance: Advance
) -> NDArray[np.float64]:
    """`Hazards` of the latent truth."""
    return simulator.true_hazards(user_ids, times_ms, horizon_days, advance)


def told_hazards(
    simulator: Simulator, user_ids: Sequence[str], times_ms: NDArray[np.int64], horizon_days: int, advance: Advance
) -> NDArray[np.float64]:
    """`Hazards` given the events."""
    return attainable_hazards(simulator, user_ids, times_ms, horizon_days, progress=advance)


class Oracle:
    """A `Candidate` whose scores are hazards. They are shares of simulated futures and have sampling noise.

    It scores only the examples of validation and test, since futures cost milliseconds per user and day.
    With `validation_users` it is asked for a seeded sample of so many of the validation part, which only sets
    thresholds. At examples where a borrower is not at risk, because they left, it scores 0.
    """

    kind: Literal["served", "challenger", "oracle"] = "oracle"
    is_probability = True
    us_per_event: float | None = None
    state_bytes: int | None = None

    def __init__(self, name: str, hazards: Hazards, validation_users: int | None = None) -> None:
        self.name = name
        self._hazards = hazards
        self._validation_users = validation_users
        self._progress: Progress | None = None

    @property
    def settings(self) -> dict[str, int | None]:
        """All that the scores depend on beside the problem."""
        return {"validation_users": self._validation_users}

    def fit(self, problem: Problem, folder: Path, progress: Progress) -> None:  # noqa: ARG002
        """Learns nothing. Raises `ChallengerError` for data that is not simulated."""
        self._simulator(problem)
        self._progress = progress

    def score(self, problem: Problem, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """Hazards right after each example of `users`, NaN for other events too; see `Candidate.score`. Raises as
        `fit`.

        All events of a user's day share one: it is asked for once per user and day.
        """
        simulator = self._simulator(problem)
        sequences = problem.sequences
        rows = self._asked(problem, users)
        owner = sequences.user_of_event[rows]
        days = sequences.times_ms[rows] // DAY_MS
        asked, place = np.unique(np.stack((owner, days)), axis=1, return_inverse=True)
        user_ids = [sequences.user_ids[user] for user in asked[0].tolist()]
        found = self._hazards(simulator, user_ids, asked[1] * DAY_MS, problem.headline_days, self._advance())
        scores = np.full(len(sequences.times_ms), np.nan, dtype=np.float32)
        scores[rows] = np.nan_to_num(found[place.reshape(-1)], nan=0.0)
        return scores

    def _simulator(self, problem: Problem) -> Simulator:
        if not isinstance(problem.dataset, Simulator):
            raise ChallengerError(f"{problem.name}: only the simulator's hazard is known; leave the {self.name} out")
        return problem.dataset

    def _asked(self, problem: Problem, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the examples of `users` in validation and test, without validation users beyond the sample."""
        validates = problem.parts.validation.users
        if self._validation_users is not None and len(validates) > self._validation_users:
            random = np.random.default_rng(problem.seed)
            validates = random.choice(validates, self._validation_users, replace=False)
        owner = problem.sequences.user_of_event
        parts = ((problem.parts.validation, np.intersect1d(validates, users)), (problem.parts.test, users))
        rows = [problem.example_rows(part) for part, _ in parts]
        kept = [each[np.isin(owner[each], wanted)] for each, (_, wanted) in zip(rows, parts, strict=True)]
        return np.unique(np.concatenate(kept))

    def _advance(self) -> Advance:
        if self._progress is None:
            return None
        bars = self._progress
        task = bars.add_task(f"{self.name}: futures", total=1.0)

        def advance(share: float) -> None:
            bars.update(task, completed=share)

        return advance
