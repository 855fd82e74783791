"""How long a comparison takes, from what is known before and while it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.comparison.forecast import COSTS, REFERENCE_EPOCHS, Forecast, duration, expected_seconds, slowness
from model.comparison.problem import Problem
from model.comparison.roster import roster


def test_every_candidate_has_a_cost() -> None:
    assert set(roster("simulator", 1)) == set(COSTS)


def test_epochs_and_events_cost_what_they_are(problem: Problem) -> None:
    once, twice = (expected_seconds("gru-attention", problem, epochs) for epochs in (10, 20))
    assert twice - once == pytest.approx(once - COSTS["gru-attention"].base)
    assert expected_seconds("mlp", problem, 10) == expected_seconds("mlp", problem, 20)
    train = problem.parts.train
    half = replace(problem, parts=replace(problem.parts, train=replace(train, counts=train.counts // 2)))
    assert expected_seconds("mlp", half, 10) < expected_seconds("mlp", problem, 10)
    assert expected_seconds("one of a later version", problem, 10) > 0


def test_what_was_taken_corrects_what_is_left(problem: Problem) -> None:
    trials = [(name, problem) for name in ("lightgbm", "lightgbm", "lstm-attention", "gru-attention")]
    forecast = Forecast.of(trials, REFERENCE_EPOCHS, slowness=2.0)
    first = expected_seconds("lightgbm", problem, REFERENCE_EPOCHS)
    whole = sum(expected_seconds(name, problem, REFERENCE_EPOCHS) for name, _ in trials)
    assert forecast.seconds == pytest.approx(2.0 * whole)
    assert forecast.line().startswith("4 trials to run, about ")
    forecast.ended(0.5 * first)
    assert forecast.seconds == pytest.approx(0.5 * (whole - first))
    for _ in range(2):
        forecast.ended(1.0)
    assert forecast.line().startswith("1 trial to run, about ")
    forecast.ended(1.0)
    assert forecast.seconds == 0


def test_a_trial_of_a_moment_says_nothing_of_the_others(problem: Problem) -> None:
    forecast = Forecast.of([("3-sigma", problem), ("lightgbm", problem)], 1, slowness=3.0)
    forecast.ended(0.001)
    assert forecast.seconds == pytest.approx(3.0 * expected_seconds("lightgbm", problem, 1))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "about 10 seconds"),
        (44, "about 40 seconds"),
        (91, "about 2 minutes"),
        (1_790, "about 30 minutes"),
        (5_500, "about 1 h 30 min"),
        (19_500, "about 5 h 20 min"),
    ],
)
def test_durations_are_rough(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_this_machine_is_not_far_from_any_other() -> None:
    assert 0.05 < slowness() < 50
