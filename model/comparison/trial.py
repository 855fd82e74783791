"""A trial: one candidate fitted to one problem. Its scores are kept in a folder, so that a stopped comparison can be
continued. Must not depend on how scores are judged.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from model.comparison.candidate import Candidate, CandidateKind
from model.comparison.leakage import check_blind_to_future
from model.comparison.problem import Problem
from model.evaluation.playback import merged_rows

LEAK_CHECK_USERS = 20
"""Test users whose later events are changed after each fit, to check that their earlier scores do not change."""
SCORES_FILE = "scores.npz"
RECORD_FILE = "trial.json"


@runtime_checkable
class ScoresHorizons(Protocol):
    """A candidate that gives a probability for every horizon of the problem, not for the headline alone."""

    def score_horizons(self, problem: Problem, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """As `Candidate.score`: float32 `[N, horizons]`."""
        ...


@runtime_checkable
class HasSettings(Protocol):
    """A candidate with settings that decide its scores beside the problem."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Plain values."""
        ...


@runtime_checkable
class HasSettingsOn(Protocol):
    """A candidate with settings that depend on the problem's source."""

    def settings_on(self, problem: Problem) -> Mapping[str, Any]:
        """Plain values, beside its other settings."""
        ...


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    is_probability: bool
    us_per_event: float | None
    state_bytes: int | None
    fit_seconds: float


@dataclass(frozen=True)
class Trial:
    """Scores of a problem's validation and test users, float32 `[N]`, NaN for others (see `Candidate.score`), and what
    they cost.

    `horizon_scores` `[N, horizons]` where the candidate gives them.
    """

    name: str
    kind: CandidateKind
    is_probability: bool
    scores: NDArray[np.float32]
    horizon_scores: NDArray[np.float32] | None
    us_per_event: float | None
    state_bytes: int | None
    fit_seconds: float


def run_trial(candidate: Candidate, problem: Problem, folder: Path, progress: Progress) -> Trial:
    """Fit and score, or read what an earlier run of the same candidate on the same problem left in `folder`.

    Raises what the candidate's `fit` raises, and `LeakError` when its scores depend on the future (an oracle's
    are not checked).
    """
    own = folder / slug(problem.name) / slug(candidate.name)
    key = _key(candidate, problem)
    users = np.union1d(problem.parts.validation.users, problem.parts.test.users)
    earlier = _read(own, key, candidate, problem, users)
    if earlier is not None:
        return earlier
    own.mkdir(parents=True, exist_ok=True)
    (own / RECORD_FILE).unlink(missing_ok=True)
    started = time.monotonic()
    candidate.fit(problem, own, progress)
    seconds = round(time.monotonic() - started, 1)
    if candidate.kind != "oracle":
        # An oracle reads the simulator, not the events, so changed events do not change its scores; and its estimate
        # for one user depends slightly on the other users that are asked for.
        _check_blind(candidate, problem)
    scores = candidate.score(problem, users)
    horizons = candidate.score_horizons(problem, users) if isinstance(candidate, ScoresHorizons) else None
    record = _Record(
        key=key,
        is_probability=candidate.is_probability,
        us_per_event=candidate.us_per_event,
        state_bytes=candidate.state_bytes,
        fit_seconds=seconds,
    )
    _write(own, record, merged_rows(problem.sequences, users), scores, horizons)
    return _trial(candidate, record, scores, horizons)


def is_kept(candidate: Candidate, problem: Problem, folder: Path) -> bool:
    """Whether `run_trial` would read what an earlier run left, and fit nothing."""
    record = _record(folder / slug(problem.name) / slug(candidate.name))
    return record is not None and record.key == _key(candidate, problem)


def problem_fingerprint(problem: Problem) -> str:
    """SHA-256 over all that a candidate is given: histories, vocabularies, parts, truth, question and seed."""
    digest = hashlib.sha256()
    asked = (problem.name, problem.headline_days, problem.horizons_days, problem.task, problem.seed)
    digest.update(repr(asked).encode())
    digest.update(problem.sequences.fingerprint.encode())
    digest.update(msgspec.json.encode(problem.sequences.vocabularies, order="sorted"))
    for part in (problem.parts.train, problem.parts.validation, problem.parts.test):
        for array in (part.users, part.counts, part.skips, part.truth.default_date_ms, part.truth.observation_end_ms):
            digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(problem.labels.tobytes())
    digest.update(b"" if problem.judged is None else problem.judged.tobytes())
    return digest.hexdigest()


def slug(name: str) -> str:
    """A name as that of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _key(candidate: Candidate, problem: Problem) -> str:
    settings = dict(candidate.settings) if isinstance(candidate, HasSettings) else {}
    if isinstance(candidate, HasSettingsOn):
        settings |= candidate.settings_on(problem)
    described = msgspec.json.encode([problem_fingerprint(problem), candidate.name, settings], order="sorted")
    return hashlib.sha256(described).hexdigest()


def _check_blind(candidate: Candidate, problem: Problem) -> None:
    """Check the test users with most events, with everything changed after the middle of their events."""
    test = problem.parts.test
    if not len(test.users):
        return
    users = np.sort(test.users[np.argsort(-test.counts, kind="stable")[:LEAK_CHECK_USERS]])
    at_ms = int(np.median(problem.sequences.times_ms[merged_rows(problem.sequences, users)]))
    check_blind_to_future(candidate, problem, users, at_ms)


def _write(
    folder: Path,
    record: _Record,
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    horizons: NDArray[np.float32] | None,
) -> None:
    if horizons is None:
        np.savez(folder / SCORES_FILE, scores=scores[rows])
    else:
        np.savez(folder / SCORES_FILE, scores=scores[rows], horizons=horizons[rows])
    # The record goes last: without it the trial counts as not run.
    (folder / RECORD_FILE).write_bytes(msgspec.json.encode(record))


def _read(folder: Path, key: str, candidate: Candidate, problem: Problem, users: NDArray[np.int64]) -> Trial | None:
    record = _record(folder)
    if record is None or record.key != key:
        return None
    rows = merged_rows(problem.sequences, users)
    with np.load(folder / SCORES_FILE, allow_pickle=False) as kept:
        scores = _spread(kept["scores"], rows, problem)
        horizons = _spread(kept["horizons"], rows, problem) if "horizons" in kept.files else None
    return _trial(candidate, record, scores, horizons)


def _record(folder: Path) -> _Record | None:
    try:
        return msgspec.json.decode((folder / RECORD_FILE).read_bytes(), type=_Record)
    except (OSError, msgspec.DecodeError):
        return None


def _spread(values: NDArray[np.float32], rows: NDArray[np.int64], problem: Problem) -> NDArray[np.float32]:
    spread = np.full((len(problem.sequences.kinds), *values.shape[1:]), np.nan, dtype=np.float32)
    spread[rows] = values
    return spread


def _trial(
    candidate: Candidate, record: _Record, scores: NDArray[np.float32], horizons: NDArray[np.float32] | None
) -> Trial:
    return Trial(
        name=candidate.name,
        kind=candidate.kind,
        is_probability=record.is_probability,
        scores=scores,
        horizon_scores=horizons,
        us_per_event=record.us_per_event,
        state_bytes=record.state_bytes,
        fit_seconds=record.fit_seconds,
    )
