"""One user's score from their events alone: by the scorer of the workers, over rows of its own, which are then let go.

What comes of the same events, in the same order and from the same places, is what a worker publishes, byte for byte.
Pure: no I/O and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.bundle import Bundle
from stream.alerts.policy import AlertPolicy
from stream.outputs import DeadLetter, Explanation
from stream.portfolio import PortfolioRules
from stream.scoring.intake import Taken
from stream.scoring.scorer import Scorer
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.topics import Topics

EVENTS_AT_ONCE = 1_000
"""Events are scored in pieces, so that a long history takes no more memory than a short one."""


@dataclass(frozen=True)
class Prediction:
    """What a user's events come to.

    `score` and `alert` are the JSON of the last records that a worker publishes of them (`stream.outputs`), `alert`
    None where none ever opened. `explanation` is of the last score. `refused` are events that were not scored.
    """

    score: bytes
    alert: bytes | None
    explanation: Explanation
    scored: int
    refused: list[DeadLetter]


class Predictor:
    """Predicts by one bundle under one alert policy. May be used by several threads at once."""

    def __init__(self, bundle: Bundle, policy: AlertPolicy, topics: Topics, rules: PortfolioRules) -> None:
        self.bundle = bundle
        self._policy = policy
        self._topics = topics
        self._rules = rules
        self._blank = blank_row(row_dtype(bundle.state_width), bundle.fingerprint)

    def predict(self, taken: Sequence[Taken]) -> Prediction | None:
        """What one user's events come to, given in the order in which they are applied; None where none was scored."""
        slab = Slab(self._blank, capacity=1)
        scorer = Scorer(self.bundle, self._policy, slab, self._topics, rules=self._rules)
        score: bytes | None = None
        alert: bytes | None = None
        count, refused = 0, list[DeadLetter]()
        for begin in range(0, len(taken), EVENTS_AT_ONCE):
            scored = scorer.score(taken[begin : begin + EVENTS_AT_ONCE])
            for values in scored.scores.values():
                score = values[-1][1]
            for values in scored.alerts.values():
                alert = values[-1][1]
            count += scored.counts["scored"]
            refused += scored.dead_letters
        if score is None:
            return None
        located = slab.locate(taken[0].partition, [taken[0].key])
        return Prediction(score, alert, scorer.explanations(located)[0], count, refused)
