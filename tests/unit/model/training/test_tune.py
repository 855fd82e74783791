"""A search that is stopped goes on as if it had not been, within its bounds, and never sees the test part."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foreshock import app
from model.architectures import Architecture
from model.datasets.dataset import Dataset, Outcome
from model.training.preparation import TrainingError
from model.training.tune import Tuned, tune


@pytest.fixture
def search(sessions: Callable[..., Dataset], small: Architecture, tmp_path: Path) -> Callable[..., Tuned]:
    def run(name: str = "study", dataset: Dataset | None = None, **options: Any) -> Tuned:
        given = {"trials": 3, "minutes": 10.0, "epochs": 1, "architecture": small, "progress": False} | options
        arguments = ["--source", "simulator"]
        return tune(dataset or sessions(40), tmp_path / f"{name}.db", train_arguments=arguments, **given)

    return run


def test_a_search_gone_on_with_finds_what_an_uninterrupted_one_finds(search: Callable[..., Tuned]) -> None:
    whole = search("whole", trials=3)
    assert [trial.state for trial in whole.trials] == ["complete"] * 3
    assert search("parts", trials=1).trials == whole.trials[:1]
    assert search("parts", trials=3) == whole
    best = max(whole.trials, key=lambda trial: trial.validation_auc or 0)
    assert (whole.validation_auc, whole.options) == (best.validation_auc, best.options)
    assert search("other", trials=1, seed=2).trials[0].options != whole.trials[0].options


def test_the_best_options_are_a_command_that_train_takes(search: Callable[..., Tuned]) -> None:
    words = shlex.split(search(trials=1).command)
    assert words[:4] == ["foreshock", "train", "--source", "simulator"]
    shown = CliRunner().invoke(app, ["train", "--help"], terminal_width=200).output
    assert all(word in shown for word in words if word.startswith("--"))


def test_time_bounds_a_search(search: Callable[..., Tuned]) -> None:
    moments = iter(range(0, 10_000, 40))
    found = search(trials=50, minutes=2.0, clock_s=lambda: float(next(moments)))
    assert 1 <= len(found.trials) <= 2
    with pytest.raises(TrainingError, match="no trial was finished"):
        search("late", minutes=0.0)


class Altered:
    """Other outcomes for the test share."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.name, self.headline_horizon_days = dataset.name, dataset.headline_horizon_days
        self.events, self.held_out = dataset.events, dataset.held_out

    def outcomes(self) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = self._dataset.outcomes()
        return {
            user: replace(outcome, default_date_ms=None) if self.held_out(user) else outcome
            for user, outcome in outcomes.items()
        }


def test_the_test_part_plays_no_role(search: Callable[..., Tuned], sessions: Callable[..., Dataset]) -> None:
    assert search("one", trials=1) == search("other", Altered(sessions(40)), trials=1)


def test_a_study_of_other_settings_is_refused(search: Callable[..., Tuned]) -> None:
    search(trials=1)
    with pytest.raises(TrainingError, match=r"study of other settings \(epochs\)"):
        search(epochs=2)
