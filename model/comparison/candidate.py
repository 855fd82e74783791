"""The protocol of a candidate: a model that takes part in a comparison.

Must import neither a model, nor torch, nor any challenger's library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from model.comparison.problem import Problem

CandidateKind: TypeAlias = Literal["served", "challenger", "oracle"]
"""`served` runs in the stream under the step contract, `challenger` does not, `oracle` knows the process that made
the data."""


class Candidate(Protocol):
    """A model that is fitted to a problem and scores every event of it."""

    name: str
    kind: CandidateKind
    is_probability: bool
    """Whether scores are probabilities of default within the headline horizon; else any monotone risk score."""

    def fit(self, problem: Problem, folder: Path, progress: Progress) -> None:
        """Learn from `problem.parts.train`, stop early and calibrate on `problem.parts.validation`, and nothing else.

        May write files into `folder`, which exists and belongs to this candidate and problem alone.
        """
        ...

    def score(self, problem: Problem, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """Risk right after each event of `users` (positions, int64 `[n]`): float32 `[N]`, NaN for others' events.

        An `oracle` may leave events NaN that are not judged, and validation users that it was not asked about.

        Position is the row in the merged order (`problem.sequences.times_ms`). A score may depend on nothing but the
        same user's events up to and including that row; an `oracle`'s on more.
        """
        ...

    @property
    def us_per_event(self) -> float | None:
        """Microseconds per event in serving form on one thread, measured by the candidate; None where it has no such
        form."""
        ...

    @property
    def state_bytes(self) -> int | None:
        """Bytes that must be kept per user to score the next event; None where that has no meaning."""
        ...
