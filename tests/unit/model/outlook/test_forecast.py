"""The encoder–decoder sees the past alone and learns what a mean would not say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.evaluation.evaluate import progress_bars
from model.histories.labels import NEVER_MS
from model.outlook.cases import PERIOD_MS, Presence
from model.outlook.forecast import (
    FUTURE_PERIODS,
    PAST_PERIODS,
    CaseForecast,
    EncoderDecoder,
    draw_examples,
    encoded,
    fit_forecast,
)

PERIODS = 80


def a_history(seed: int, users: int, rate: float = 0.01) -> Presence:
    """Users all there from the start; defaults at a constant rate a period."""
    random = np.random.default_rng(seed)
    default_date_ms = random.exponential(PERIOD_MS / rate, users).astype(np.int64)
    end = PERIODS * PERIOD_MS
    return Presence(
        np.zeros(users, np.int64), np.full(users, end), np.where(default_date_ms < end, default_date_ms, NEVER_MS)
    )


def test_only_the_past_is_encoded() -> None:
    history = a_history(1, 2_000)
    at_ms = 40 * PERIOD_MS
    past, season = encoded(history, at_ms)
    assert past.shape == (PAST_PERIODS, 3)
    assert season.shape == (FUTURE_PERIODS, 2)
    blind, _ = encoded(history.known_at(at_ms), at_ms)
    assert np.array_equal(past, blind)
    assert past[:, 0].mean() == pytest.approx(10, rel=0.15)


def test_examples_count_what_came_after() -> None:
    history = a_history(2, 3_000)
    random = np.random.default_rng(0)
    examples = draw_examples(history, (20 * PERIOD_MS, 60 * PERIOD_MS), 200, random)
    rate = examples.cases.sum() / (examples.at_risk.sum() * FUTURE_PERIODS)
    # Those at risk at the origin become fewer on the way.
    assert float(rate) == pytest.approx(0.01 * 0.957, rel=0.06)
    assert examples.past.shape == (200, PAST_PERIODS, 3)


def test_an_untrained_network_is_near_the_mean_of_the_past() -> None:
    torch.manual_seed(0)
    history = a_history(3, 4_000)
    found = CaseForecast(EncoderDecoder()).expected(history, 40 * PERIOD_MS, 1_000)
    assert found.shape == (FUTURE_PERIODS,)
    assert (found > 0).all()


def test_training_comes_close_to_a_rate_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.outlook.forecast.SAMPLES", 200)
    monkeypatch.setattr("model.outlook.forecast.VALIDATION_SAMPLES", 50)
    monkeypatch.setattr("model.outlook.forecast.EPOCHS", 3)
    history = a_history(4, 4_000)
    with progress_bars(False) as bars:
        forecasts = [fit_forecast(history, PERIODS * PERIOD_MS, bars, seed=5) for _ in range(2)]
    other = a_history(6, 4_000)
    expected, again = (each.expected(other, 50 * PERIOD_MS, 1_000) for each in forecasts)
    assert np.array_equal(expected, again)
    assert expected.sum() == pytest.approx(1_000 * (1 - np.exp(-0.09)), rel=0.2)


def test_a_short_history_is_refused() -> None:
    with progress_bars(False) as bars, pytest.raises(ValueError, match="shorter than 270 days"):
        fit_forecast(a_history(7, 400), 20 * PERIOD_MS, bars)
