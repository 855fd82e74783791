"""How a data set says how its model is best trained, and who does as it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.architectures import Architecture
from model.bundle import Bundle
from model.comparison.served import Served
from model.datasets.dataset import Dataset
from model.datasets.recipe import Recipe, recipe_of
from model.training.train import train
from model.training.trainer import Schedule

RECIPE = Recipe(rate_decay="cosine", compare_by="last", weight_decay=1e-5, wide=True, readout_dropout=0.2)


@pytest.fixture
def particular(sessions: Callable[..., Any]) -> Any:
    dataset = sessions()
    dataset.recipe = RECIPE
    return dataset


def test_without_a_recipe_nothing_changes(sessions: Callable[..., Dataset]) -> None:
    recipe = recipe_of(sessions())
    assert recipe.as_settings() == {}
    assert Schedule(epochs=3).following(recipe) == Schedule(epochs=3)
    assert recipe.shaped(Architecture()) == Architecture()


def test_a_recipe_decides_what_was_not_asked_for(particular: Dataset) -> None:
    recipe = recipe_of(particular)
    applied = Schedule(epochs=3, batch_users=5).following(recipe)
    assert (applied.rate_decay, applied.compare_by, applied.weight_decay) == ("cosine", "last", 1e-5)
    assert (applied.epochs, applied.batch_users) == (3, 5)
    assert Schedule(weight_decay=1e-3).following(recipe).weight_decay == 1e-3
    assert recipe.as_settings() == {
        "rate_decay": "cosine",
        "compare_by": "last",
        "weight_decay": 1e-5,
        "wide": True,
        "readout_dropout": 0.2,
    }
    shaped = recipe.shaped(Architecture(readout_dropout=0.5))
    assert shaped.wide
    assert shaped.readout_dropout == 0.5


def test_training_does_as_the_data_set_says(particular: Dataset, small: Architecture, tmp_path: Path) -> None:
    metrics = train(particular, tmp_path / "bundle", epochs=2, architecture=small, progress=False)
    schedule = metrics["options"]["schedule"]
    assert (schedule["rate_decay"], schedule["compare_by"]) == ("cosine", "last")
    assert Bundle.load(tmp_path / "bundle").manifest.architecture["wide"] is True


def test_the_comparison_tells_recipes_apart(particular: Dataset, sessions: Callable[..., Dataset]) -> None:
    served = Served("small", Architecture(), epochs=1)

    class Posed:
        def __init__(self, dataset: Dataset) -> None:
            self.dataset = dataset

    usual: Any = Posed(sessions())
    recipe: Any = Posed(particular)
    assert served.settings_on(usual) == {}
    assert served.settings_on(recipe) == RECIPE.as_settings()
