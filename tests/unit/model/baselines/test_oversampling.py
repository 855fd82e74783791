"""SMOTE: synthetic defaults lie between defaults of the rows given, and of no others."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.baselines.oversampling import smote


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), ratio=st.floats(0.1, 1.0), default_count=st.integers(2, 15))
def test_synthetic_rows_lie_between_two_given_defaults(seed: int, ratio: float, default_count: int) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(size=(60, 5)).astype(np.float32)
    values[random.random(values.shape) < 0.2] = np.nan
    values[:, 4] = random.integers(1, 4, 60)
    happened = np.arange(60) < default_count
    made = smote(values, happened, [4], ratio, random)
    assert happened[made.base].all()
    assert happened[made.neighbour].all()
    assert (made.base != made.neighbour).all()
    base, neighbour = values[made.base], values[made.neighbour]
    low, high = np.fmin(base, neighbour), np.fmax(base, neighbour)
    either = np.isnan(base) | np.isnan(neighbour)
    assert ((made.synthetic >= low - 1e-5) & (made.synthetic <= high + 1e-5))[~either].all()
    np.testing.assert_array_equal(made.synthetic[either], base[either])
    np.testing.assert_array_equal(made.synthetic[:, 4], base[:, 4])
    appended, outcome = made.appended()
    np.testing.assert_array_equal(appended[:60], values)
    assert outcome.sum() == max(round(ratio * (60 - default_count)), default_count)


def test_enough_defaults_or_a_single_one_make_none() -> None:
    values = np.zeros((10, 2), dtype=np.float32)
    for default_count in (1, 5):
        made = smote(values, np.arange(10) < default_count, [], 0.2, np.random.default_rng(0))
        assert len(made.synthetic) == 0
        assert len(made.appended()[0]) == 10
