"""What a network makes of a row is the same, to the last bit, whatever rows go with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.baselines import fitting
from model.baselines.autoencoder import Autoencoder
from model.baselines.challenger import Tabular
from model.baselines.dense import Dense
from model.baselines.perceptron import Perceptron, _network

WIDTH = 120


def perceptron() -> Tabular:
    made = Perceptron()
    made._network = _network(WIDTH, 0.2).eval()
    return made


def autoencoder() -> Tabular:
    made = Autoencoder()
    made._network = torch.nn.Sequential(torch.nn.Linear(WIDTH, 12), torch.nn.ReLU(), torch.nn.Linear(12, WIDTH))
    return made


@pytest.fixture(params=[perceptron, autoencoder])
def candidate(request: pytest.FixtureRequest) -> Tabular:
    torch.manual_seed(1)
    made: Tabular = request.param()
    made._dense = Dense(np.arange(WIDTH), np.zeros(WIDTH), np.ones(WIDTH), np.arange(0), {})
    return made


def changed(candidate: Tabular) -> int:
    values = np.random.default_rng(1).normal(size=(1_000, WIDTH)).astype(np.float32)
    every = candidate._logits(values)
    assert every.shape == (1_000,)
    return sum(bool((candidate._logits(values[:rows]) != every[:rows]).any()) for rows in range(1, 300))


def test_a_score_does_not_depend_on_how_many_are_scored(candidate: Tabular) -> None:
    assert changed(candidate) == 0


def test_the_rows_left_over_are_why(candidate: Tabular, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "ROWS_MULTIPLE", 1)
    if not changed(candidate):
        pytest.skip("this build of PyTorch takes left-over rows as it does the others")
