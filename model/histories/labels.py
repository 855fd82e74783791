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

    `exposure` float32 is the share of the interval in which a default would have been seen: 1 when the interval was
    observed to its end, 0 when it was not observed, or lies behind the default, or the event itself does. `happened`
    bool tells whether the default fell into the observed part.
    """

    exposure: NDArray[np.float32]
    happened: NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """Per user, int64 `[users]`, in milliseconds: default (`NEVER_MS` if none was seen) and end of observation."""

    default_date_ms: NDArray[np.int64]
    observation_end_ms: NDArray[np.int64]

    def fingerprint(self) -> str:
        """SHA-256 over all of it, in hexadecimal."""
        return hashlib.sha256(self.default_date_ms.tobytes() + self.observation_end_ms.tobytes()).hexdigest()


def truth_of(sequences: Sequences, outcomes: Mapping[str, Outcome]) -> Truth:
    """The users' truth, in the order of `sequences.user_ids`. A user without an outcome counts as never observed.

    A user with a default would have been observed to the end of the data had it not come, so that end is their
    censoring time: taking the default date itself would keep near defaults and drop equally near non-defaults, and bias
    every rate.
    """
    end_ms = max((outcome.observation_end_ms for outcome in outcomes.values()), default=0)
    default_date_ms = np.full(sequences.users, NEVER_MS, dtype=np.int64)
    until = np.zeros(sequences.users, dtype=np.int64)
    for position, user_id in enumerate(sequences.user_ids):
        outcome = outcomes.get(user_id)
        if outcome is None:
            continue
        until[position] = outcome.observation_end_ms
        if outcome.default_date_ms is not None:
            default_date_ms[position] = outcome.default_date_ms
            until[position] = end_ms
    return Truth(default_date_ms, until)


def known_by(truth: Truth, cutoff_ms: int) -> Truth:
    """What was known at `cutoff_ms`: later defaults are not seen yet and observation ends there."""
    default_date_ms = np.where(truth.default_date_ms < cutoff_ms, truth.default_date_ms, NEVER_MS)
    return Truth(default_date_ms, np.minimum(truth.observation_end_ms, cutoff_ms))


def targets(
    times_ms: NDArray[np.int64], users: NDArray[np.int64], truth: Truth, horizons_days: tuple[int, ...]
) -> Targets:
    """Targets of events at `times_ms` int64 `[n]` of the users at positions `users` int64 `[n]`."""
    high = np.array(horizons_days, dtype=np.float64)
    low = np.concatenate([[0.0], high[:-1]])
    until_default = ((truth.default_date_ms[users] - times_ms) / DAY_MS)[:, None]
    until_end = ((truth.observation_end_ms[users] - times_ms) / DAY_MS)[:, None]
    exposure = np.clip((until_end - low) / (high - low), 0.0, 1.0)
    # At or after the default date there is nothing left to foresee; an interval counts only if it was reached without
    # default.
    exposure[np.broadcast_to(until_default <= low, exposure.shape)] = 0.0
    happened = (until_default > low) & (until_default <= high) & (exposure > 0)
    return Targets(exposure.astype(np.float32), happened)


def within_horizons(
    times_ms: NDArray[np.int64], users: NDArray[np.int64], truth: Truth, horizons_days: tuple[int, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether default came within each horizon, and whether that is known; both bool `[n, horizons]`.

    Known means before the default date and observed for the whole horizon, for defaults and non-defaults alike.
    """
    horizons = np.array(horizons_days, dtype=np.float64) * DAY_MS
    until_default = (truth.default_date_ms[users] - times_ms)[:, None]
    until_end = (truth.observation_end_ms[users] - times_ms)[:, None]
    return until_default <= horizons, (until_default > 0) & (until_end >= horizons)
