"""Feedback from the desk as weights of training examples, and whether a model that was trained with them is the better.

Two things are known of alerts that people have worked on, and not of outcomes alone:

- a *false alarm*: somebody looked and found no trouble. Its examples count `FALSE_ALARM_WEIGHT` times;
- a *treatment*: a promise that was kept, a plan, a payment after a call. That no default followed does not say that
  none was to come, so these examples are left out (weight 0).

Weights reach from a headline horizon before the alert to when the case was closed. Which model is kept is decided by
the validation part, which is of later months, by its events of weight 1 alone: both are judged by outcomes that nobody
has changed. Does no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from events.feedback import Feedback
from model.histories.labels import within_horizons
from model.histories.sequences import Sequences
from model.histories.splits import Part
from model.statistics.resampling import Ranking, Weights, intervals

FALSE_ALARM_WEIGHT = 2.0
TREATED_WEIGHT = 0.0

CONFIDENCE = 0.9
"""Of the interval of the gain whose lower end must be above 0: one time in twenty it is so by chance."""


@dataclass(frozen=True)
class FeedbackWeights:
    """Weights float32 `[N]` of all events in merged order, and what they were made of."""

    weights: NDArray[np.float32]
    records: int
    unknown_users: int
    false_alarms: int
    treated: int

    @property
    def weighted_events(self) -> int:
        """Events whose weight is not 1."""
        return int((self.weights != 1).sum())

    def described(self) -> dict[str, int]:
        """For the manifest."""
        return {
            "records": self.records,
            "unknown_users": self.unknown_users,
            "false_alarms": self.false_alarms,
            "treated": self.treated,
            "weighted_events": self.weighted_events,
        }


@dataclass(frozen=True)
class Verdict:
    """AUC at the headline horizon on later months, without and with feedback, and the gain with its interval; None
    where it is not defined."""

    auc_without: float | None
    auc_with: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    judged_events: int

    @property
    def wins(self) -> bool:
        """Whether the model with feedback is kept."""
        return self.gain_low is not None and self.gain_low > 0


def weights_of(sequences: Sequences, feedback: Sequence[Feedback], headline_days: int) -> FeedbackWeights:
    """Weights of all events. Where an alert was a treatment and another one a false alarm, the treatment counts."""
    weights = np.ones(len(sequences.times_ms), dtype=np.float32)
    place = {user_id: number for number, user_id in enumerate(sequences.user_ids)}
    unknown = 0
    # Treatments last: they overrule.
    for one in sorted(feedback, key=lambda each: each.was_treated):
        user = place.get(one.user_id)
        if user is None:
            unknown += 1
            continue
        if not (one.was_false or one.was_treated):
            continue
        first, after = sequences.merged_starts[user], sequences.merged_starts[user + 1]
        times = sequences.times_ms[first:after]
        from_ms = round(one.opened_at.timestamp() * 1000) - headline_days * DAY_MS
        until_ms = round(one.known_at.timestamp() * 1000)
        inside = (times >= from_ms) & (times <= until_ms)
        weights[first:after][inside] = TREATED_WEIGHT if one.was_treated else FALSE_ALARM_WEIGHT
    return FeedbackWeights(
        weights,
        len(feedback),
        unknown,
        sum(one.was_false and not one.was_treated for one in feedback),
        sum(one.was_treated for one in feedback),
    )


def verdict(
    sequences: Sequences,
    part: Part,
    rows: NDArray[np.int64],
    scores: tuple[NDArray[Any], NDArray[Any]],
    weights: NDArray[np.float32],
    horizons_days: tuple[int, ...],
    headline: int,
    seed: int = 0,
) -> Verdict:
    """Compare two models on the examples `rows` of a part, by their scores float `[rows]` without and with feedback.

    Events that feedback gives another weight than 1 judge neither. `headline` is the place of the headline horizon.
    """
    owner = sequences.owners(rows)
    happened, known = within_horizons(sequences.times_ms[rows], owner, part.truth, horizons_days)
    usable = known[:, headline] & (weights[rows] == 1)
    truth = happened[usable, headline]
    without, with_feedback = (Ranking(truth, score[usable]) for score in scores)

    def measure(drawn: Weights | None) -> dict[str, float | None]:
        before, after = without.measures(drawn)["auc"], with_feedback.measures(drawn)["auc"]
        return {"gain": None if before is None or after is None else after - before}

    gain = intervals(measure, owner[usable], confidence=CONFIDENCE, seed=seed)["gain"]
    return Verdict(
        without.measures()["auc"],
        with_feedback.measures()["auc"],
        gain.value,
        gain.low,
        gain.high,
        int(usable.sum()),
    )
