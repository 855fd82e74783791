from __future__ import annotations

import numpy as np
import pytest

from model.histories.labels import Targets
from model.training.calibration import LEAST_DEFAULTS, fit_calibration


def _examples(slope: float, intercept: float, events: int, seed: int = 0) -> tuple[np.ndarray, Targets]:
    """Logits that are wrong by a known slope and intercept, with half of the intervals observed in part."""
    random = np.random.default_rng(seed)
    logits = random.normal(-2, 1.5, events)
    hazard = 1 / (1 + np.exp(-(slope * logits + intercept)))
    observed_share = np.where(random.random(events) < 0.5, 1.0, random.uniform(0, 1, events))
    happened = random.random(events) < 1 - (1 - hazard) ** observed_share
    return logits[:, None].astype(np.float32), Targets(observed_share[:, None].astype(np.float32), happened[:, None])


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.6, -1.0), (1.5, 0.7)])
def test_it_finds_the_slope_and_intercept(slope: float, intercept: float) -> None:
    found = fit_calibration(*_examples(slope, intercept, 60_000))
    assert found.slope[0] == pytest.approx(slope, rel=0.06)
    assert found.intercept[0] == pytest.approx(intercept, abs=0.08)


def test_few_defaults_move_the_intercept_alone() -> None:
    logits, found = _examples(1.0, -4.5, 400, seed=2)
    assert 0 < found.happened.sum() < LEAST_DEFAULTS
    calibration = fit_calibration(logits, found)
    assert calibration.slope == [1.0]
    assert calibration.intercept[0] < -2


def test_no_default_changes_nothing() -> None:
    logits, found = _examples(1.0, 0.0, 100)
    nothing = Targets(found.observed_share, np.zeros_like(found.happened))
    calibration = fit_calibration(logits, nothing)
    assert (calibration.slope, calibration.intercept) == ([1.0], [0.0])
