"""A small simulated problem and candidates that are quick to fit: one honest, others that cheat, each in its way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress

from model.comparison.folds import pose
from model.comparison.problem import Problem
from model.datasets.dataset import Dataset
from model.datasets.sources import open_dataset
from model.evaluation.evaluate import progress_bars
from model.evaluation.playback import merged_rows


class ByArrears:
    """Probability by bands of the latest days past due, as often as defaults followed them in training."""

    kind = "challenger"
    is_probability = True
    us_per_event = None
    state_bytes = 8

    def __init__(self, name: str = "by-arrears") -> None:
        self.name = name
        self.fits = 0
        self.rates = np.zeros(0)

    def fit(self, problem: Problem, folder: Path, progress: Progress) -> None:  # noqa: ARG002
        from model.comparison.examples import examples_of

        self.fits += 1
        rows, _, happened = examples_of(problem, self.lesson(problem)).of(problem.headline_days)
        bands = self.bands(problem)[rows]
        self.rates = (np.bincount(bands, happened, 5) + 0.1) / (np.bincount(bands, minlength=5) + 1.0)

    def lesson(self, problem: Problem):
        return problem.parts.train

    def bands(self, problem: Problem) -> np.ndarray:
        arrears = problem.sequences.days_past_due
        return np.where(np.isnan(arrears), 4, np.searchsorted([1.0, 15.0, 30.0], arrears, side="right"))

    def score(self, problem: Problem, users: np.ndarray) -> np.ndarray:
        scores = np.full(len(problem.sequences.kinds), np.nan, dtype=np.float32)
        rows = merged_rows(problem.sequences, users)
        scores[rows] = self.rates[self.bands(problem)[rows]]
        return scores


class SeesNextEvent(ByArrears):
    """Leaks: scores an event by the arrears that the next event reports."""

    def bands(self, problem: Problem) -> np.ndarray:
        return np.roll(super().bands(problem), -1)


class SeesNextTime(ByArrears):
    """Leaks: a long silence that is yet to come raises the score."""

    def score(self, problem: Problem, users: np.ndarray) -> np.ndarray:
        gap = np.append(np.diff(problem.sequences.times_ms), 0)
        return super().score(problem, users) + (gap / 1e12).astype(np.float32)


class SeesLength(ByArrears):
    """Leaks: knows how many events there will be, as a sequence padded on the left does."""

    def score(self, problem: Problem, users: np.ndarray) -> np.ndarray:
        lengths = np.diff(problem.sequences.merged_starts)[problem.sequences.user_of_event]
        return super().score(problem, users) + lengths.astype(np.float32) / 1e4


class LearnsFromAll(ByArrears):
    """Leaks: learns from what validation and test know."""

    def lesson(self, problem: Problem):
        from model.histories.splits import Part

        users = np.arange(problem.sequences.users)
        return Part(users, np.diff(problem.sequences.merged_starts), 0 * users, problem.truth)


@pytest.fixture(scope="session")
def simulated() -> Dataset:
    return open_dataset("simulator", users=300, months=18, seed=3)


@pytest.fixture(scope="session")
def problem(simulated: Dataset) -> Problem:
    with progress_bars(False) as bars:
        (setting,) = pose(simulated, 3, bars)
    return setting.problems[0]


@pytest.fixture
def bars():
    with progress_bars(False) as shown:
        yield shown


@pytest.fixture(scope="session")
def by_arrears() -> Callable[..., ByArrears]:
    return ByArrears


@pytest.fixture
def leaky() -> dict[str, type[ByArrears]]:
    return {
        "next event": SeesNextEvent,
        "next time": SeesNextTime,
        "length": SeesLength,
        "learns from all": LearnsFromAll,
    }
