"""Labels: what happened after each event, as targets for training and evaluation. Outcomes are kept apart from events.

Every event is an example. No feature may use anything of this module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from model.datasets.dataset import Outcome
from model.histories.sequences import Sequences

NEVER_MS = np.iinfo(np.int64).max // 4


@dataclass(frozen=True)
class Targets:
    """Per event and interval between horizons, both `[events, intervals]`.

    `observed_share` float32 is the share of the interval in which a default would have been seen: 1 for an interval
    observed to its end; 0 for one that was not observed, one after the default date, and of an event on or after it.
    `happened` bool: whether the default date is in the observed part.
    """

    observed_share: NDArray[np.float32]
    happened: NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """Per user, int64 `[users]`, ms since 1970: default date (`NEVER_MS` if none was seen) and observation end."""

    default_date_ms: NDArray[np.int64]
    observation_end_ms: NDArray[np.int64]

    def fingerprint(self) -> str:
        """SHA-256 over all of it, in hexadecimal."""
        return hashlib.sha256(self.default_date_ms.tobytes() + self.observation_end_ms.tobytes()).hexdigest()


def truth_of(sequences: Sequences, outcomes: Mapping[str, Outcome]) -> Truth:
    """The users' truth, in the order of `sequences.user_ids`. A user without an outcome counts as never observed.

    A user in default would have been observed to the end of the data without the default, so that end is their
    observation end. With the default date instead, events shortly before a default would count and equally late events
    of other users would not, which biases every rate.
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
    observed_share = np.clip((until_end - low) / (high - low), 0.0, 1.0)
    # On or after the default date there is nothing to predict; an interval counts only if it was reached without
    # default.
    observed_share[np.broadcast_to(until_default <= low, observed_share.shape)] = 0.0
    happened = (until_default > low) & (until_default <= high) & (observed_share > 0)
    return Targets(observed_share.astype(np.float32), happened)


def targets_of_all(
    sequences: Sequences,
    truth: Truth,
    horizons_days: tuple[int, ...],
    judged: NDArray[np.bool_] | None = None,
) -> Targets:
    """Targets of every event, run by run, kept by the backing of the sequences. Those that are not `judged` bool `[N]`
    are taken for not observed."""
    shape = (len(sequences.kinds), len(horizons_days))
    share, happened = sequences.backing.zeros(shape, np.float32), sequences.backing.zeros(shape, np.bool_)
    for users, rows in sequences.runs():
        owner = np.repeat(users, np.diff(sequences.merged_starts)[users])
        found = targets(sequences.times_ms[rows], owner, truth, horizons_days)
        counting = True if judged is None else judged[rows, None]
        share[rows], happened[rows] = found.observed_share * counting, found.happened & counting
    return Targets(share, happened)


def within_horizons(
    times_ms: NDArray[np.int64], users: NDArray[np.int64], truth: Truth, horizons_days: tuple[int, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the default date is within each horizon, and whether that is known; both bool `[n, horizons]`.

    Known means that the event is before the default date and the whole horizon was observed, whatever the outcome.
    """
    horizons = np.array(horizons_days, dtype=np.float64) * DAY_MS
    until_default = (truth.default_date_ms[users] - times_ms)[:, None]
    until_end = (truth.observation_end_ms[users] - times_ms)[:, None]
    return until_default <= horizons, (until_default > 0) & (until_end >= horizons)
