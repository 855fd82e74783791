"""Multilayer perceptron on window features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.baselines.challenger import Lesson, Platt, Tabular
from model.baselines.dense import Dense
from model.baselines.timeline import Floats
from model.statistics.metrics import roc_auc

if TYPE_CHECKING:
    import torch

HIDDEN = (128, 64)
DROPOUT = 0.3


class Perceptron(Tabular):
    """Two hidden layers with ReLU and dropout on `Dense` inputs, cross-entropy, stopped by validation AUC."""

    name = "mlp"

    def _learn(self, lesson: Lesson) -> None:
        import torch

        from model.baselines.fitting import Schedule, fit_network, one_thread

        self._dense = Dense.of(lesson.train)
        train = torch.from_numpy(self._dense.inputs(lesson.train.values))
        happened = torch.from_numpy(lesson.happened.astype(np.float32))
        validation = torch.from_numpy(self._dense.inputs(lesson.validation.values))
        torch.manual_seed(lesson.seed)
        self._network = network = _network(self._dense.width, float(happened.mean()))

        def loss(positions: NDArray[np.int64]) -> torch.Tensor:
            logits = network(train[positions])[:, 0]
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, happened[positions])

        def validate() -> float:
            return roc_auc(lesson.validation_happened, network(validation)[:, 0].numpy()) or 0.5

        with one_thread():
            fit_network(network, loss, validate, len(train), Schedule(), lesson.seed, lesson.progress, self.name)
        self._platt = Platt.fit(self._logits(lesson.validation.values), lesson.validation_happened)

    def _logits(self, values: NDArray[np.float32]) -> Floats:
        from model.baselines.fitting import outputs_of

        logits: Floats = outputs_of(self._network, self._dense.inputs(values))[:, 0].astype(np.float64)
        return logits


def _network(width: int, rate: float) -> torch.nn.Sequential:
    """The network, started at the base rate of defaults."""
    from torch.nn import Dropout, Linear, ReLU, Sequential, init

    output = Linear(HIDDEN[1], 1)
    init.constant_(output.bias, float(np.log(rate / (1 - rate))))
    return Sequential(
        Linear(width, HIDDEN[0]),
        ReLU(),
        Dropout(DROPOUT),
        Linear(HIDDEN[0], HIDDEN[1]),
        ReLU(),
        Dropout(DROPOUT),
        output,
    )
