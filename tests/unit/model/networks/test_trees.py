"""Trees go the way that LightGBM's go."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.networks.trees import Trees, not_above, used_features


def booster(missing: bool, seed: int = 0) -> tuple[lightgbm.Booster, np.ndarray]:
    random = np.random.default_rng(seed)
    values = random.normal(size=(2_000, 6)).astype(np.float32)
    if missing:
        values[random.random(values.shape) < 0.2] = np.nan
    happened = np.nan_to_num(values[:, 0]) + np.nan_to_num(values[:, 3]) ** 2 + random.normal(size=2_000) > 1
    params = {"objective": "binary", "verbosity": -1, "num_leaves": 12, "num_threads": 1, "feature_fraction": 0.6}
    return lightgbm.train(params, lightgbm.Dataset(values, happened.astype(float)), 20), values


@pytest.mark.parametrize("missing", [True, False])
def test_the_sum_is_that_of_lightgbm(missing: bool) -> None:
    fitted, values = booster(missing)
    trees = Trees.of(fitted).double()
    # Values that training has not seen, and thresholds themselves as float32, where a wrong rounding would show.
    edges = trees.threshold.flatten().numpy().astype(np.float32)
    random = np.random.default_rng(1)
    more = np.where(random.random((500, 6)) < 0.5, random.choice(edges, (500, 6)), random.normal(size=(500, 6)))
    more[random.random(more.shape) < 0.1] = np.nan
    asked = np.concatenate([values, more.astype(np.float32)])
    expected = fitted.predict(asked, raw_score=True, num_threads=1)
    found = trees(torch.from_numpy(asked).double()).numpy()[:, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_the_mean_of_several_is_the_mean_of_what_each_says() -> None:
    members = [booster(missing, seed) for missing, seed in ((True, 0), (False, 1), (True, 2))]
    values = members[0][1]
    joined = Trees.mean([Trees.of(fitted) for fitted, _ in members]).double()
    assert joined.shape[0] == 60
    expected = np.mean([fitted.predict(values, raw_score=True, num_threads=1) for fitted, _ in members], axis=0)
    np.testing.assert_allclose(joined(torch.from_numpy(values).double()).numpy()[:, 0], expected, rtol=0, atol=1e-6)


def test_used_features_are_those_of_the_splits() -> None:
    fitted, _ = booster(True)
    expected = np.flatnonzero(fitted.feature_importance("split"))
    assert used_features(Trees.of(fitted)).tolist() == expected.tolist()


@given(st.floats(-1e38, 1e38))
def test_a_threshold_is_never_raised(threshold: float) -> None:
    found = not_above(threshold)
    assert float(found) <= threshold
    assert float(np.nextafter(found, np.float32(np.inf))) > threshold


def test_categorical_splits_are_refused() -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 6, (500, 1)).astype(np.float64)
    data = lightgbm.Dataset(codes, np.isin(codes[:, 0], [1, 4]).astype(float), categorical_feature=[0])
    fitted = lightgbm.train({"objective": "binary", "verbosity": -1, "min_data_per_group": 1}, data, 2)
    with pytest.raises(ValueError, match="expected <="):
        Trees.of(fitted)
