from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from model.architectures import Architecture
from model.datasets.dataset import Dataset
from model.evaluation.evaluate import progress_bars
from model.networks.boosted import BoostedFusion
from model.networks.pooled import PooledModel
from model.networks.risk_model import RiskModel
from model.training import boosting
from model.training.boosting import add_trees, boost
from model.training.preparation import TrainingError
from model.training.trainer import Schedule, Trainer

MakeTrainer = Callable[..., Trainer]


@pytest.fixture(scope="module")
def trainer(make_trainer: MakeTrainer, sessions: Callable[..., Dataset]) -> Trainer:
    """Of a network that has learnt nothing: what is right afterwards, the trees have learnt."""
    return make_trainer(sessions(users=150), Schedule(epochs=1))


@pytest.fixture(scope="module")
def boosted(trainer: Trainer) -> RiskModel:
    with pytest.MonkeyPatch.context() as patch, progress_bars(False) as bars:
        patch.setattr(boosting, "TRIALS", 4)
        return boost(trainer, 1, bars, most_tallied=6)


def validation_auc(trainer: Trainer, model: RiskModel) -> float:
    asked = Trainer(model, trainer.sequences, trainer.parts, trainer.labels, trainer.schedule, 1, 90, fine_tuning=True)
    found = asked._validation(trainer.parts.validation)["validation_auc"]
    assert found is not None
    return found


def test_trees_learn_what_the_network_has_not(trainer: Trainer, boosted: RiskModel) -> None:
    assert validation_auc(trainer, boosted) > max(0.8, validation_auc(trainer, trainer.model))


def test_the_tally_is_as_small_as_was_asked(boosted: RiskModel) -> None:
    assert 0 < sum(map(len, boosted.architecture.tallies)) <= 6
    fusion = boosted.fusion
    assert isinstance(fusion, BoostedFusion)
    assert boosted.architecture.trees == fusion.trees.shape
    assert fusion.weights.sum(0).tolist() == [1.0] * 4


def test_the_architecture_says_all_that_was_fitted(boosted: RiskModel) -> None:
    read = Architecture.from_manifest(boosted.architecture.as_manifest())
    assert read == boosted.architecture
    again = RiskModel(read, boosted.vocabulary_sizes, boosted.numeric_inputs)
    again.load_state_dict(boosted.state_dict())


def test_equal_seeds_give_equal_trees(trainer: Trainer, boosted: RiskModel) -> None:
    with pytest.MonkeyPatch.context() as patch, progress_bars(False) as bars:
        patch.setattr(boosting, "TRIALS", 4)
        again = boost(trainer, 1, bars, most_tallied=6)
    ours, theirs = boosted.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


def test_without_an_outcome_the_network_stays_alone(
    make_trainer: MakeTrainer, sessions: Callable[..., Dataset]
) -> None:
    trainer = make_trainer(sessions(), Schedule(epochs=1))
    part = trainer.parts.validation
    nobody = replace(part.truth, default_date_ms=np.full_like(part.truth.default_date_ms, np.iinfo(np.int64).max // 4))
    trainer.parts = replace(trainer.parts, validation=replace(part, truth=nobody))
    with progress_bars(False) as bars:
        assert boost(trainer, 1, bars) is trainer.model


def test_trees_are_added_where_they_are_asked_for(trainer: Trainer, small: Architecture) -> None:
    network = trainer.model
    with progress_bars(False) as bars:
        add_trees(trainer, 1, bars)
    assert trainer.model is network, "its architecture does not ask for them"
    asking = replace(small, boosted=True)
    other = Trainer(
        RiskModel(asking, network.vocabulary_sizes), trainer.sequences, trainer.parts, trainer.labels,
        trainer.schedule, 1, 90,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, progress_bars(False) as bars:
        patch.setattr(boosting, "TRIALS", 2)
        add_trees(other, 1, bars)
    assert isinstance(other.model.fusion, BoostedFusion)


def test_a_network_of_another_make_is_refused(trainer: Trainer, small: Architecture) -> None:
    model = PooledModel(replace(small, boosted=True), trainer.model.vocabulary_sizes)
    other = Trainer(model, trainer.sequences, trainer.parts, trainer.labels, trainer.schedule, 1, 90, fine_tuning=True)
    with progress_bars(False) as bars, pytest.raises(TrainingError, match="beside a PooledModel"):
        add_trees(other, 1, bars)


@pytest.mark.parametrize("module", ["training.train", "training.ablation", "comparison.served"])
def test_whoever_fits_a_network_to_judge_it_adds_its_trees(module: str) -> None:
    """A network that is judged without the trees that its architecture asks for would pass for the family."""
    source = inspect.getsource(importlib.import_module(f"model.{module}"))
    assert source.index("trainer.fit(") < source.index("add_trees(trainer") < source.index("trainer.calibrate()")
