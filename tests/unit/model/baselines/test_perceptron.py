"""A perceptron's score of a row is the same, to the last bit, whatever rows are scored with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.baselines import perceptron
from model.baselines.dense import Dense
from model.baselines.perceptron import Perceptron, _network

WIDTH = 120


@pytest.fixture
def entrant() -> Perceptron:
    torch.manual_seed(1)
    made = Perceptron()
    made._network = _network(WIDTH, 0.2).eval()
    made._dense = Dense(np.arange(WIDTH), np.zeros(WIDTH), np.ones(WIDTH), np.arange(0), {})
    return made


def changed(entrant: Perceptron) -> int:
    values = np.random.default_rng(1).normal(size=(1_000, WIDTH)).astype(np.float32)
    every = entrant._logits(values)
    assert every.shape == (1_000,)
    return sum(bool((entrant._logits(values[:rows]) != every[:rows]).any()) for rows in range(1, 300))


def test_a_score_does_not_depend_on_how_many_are_scored(entrant: Perceptron) -> None:
    assert changed(entrant) == 0


def test_the_rows_left_over_are_why(entrant: Perceptron, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptron, "ROWS_MULTIPLE", 1)
    if not changed(entrant):
        pytest.skip("this build of PyTorch scores left-over rows as it does the others")
