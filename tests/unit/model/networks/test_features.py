from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from events.columns import COLUMNS
from events.types import KINDS, Kind
from model.networks.features import RATIO_LIMIT, Features


def _rows(kind: Kind, rows: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.normal(0, 500, size=(rows, len(COLUMNS[kind].numeric_inputs)))
    values[random.random(values.shape) < 0.25] = np.nan
    values[:, -2:] = random.integers(1, 31, size=(rows, 2))
    return values.astype(np.float32)


def _features(kind: Kind, *, seasonal: bool = True) -> Features:
    features = Features(kind, [3] * len(COLUMNS[kind].categorical))
    features.set_bounds(_rows(kind, 2_000, 99), 0.01, seasonal=seasonal)
    return features.eval()


def _norms(features: Features, rows: int) -> list[torch.Tensor]:
    return [torch.zeros(rows, width) for width in features.norms_sizes]


def _step(features: Features, numeric: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Features of a first event."""
    return torch.cat(features.step(numeric, codes, _norms(features, len(numeric)))[0], 1)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=20)
@given(events=st.integers(1, 60), seed=st.integers(0, 1_000))
def test_stepping_gives_the_features_of_the_sequence(kind: Kind, events: int, seed: int) -> None:
    features = _features(kind)
    numeric = torch.from_numpy(_rows(kind, events, seed))
    codes = torch.from_numpy(np.random.default_rng(seed).integers(0, 5, (events, len(COLUMNS[kind].categorical))))
    with torch.no_grad():
        whole = features.sequence(numeric[None], codes[None])[0]
        norms = _norms(features, 1)
        for row in range(events):
            parts, norms = features.step(numeric[row : row + 1], codes[row : row + 1], norms)
            one = torch.cat(parts, 1)
            assert one.shape == (1, features.width)
            torch.testing.assert_close(one[0], whole[row], rtol=0, atol=2e-6)


def test_missing_is_zero_with_a_flag_and_not_the_value_zero() -> None:
    features = _features("transactions")
    names = COLUMNS["transactions"].numeric_inputs
    missing = torch.zeros(1, len(names))
    missing[0, names.index("balance_after")] = float("nan")
    zero = torch.zeros(1, len(names))
    codes = torch.zeros(1, 3, dtype=torch.int64)
    first, second = _step(features, missing, codes), _step(features, zero, codes)
    position = features.plan.logarithms.index("balance_after")
    assert first[0, position] == 0
    assert second[0, position] != 0
    flag = features.values + names.index("balance_after")
    assert (first[0, flag], second[0, flag]) == (1, 0)


def test_amounts_beyond_the_training_bounds_count_as_the_bound() -> None:
    features = _features("transactions")
    names = COLUMNS["transactions"].numeric_inputs
    position = names.index("amount")
    rows = torch.full((2, len(names)), 5.0)
    rows[0, position] = features.high[position]
    rows[1, position] = 1e12
    values, _ = features.raw_values(rows)
    assert torch.equal(values[0], values[1])


def test_a_ratio_needs_both_sides_and_a_positive_base() -> None:
    features = _features("transactions")
    names = COLUMNS["transactions"].numeric_inputs
    balance, limit = names.index("balance_after"), names.index("credit_limit")
    features.low.fill_(-1e6)
    features.high.fill_(1e6)
    rows = torch.full((4, len(names)), 1.0)
    rows[:, balance] = torch.tensor([50.0, 50.0, 50.0, 5e5])
    rows[:, limit] = torch.tensor([200.0, 0.0, float("nan"), 1.0])
    values, valid = features.raw_values(rows)
    position = len(features.plan.logarithms) + len(features.plan.linears)
    assert valid[:, position].tolist() == [1, 0, 0, 1]
    assert values[0, position] == pytest.approx(0.25)
    assert values[3, position] == RATIO_LIMIT


def test_what_never_varied_in_training_is_silent_in_serving() -> None:
    features = Features("activity", [1])
    rows = _rows("activity", 500, 1)
    rows[:, 0] = 7.0
    rows[:, 1] = np.nan
    features.set_bounds(rows, 0.01, seasonal=True)
    position = features.plan.logarithms.index("count")
    assert features.scale[position] == 0
    assert features.scale[features.plan.logarithms.index("duration_s")] == 0
    changed = torch.from_numpy(rows[:1].copy())
    changed[0, 0] = 1e6
    assert _step(features, changed, torch.zeros(1, 1, dtype=torch.int64))[0, position] == 0


def test_without_seasons_the_day_of_the_year_changes_nothing() -> None:
    features = _features("repayments", seasonal=False)
    rows = torch.from_numpy(_rows("repayments", 1, 3)).repeat(2, 1)
    rows[0, -1], rows[1, -1] = 10, 200
    first, second = _step(features, rows, torch.zeros(2, 1, dtype=torch.int64))
    assert torch.equal(first, second)
