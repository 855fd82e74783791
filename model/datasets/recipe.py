"""Recipes: training choices of a data set that differ from the default options. The data set itself states them.

Serving does not need them. Needs no torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from model.architectures import Architecture
from model.datasets.dataset import Dataset

RateDecay: TypeAlias = Literal["constant", "cosine"]
Criterion: TypeAlias = Literal["auc", "loss", "last"]


@dataclass(frozen=True)
class Recipe:
    """Fields as in `model.training.trainer.Schedule` and `model.architectures.Architecture`.

    `weight_decay` and `readout_dropout` apply unless the training run sets them.
    """

    rate_decay: RateDecay = "constant"
    compare_by: Criterion = "auc"
    weight_decay: float = 0.0
    wide: bool = False
    readout_dropout: float = 0.0

    def shaped(self, architecture: Architecture) -> Architecture:
        """The network with these choices; whatever its family and sizes."""
        return replace(
            architecture,
            wide=architecture.wide or self.wide,
            readout_dropout=architecture.readout_dropout or self.readout_dropout,
        )

    def as_settings(self) -> dict[str, Any]:
        """The choices that differ from a recipe without choices, as plain values, so that settings without a recipe
        stay as they were."""
        usual = asdict(Recipe())
        return {name: value for name, value in asdict(self).items() if value != usual[name]}


@runtime_checkable
class NamesRecipe(Protocol):
    """A data set that says how its model is best trained."""

    @property
    def recipe(self) -> Recipe:
        """Chosen on validation parts; the source's definition says why."""
        ...


def recipe_of(dataset: Dataset) -> Recipe:
    """The data set's recipe, the defaults where it names none."""
    return dataset.recipe if isinstance(dataset, NamesRecipe) else Recipe()
