"""Base classes of the challengers: scoring of events, and fitting, calibration and cost of models on window features.
Must not depend on a particular model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from model.baselines.cost import Kept, state_bytes, us_per_event
from model.baselines.examples import examples_of
from model.baselines.timeline import Floats, Ints
from model.baselines.windows import LAGS, WINDOWS_DAYS, Features, window_features
from model.comparison.problem import Problem
from model.evaluation.playback import merged_rows
from model.histories.labels import Targets
from model.histories.sequences import Sequences, chunks_of_users

EVENTS_PER_CHUNK = 50_000


class ChallengerError(RuntimeError):
    """A challenger cannot be fitted; the message says why and what to do."""


@dataclass(frozen=True)
class Lesson:
    """Input of a model on window features: training rows to fit, validation rows for stopping and choosing settings.

    `users` and `validation_users` int64 are the rows' users; in a split by time both parts have the same users.
    """

    train: Features
    happened: NDArray[np.bool_]
    users: Ints
    validation: Features
    validation_happened: NDArray[np.bool_]
    validation_users: Ints
    seed: int
    folder: Path
    progress: Progress


@dataclass(frozen=True)
class Platt:
    """Calibration of a logit: `slope`, `intercept`."""

    slope: float
    intercept: float

    @classmethod
    def fit(cls, logits: Floats, happened: NDArray[np.bool_]) -> Platt:
        """By maximum likelihood, as the served models' calibration does for one interval that was fully observed."""
        from model.training.calibration import fit_calibration

        observed = Targets(np.ones((len(logits), 1), dtype=np.float32), happened[:, None])
        found = fit_calibration(logits.astype(np.float32)[:, None], observed)
        return cls(found.slope[0], found.intercept[0])

    def probability(self, logits: Floats) -> Floats:
        """Calibrated probabilities, float64 `[n]`."""
        return 1 / (1 + np.exp(-np.clip(self.slope * logits + self.intercept, -60, 60)))


class Challenger(ABC):
    """A `Candidate` that scores rows by itself; see `model.comparison.candidate`."""

    name: str
    kind: Literal["served", "challenger", "oracle"] = "challenger"
    is_probability: bool = True

    def __init__(self) -> None:
        self._us_per_event: float | None = None
        self._state_bytes: int | None = None

    @property
    def us_per_event(self) -> float | None:
        """See `model.baselines.cost` for the form that is measured."""
        return self._us_per_event

    @property
    def state_bytes(self) -> int | None:
        """See `model.baselines.cost.state_bytes`."""
        return self._state_bytes

    @abstractmethod
    def fit(self, problem: Problem, folder: Path, progress: Progress) -> None:
        """Learn; see `Candidate.fit`."""

    @abstractmethod
    def score_rows(self, sequences: Sequences, rows: Ints) -> Floats:
        """Scores right after the events `rows` (ascending positions in the merged order), float64 `[rows]`."""

    def score(self, problem: Problem, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores of the users' events, float32 `[N]`, NaN elsewhere; see `Candidate.score`."""
        sequences = problem.sequences
        scores = np.full(len(sequences.times_ms), np.nan, dtype=np.float32)
        for chunk in chunks_of_users(sequences, np.unique(users), EVENTS_PER_CHUNK):
            rows = merged_rows(sequences, chunk)
            scores[rows] = self.score_rows(sequences, rows)
        return scores

    def _measure(self, problem: Problem, kept: Kept) -> None:
        """Note the cost in the serving form that keeps `kept`, over the training users."""
        users = problem.parts.train.users
        self._us_per_event = us_per_event(problem.sequences, users, self.score_rows, kept)
        self._state_bytes = state_bytes(problem.sequences, users, kept)


class Tabular(Challenger):
    """A model on window features. Subclasses learn and give a logit, or any score that grows with the log-odds."""

    _platt: Platt

    def fit(self, problem: Problem, folder: Path, progress: Progress) -> None:
        """Fit on the training part's examples, calibrate on the validation part's. Raises `ChallengerError`."""
        self._learn(self._lesson(problem, folder, progress))
        self._measure(problem, Kept(WINDOWS_DAYS[-1], LAGS, of_each_kind=True, totals=self._totals))

    def score_rows(self, sequences: Sequences, rows: Ints) -> Floats:
        logits = self._logits(window_features(sequences, rows).values)
        return self._platt.probability(logits) if self.is_probability else logits

    @abstractmethod
    def _learn(self, lesson: Lesson) -> None:
        """Fit the model, and set `_platt` unless scores are no probabilities."""

    @abstractmethod
    def _logits(self, values: NDArray[np.float32]) -> Floats:
        """Uncalibrated logits of rows of window features, float64 `[rows]`."""

    def _lesson(self, problem: Problem, folder: Path, progress: Progress) -> Lesson:
        train = examples_of(problem, problem.parts.train)
        validation = examples_of(problem, problem.parts.validation)
        for part, found in (("training", train), ("validation", validation)):
            if not 0 < found.happened.sum() < len(found.happened):
                raise ChallengerError(
                    f"{self.name}: the {part} part of {problem.name} has {int(found.happened.sum())} defaults among "
                    f"{len(found.happened)} examples; take more users or months"
                )
        task = progress.add_task(f"{self.name}: features", total=len(train.rows) + len(validation.rows))
        features = [
            window_features(problem.sequences, part.rows, lambda rows: progress.advance(task, rows))
            for part in (train, validation)
        ]
        self._totals = sum(name.endswith("_all") for name in features[0].names)
        owner = problem.sequences.user_of_event
        return Lesson(
            train=features[0],
            happened=train.happened,
            users=owner[train.rows],
            validation=features[1],
            validation_happened=validation.happened,
            validation_users=owner[validation.rows],
            seed=problem.seed,
            folder=folder,
            progress=progress,
        )
