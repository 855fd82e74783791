"""Oracle: the simulator's true hazard, the most that anyone can reach. It reads the latent truth and learns nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from events.columns import DAY_MS
from model.baselines.challenger import ChallengerError
from model.comparison.problem import Problem
from model.playback import merged_rows


@runtime_checkable
class KnowsHazards(Protocol):
    """A data set that knows its own hazards; of those at hand, the simulator alone."""

    def true_hazards(
        self,
        user_ids: Sequence[str],
        times_ms: NDArray[np.int64],
        horizon_days: int = 90,
        progress: Callable[[float], None] | None = None,
    ) -> NDArray[np.float64]:
        """Probability of onset within the horizon of each user at each time, NaN where not at risk."""
        ...


class Oracle:
    """An `Entrant`. Scores are shares of simulated futures and carry their sampling noise (`simulator.hazard.FUTURES`).

    Events at which a borrower is not at risk, after the onset or after leaving, score 1 and 0 by what came of them;
    nobody is judged there.
    """

    name = "oracle"
    kind: Literal["served", "challenger", "oracle"] = "oracle"
    is_probability = True
    us_per_event: float | None = None
    state_bytes: int | None = None

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def fit(self, problem: Problem, folder: Path, progress: Progress) -> None:  # noqa: ARG002
        """Nothing to learn. Raises `ChallengerError` for data whose hazards nobody knows."""
        if not isinstance(problem.dataset, KnowsHazards):
            raise ChallengerError(f"{problem.name}: only the simulator's true hazard is known; leave the oracle out")
        self._progress = progress

    def score(self, problem: Problem, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """True hazards right after each event of `users`; see `Entrant.score`. Raises as `fit` does.

        All events of a user's day share one: it is asked for once per user and day.
        """
        if not isinstance(problem.dataset, KnowsHazards):
            raise ChallengerError(f"{problem.name}: only the simulator's true hazard is known; leave the oracle out")
        sequences = problem.sequences
        rows = merged_rows(sequences, np.unique(users))
        owner = sequences.user_of_event[rows]
        days = sequences.times_ms[rows] // DAY_MS
        asked, place = np.unique(np.stack((owner, days)), axis=1, return_inverse=True)
        user_ids = [sequences.user_ids[user] for user in asked[0].tolist()]
        found = problem.dataset.true_hazards(user_ids, asked[1] * DAY_MS, problem.headline_days, self._advance())
        gone = sequences.times_ms[rows] >= problem.truth.onset_ms[owner]
        hazards = found[place.reshape(-1)]
        scores = np.full(len(sequences.times_ms), np.nan, dtype=np.float32)
        scores[rows] = np.where(np.isnan(hazards), gone.astype(np.float64), hazards)
        return scores

    def _advance(self) -> Callable[[float], None] | None:
        if self._progress is None:
            return None
        bars = self._progress
        task = bars.add_task("oracle: futures", total=1.0)

        def advance(share: float) -> None:
            bars.update(task, completed=share)

        return advance
