"""Autoencoder: the reconstruction error of a network trained only on rows that no default followed.

Labels are used only to choose the training rows, so the score is a measure of anomaly, not a probability.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.baselines.challenger import Lesson, Tabular
from model.baselines.dense import Dense
from model.baselines.timeline import Floats

HIDDEN, CODE = 64, 12


class Autoencoder(Tabular):
    """Inputs to 64, 12 and back; the score is the mean squared error over the inputs."""

    name = "autoencoder"
    is_probability = False

    def _learn(self, lesson: Lesson) -> None:
        import torch
        from torch.nn import Linear, ReLU, Sequential

        from model.baselines.fitting import Schedule, fit_network, one_thread

        self._dense = Dense.of(lesson.train)
        steady = torch.from_numpy(self._dense.inputs(lesson.train.values[~lesson.happened]))
        validation = torch.from_numpy(self._dense.inputs(lesson.validation.values[~lesson.validation_happened]))
        width = self._dense.width
        torch.manual_seed(lesson.seed)
        self._network = network = Sequential(
            Linear(width, HIDDEN), ReLU(), Linear(HIDDEN, CODE), ReLU(), Linear(CODE, HIDDEN), ReLU(),
            Linear(HIDDEN, width),
        )  # fmt: skip

        def loss(positions: NDArray[np.int64]) -> torch.Tensor:
            rows = steady[positions]
            return torch.nn.functional.mse_loss(network(rows), rows)

        def validate() -> float:
            return -float(torch.nn.functional.mse_loss(network(validation), validation))

        with one_thread():
            fit_network(network, loss, validate, len(steady), Schedule(), lesson.seed, lesson.progress, self.name)

    def _logits(self, values: NDArray[np.float32]) -> Floats:
        from model.baselines.fitting import outputs_of

        inputs = self._dense.inputs(values)
        errors: Floats = ((outputs_of(self._network, inputs) - inputs) ** 2).mean(axis=1, dtype=np.float64)
        return errors
