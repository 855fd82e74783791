"""Contributions are what the score loses without a branch, and the events named are the user's recent ones."""

from __future__ import annotations

import functools

import numpy as np

from events.types import KINDS
from model.bundle import Bundle
from stream.scoring.explanation import Explainer
from stream.settings import PRETRAINED_BUNDLE
from stream.topics import Topics


@functools.cache
def bundle() -> Bundle:
    return Bundle.load(PRETRAINED_BUNDLE)


def log_odds(readout: np.ndarray, ages: np.ndarray) -> np.ndarray:
    probability = bundle().score(readout, ages)[:, bundle().headline].astype(np.float64)
    return np.log(probability / (1 - probability))


def test_a_branch_contributes_what_its_removal_takes_away() -> None:
    readout = np.random.default_rng(0).normal(size=(7, bundle().readout_width)).astype(np.float32)
    ages = np.random.default_rng(1).exponential(20.0, (7, len(KINDS))).astype(np.float32)
    found = Explainer(bundle(), Topics()).contributions(readout, ages)
    assert found.shape == (7, len(KINDS))
    for number, part in enumerate(bundle().readout_slices.values()):
        without, never = readout.copy(), ages.copy()
        without[:, part] = 0
        never[:, number] = -1
        assert np.allclose(found[:, number], log_odds(readout, ages) - log_odds(without, never), atol=1e-4)


def test_a_branch_that_says_nothing_contributes_nothing() -> None:
    readout = np.zeros((1, bundle().readout_width), dtype=np.float32)
    never = np.full((1, len(KINDS)), -1, dtype=np.float32)
    found = Explainer(bundle(), Topics()).contributions(readout, never)
    assert np.array_equal(found, np.zeros((1, len(KINDS)), np.float32))
