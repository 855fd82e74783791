"""Explains a score: what each branch of the model contributes, and which recent events drew its attention. Pure.

The contribution of a branch is the log-odds of the score minus the log-odds with the branch's readout at zero and its
age at "never": the model's inputs for a user without any event of that kind.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from events.columns import NEVER_DAYS
from events.types import KINDS
from model.bundle import Bundle
from stream.alerts.effects import Effects
from stream.alerts.reasons import reasons_of
from stream.outputs import Explanation, WeighedEvent, moment_of
from stream.state.row import NO_TIME, WEIGHED_EVENTS, Rows
from stream.topics import Topics

NAMED_EVENTS = 4
"""How many events an alert names, of those with the largest weight."""

WEIGHT_DECIMALS = 6
"""Weights are published and compared with so many decimals; further ones are noise of floating point."""

_PROFILES = KINDS.index("profiles")
_SMALLEST_PROBABILITY = 1e-7


class Explainer:
    """Explains the alerts of one bundle."""

    def __init__(self, bundle: Bundle, topics: Topics) -> None:
        self._bundle = bundle
        self.effects = Effects.of(bundle)
        self._inputs = topics.inputs

    def explain(
        self,
        readout: NDArray[np.float32],
        ages: NDArray[np.float32],
        facts: Rows,
        standing: Rows,
        today: NDArray[np.int64],
        weighed: Rows,
        sequence: NDArray[np.int64],
        partitions: Sequence[int],
    ) -> list[Explanation]:
        """Explanations of `n` scores, right after the event of each.

        `readout` float32 `[n, readout_width]` and `ages` float32 `[n, kinds]` as for `Bundle.score`; `facts` FACTS
        and `standing` STANDING `[n]` on the day `today` int64 `[n]`; `weighed` `[n, WEIGHED_EVENTS]`, the ring
        buffers of the rows; `sequence` int64 `[n]`, scored events of each user; `partitions` of the users' events.
        """
        if not len(readout):
            return []
        log_odds, contributions = self.weigh(readout, ages)
        reasons = reasons_of(contributions, facts, standing, today, log_odds, self.effects)
        weighed_most = self._weighed_most(weighed, sequence, contributions, partitions)
        return [Explanation(*both) for both in zip(reasons, weighed_most, strict=True)]

    def contributions(self, readout: NDArray[np.float32], ages: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-odds that each branch adds, float32 `[n, kinds]`; arguments as for `Bundle.score`."""
        return self.weigh(readout, ages)[1]

    def weigh(
        self, readout: NDArray[np.float32], ages: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Log-odds of the score, float64 `[n]`, and what each branch adds to them, as `contributions`."""
        variants, ages_of = [readout], [ages]
        for number, part in enumerate(self._bundle.readout_slices.values()):
            without, never = readout.copy(), ages.copy()
            without[:, part] = 0
            never[:, number] = NEVER_DAYS
            variants.append(without)
            ages_of.append(never)
        scores = self._bundle.score(np.concatenate(variants), np.concatenate(ages_of))
        probability = scores[:, self._bundle.headline].astype(np.float64)
        probability = np.clip(probability, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
        log_odds = np.log(probability / (1 - probability)).reshape(len(variants), len(readout))
        return log_odds[0], np.asarray((log_odds[0] - log_odds[1:]).T, dtype=np.float32)

    def _weighed_most(
        self,
        weighed: Rows,
        sequence: NDArray[np.int64],
        contributions: NDArray[np.float32],
        partitions: Sequence[int],
    ) -> list[list[WeighedEvent]]:
        """Each user's recent events with the largest weight: attention times contribution.

        Among equal weights the latest events come first: a model without attention gives all events the same.
        """
        back = (sequence[:, None] - 1 - np.arange(WEIGHED_EVENTS)) % WEIGHED_EVENTS
        latest_first = np.take_along_axis(weighed, back, axis=1)
        kind, logit = latest_first["kind"], latest_first["attention"].astype(np.float64)
        counts = (latest_first["occurred_ms"] != NO_TIME) & (kind != _PROFILES)
        share = np.zeros(kind.shape)
        for kind_no in range(len(KINDS)):
            of_kind = counts & (kind == kind_no)
            most = np.max(logit, axis=1, where=of_kind, initial=-np.inf, keepdims=True)
            odds = np.exp(logit - most, where=of_kind, out=np.zeros(kind.shape))
            np.divide(odds, odds.sum(axis=1, keepdims=True), where=of_kind, out=share)
        share = share.round(WEIGHT_DECIMALS)
        weight = share * np.maximum(np.take_along_axis(contributions, kind, axis=1), 0)
        order = np.argsort(-weight, axis=1, kind="stable")[:, :NAMED_EVENTS]
        return [
            [
                WeighedEvent(
                    topic=self._inputs[event["kind"]],
                    partition=partition,
                    offset=int(event["offset"]),
                    occurred_at=moment_of(int(event["occurred_ms"])),
                    weight=float(share[number, at]),
                )
                for at in order[number].tolist()
                if weight[number, at] > 0
                for event in (latest_first[number, at],)
            ]
            for number, partition in enumerate(partitions)
        ]
