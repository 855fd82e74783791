"""Why a score is high: what each branch of the model adds, and which recent events drew its attention. Pure.

The contribution of a branch is the log-odds of the score minus the log-odds with the branch's readout at zero and
its age at "never", which is what the model reads of a user of whom it knows nothing on that side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from events.columns import NEVER_DAYS
from events.types import KINDS
from model.bundle import Bundle
from stream.effects import Effects
from stream.outputs import WeighedEvent
from stream.publication import Explanation, moment_of
from stream.reasons import reasons_of
from stream.state import NO_TIME, WEIGHED_EVENTS, Rows
from stream.topics import Topics

NAMED_EVENTS = 4
"""How many of the events that weighed most an alert names."""

WEIGHT_DECIMALS = 6
"""Weights that agree to so many decimals are the same: what is beyond is rounding."""

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
        weighed: Rows,
        sequence: NDArray[np.int64],
        partitions: Sequence[int],
    ) -> list[Explanation]:
        """Explanations of `n` scores, right after the event of each.

        `readout` float32 `[n, readout_width]` and `ages` float32 `[n, kinds]` as for `Bundle.score`; `facts` FACTS
        `[n]`; `weighed` `[n, WEIGHED_EVENTS]`, the rings of the rows; `sequence` int64 `[n]`, scored events of each
        user; `partitions`, where the users' events are.
        """
        if not len(readout):
            return []
        log_odds, contributions = self.weigh(readout, ages)
        reasons = reasons_of(contributions, facts, log_odds, self.effects)
        explained = []
        for number, partition in enumerate(partitions):
            recent = np.roll(weighed[number], -(int(sequence[number]) % WEIGHED_EVENTS))
            weighed_most = self._weighed_most(recent, partition, contributions[number])
            explained.append(Explanation(reasons[number], weighed_most))
        return explained

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

    def _weighed_most(self, recent: Rows, partition: int, contribution: NDArray[np.float32]) -> list[WeighedEvent]:
        """Of a user's recent events, oldest first, those that weighed most: attention times contribution.

        Of those that weigh the same the latest come first, which matters where a model attends to all alike.
        """
        recent = recent[(recent["occurred_ms"] != NO_TIME) & (recent["kind"] != _PROFILES)]
        share = np.zeros(len(recent))
        for kind_no in np.unique(recent["kind"]):
            of_kind = recent["kind"] == kind_no
            logits = recent["attention"][of_kind].astype(np.float64)
            odds = np.exp(logits - logits.max())
            share[of_kind] = odds / odds.sum()
        weight = share * np.maximum(contribution[recent["kind"]], 0)
        return [
            WeighedEvent(
                topic=self._inputs[int(recent["kind"][at])],
                partition=partition,
                offset=int(recent["offset"][at]),
                occurred_at=moment_of(int(recent["occurred_ms"][at])),
                weight=float(share[at]),
            )
            for at in np.lexsort((-np.arange(len(weight)), -weight.round(WEIGHT_DECIMALS)))[:NAMED_EVENTS]
            if weight[at] > 0
        ]
