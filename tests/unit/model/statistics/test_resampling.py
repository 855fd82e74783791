"""Weighted measures are the plain ones of repeated rows, and intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.statistics.metrics import pr_auc, roc_auc
from model.statistics.resampling import Interval, Ranking, draws, intervals

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=30)


@given(rows=ROWS)
def test_a_weight_is_a_repetition(rows: list[tuple[bool, int, int]]) -> None:
    happened, score, weight = (np.array(column) for column in zip(*rows, strict=True))
    measures = Ranking(happened, score).measures(weight.astype(float))
    repeated = np.repeat(happened, weight), np.repeat(score, weight)
    expected = {"auc": roc_auc(*repeated), "pr_auc": pr_auc(*repeated)}
    for name, value in expected.items():
        assert measures[name] == (None if value is None else pytest.approx(value))
    if measures["ks"] is not None:
        bad, good = (repeated[1][repeated[0] == outcome] for outcome in (True, False))
        steps = np.arange(7)[:, None]
        assert measures["ks"] == pytest.approx(np.abs((bad <= steps).mean(1) - (good <= steps).mean(1)).max())


def test_a_draw_keeps_a_users_rows_together_and_is_the_same_again() -> None:
    users = np.array([3, 9, 3, 3, 7])
    for weights in draws(users, 50):
        assert weights[0] == weights[2] == weights[3]
        assert weights[[0, 1, 4]].sum() == 3
    assert np.array_equal([*draws(users, 3, seed=5)], [*draws(users, 3, seed=5)])


def test_intervals_cover_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(3)
    truth = 0.7602  # AUC of two normals one standard deviation apart
    held = 0
    for _ in range(150):
        happened = np.repeat([True, False], [60, 200])
        score = random.normal(size=260) + happened
        found = intervals(Ranking(happened, score).measures, np.arange(260), resamples=150)["auc"]
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert held / 150 > 0.88


def test_rows_of_few_users_tell_less_than_as_many_users() -> None:
    random = np.random.default_rng(4)
    users = np.repeat(np.arange(30), 10)
    value = np.repeat(random.normal(size=30), 10)

    def mean(weights: np.ndarray | None) -> dict[str, float | None]:
        return {"mean": float(np.average(value, weights=weights))}

    by_user, by_row = (intervals(mean, owner)["mean"] for owner in (users, np.arange(300)))
    assert by_user.high - by_user.low > 2 * (by_row.high - by_row.low)  # type: ignore[operator]


def test_what_is_not_defined_is_none() -> None:
    nothing = intervals(Ranking(np.zeros(0, bool), np.zeros(0)).measures, np.zeros(0, np.int64))
    assert nothing["auc"] == Interval(None, None, None)
    one_sided = intervals(Ranking(np.zeros(5, bool), np.arange(5.0)).measures, np.arange(5))
    assert one_sided == {name: Interval(None, None, None) for name in ("auc", "pr_auc", "ks")}
