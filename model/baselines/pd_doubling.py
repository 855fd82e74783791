"""The PD-doubling rule: a probability of default (PD) twice the one at origination, a common definition of the
significant increase in credit risk of IFRS 9.
"""

from __future__ import annotations

import numpy as np

from model.baselines.challenger import Lesson
from model.baselines.logistic import Logistic
from model.baselines.timeline import Floats, Ints
from model.baselines.windows import window_features
from model.histories.sequences import Sequences

LEAST_REFERENCE = 1e-4


class PdDoubling(Logistic):
    """The score is today's PD over the reference, so the rule alone alerts at `alert_at`.

    Today's PD is the logistic regression's, at the headline horizon. The reference is the profile's origination PD,
    brought to the same horizon by one factor, defaults over the sum of origination PDs among training rows; where a
    profile has none, the training part's rate of defaults.
    """

    name = "pd-doubling"
    is_probability = False
    alert_at = 2.0

    def _learn(self, lesson: Lesson) -> None:
        super()._learn(lesson)
        self._column = lesson.train.names.index("profile_origination_pd")
        at_origination = lesson.train.values[:, self._column].astype(np.float64)
        known = ~np.isnan(at_origination)
        self._rate = float(lesson.happened.mean())
        total = float(at_origination[known].sum())
        self._factor = float(lesson.happened[known].sum()) / total if total > 0 else 1.0

    def score_rows(self, sequences: Sequences, rows: Ints) -> Floats:
        values = window_features(sequences, rows).values
        reference = values[:, self._column].astype(np.float64) * self._factor
        reference = np.maximum(np.where(np.isnan(reference), self._rate, reference), LEAST_REFERENCE)
        return self._platt.probability(self._logits(values)) / reference
