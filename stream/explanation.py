"""Why a score is high: what each branch of the model adds, and which recent events drew its attention. Pure.

The contribution of a branch is the log-odds of the score minus the log-odds with the branch's readout at zero, which is
what the model reads of a user of whom it knows nothing on that side.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from events.types import KINDS
from model.bundle import Bundle
from stream.effects import Effects
from stream.outputs import WeighedEvent
from stream.publication import Explanation, Moment, moment_of
from stream.reasons import reasons_of
from stream.state import NO_TIME, WEIGHED_EVENT, WEIGHED_EVENTS, Rows
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
        self, moment: Moment, positions: NDArray[np.int64], user: NDArray[np.int64], weighed_before: Rows
    ) -> Mapping[int, Explanation]:
        """Explanations by position, for the events of a batch at `positions`.

        `user` int64 `[n]` tells the batch's users apart; `weighed_before` `[len(positions), WEIGHED_EVENTS]` are the
        users' weighed events before the batch.
        """
        if not positions.size:
            return {}
        log_odds, contributions = self.weigh(moment.readout[positions])
        reasons = reasons_of(contributions, moment.facts[positions], log_odds, self.effects)
        return {
            int(position): Explanation(
                reasons[number],
                self._weighed_most(moment, int(position), user, weighed_before[number], contributions[number]),
            )
            for number, position in enumerate(positions)
        }

    def contributions(self, readout: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-odds that each branch adds, float32 `[n, kinds]`, from readouts `[n, readout_width]`."""
        return self.weigh(readout)[1]

    def weigh(self, readout: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Log-odds of the score, float64 `[n]`, and what each branch adds to them, as `contributions`."""
        variants = [readout]
        for part in self._bundle.readout_slices.values():
            without = readout.copy()
            without[:, part] = 0
            variants.append(without)
        probability = self._bundle.score(np.concatenate(variants))[:, self._bundle.headline].astype(np.float64)
        probability = np.clip(probability, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
        log_odds = np.log(probability / (1 - probability)).reshape(len(variants), len(readout))
        return log_odds[0], np.asarray((log_odds[0] - log_odds[1:]).T, dtype=np.float32)

    def _weighed_most(
        self, moment: Moment, position: int, user: NDArray[np.int64], before: Rows, contribution: NDArray[np.float32]
    ) -> list[WeighedEvent]:
        """The user's recent events, up to the one at `position`, that weighed most: attention times contribution.

        Of those that weigh the same the latest come first, which matters where a model attends to all alike.
        """
        in_batch = np.flatnonzero(user[: position + 1] == user[position])[-WEIGHED_EVENTS:]
        first_sequence = int(moment.sequence[in_batch[0]]) - 1
        ring = np.roll(before, -(first_sequence % WEIGHED_EVENTS))
        news = np.array(
            [
                (moment.taken[at].occurred_ms, moment.taken[at].offset, moment.attention[at], moment.taken[at].kind_no)
                for at in in_batch
            ],
            dtype=WEIGHED_EVENT,
        )
        recent = np.concatenate((ring, news))[-WEIGHED_EVENTS:]
        recent = recent[(recent["occurred_ms"] != NO_TIME) & (recent["kind"] != _PROFILES)]
        share = np.zeros(len(recent))
        for kind_no in np.unique(recent["kind"]):
            of_kind = recent["kind"] == kind_no
            logits = recent["attention"][of_kind].astype(np.float64)
            odds = np.exp(logits - logits.max())
            share[of_kind] = odds / odds.sum()
        weight = share * np.maximum(contribution[recent["kind"]], 0)
        partition = moment.taken[position].partition
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
