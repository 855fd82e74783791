"""Logistic regression on window features, the usual form of a score card."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from model.baselines.challenger import Lesson, Platt, Tabular
from model.baselines.dense import Dense
from model.baselines.timeline import Floats
from model.statistics.metrics import roc_auc

INVERSE_PENALTIES = (3e-4, 3e-3, 3e-2)
"""Inverse strengths of the L2 penalty to choose from, by validation AUC."""
MOST_ITERATIONS = 200


class Logistic(Tabular):
    """L2-penalised logistic regression on `Dense` inputs."""

    name = "logistic-regression"

    def _learn(self, lesson: Lesson) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        self._dense = Dense.of(lesson.train)
        train, validation = self._dense.inputs(lesson.train.values), self._dense.inputs(lesson.validation.values)
        task = lesson.progress.add_task(f"{self.name}: penalties", total=len(INVERSE_PENALTIES))
        best = -np.inf
        for inverse in INVERSE_PENALTIES:
            model = LogisticRegression(C=inverse, max_iter=MOST_ITERATIONS)
            with warnings.catch_warnings():
                # A fit that is stopped early is slightly more regularised; validation chooses among all fits.
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(train, lesson.happened)
            weights, intercept = model.coef_[0].astype(np.float64), float(model.intercept_[0])
            found = roc_auc(lesson.validation_happened, validation @ weights) or 0.5
            if found > best:
                best, self._weights, self._intercept = found, weights, intercept
            lesson.progress.advance(task)
        self._platt = Platt.fit(validation @ self._weights + self._intercept, lesson.validation_happened)

    def _logits(self, values: NDArray[np.float32]) -> Floats:
        logits: Floats = self._dense.inputs(values) @ self._weights + self._intercept
        return logits
