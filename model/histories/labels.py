"""What came true after each event: targets for training and for judging, from outcomes that are kept apart from events.

Every event is an example. Nothing here may feed a feature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.columns import DAY_MS
from model.datasets.dataset import Outcome
from model.histories.sequences import Sequences

NEVER_MS = np.iinfo(np.int64).max // 4


@dataclass(frozen=True)
class Targets:
    """Per event and interval between horizons, both `[events, intervals]`.

    `exposure` float32 is the share of the interval in which an onset would have been seen: 1 when the interval was
    watched to its end, 0 when it was not watched, or lies behind the onset, or the event itself does. `happened` bool
    tells whether the onset fell into the watched part.
    """

    exposure: NDArray[np.float32]
    happened: NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """Per user, int64 `[users]`, in milliseconds: onset (`NEVER_MS` if none was seen) and end of observation."""

    onset_ms: NDArray[np.int64]
    watched_until_ms: NDArray[np.int64]

    def fingerprint(self) -> str:
        """SHA-256 over all of it, in hexadecimal."""
        return hashlib.sha256(self.onset_ms.tobytes() + self.watched_until_ms.tobytes()).hexdigest()


def truth_of(sequences: Sequences, outcomes: Mapping[str, Outcome]) -> Truth:
    """The users' truth, in the order of `sequences.user_ids`. A user without an outcome counts as never watched.

    A user with an onset would have been watched to the end of the data had it not come, so that end is their censoring
    time: taking the onset's own time would keep near onsets and drop equally near non-onsets, and bias every rate.
    """
    end_ms = max((outcome.observed_until_ms for outcome in outcomes.values()), default=0)
    onset = np.full(sequences.users, NEVER_MS, dtype=np.int64)
    until = np.zeros(sequences.users, dtype=np.int64)
    for position, user_id in enumerate(sequences.user_ids):
        outcome = outcomes.get(user_id)
        if outcome is None:
            continue
        until[position] = outcome.observed_until_ms
        if outcome.onset_ms is not None:
            onset[position] = outcome.onset_ms
            until[position] = end_ms
    return Truth(onset, until)


def known_by(truth: Truth, cutoff_ms: int) -> Truth:
    """What was known at `cutoff_ms`: later onsets are not seen yet and observation ends there."""
    onset = np.where(truth.onset_ms < cutoff_ms, truth.onset_ms, NEVER_MS)
    return Truth(onset, np.minimum(truth.watched_until_ms, cutoff_ms))


def targets(
    times_ms: NDArray[np.int64], users: NDArray[np.int64], truth: Truth, horizons_days: tuple[int, ...]
) -> Targets:
    """Targets of events at `times_ms` int64 `[n]` of the users at positions `users` int64 `[n]`."""
    high = np.array(horizons_days, dtype=np.float64)
    low = np.concatenate([[0.0], high[:-1]])
    until_onset = ((truth.onset_ms[users] - times_ms) / DAY_MS)[:, None]
    until_end = ((truth.watched_until_ms[users] - times_ms) / DAY_MS)[:, None]
    exposure = np.clip((until_end - low) / (high - low), 0.0, 1.0)
    # At or after the onset there is nothing left to foresee; an interval counts only if it was reached without onset.
    exposure[np.broadcast_to(until_onset <= low, exposure.shape)] = 0.0
    happened = (until_onset > low) & (until_onset <= high) & (exposure > 0)
    return Targets(exposure.astype(np.float32), happened)


def within_horizons(
    times_ms: NDArray[np.int64], users: NDArray[np.int64], truth: Truth, horizons_days: tuple[int, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether onset came within each horizon, and whether that is known; both bool `[n, horizons]`.

    Known means before the onset and watched for the whole horizon, for onsets and non-onsets alike.
    """
    horizons = np.array(horizons_days, dtype=np.float64) * DAY_MS
    until_onset = (truth.onset_ms[users] - times_ms)[:, None]
    until_end = (truth.watched_until_ms[users] - times_ms)[:, None]
    return until_onset <= horizons, (until_onset > 0) & (until_end >= horizons)
