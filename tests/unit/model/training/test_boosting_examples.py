"""What trees are fitted to: judged events, and where a source has a label, each client's last one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from model.datasets.dataset import Dataset
from model.histories.labels import NEVER_MS
from model.networks.boosted import BoostedFusion
from model.networks.risk_model import RiskModel
from model.statistics.metrics import roc_auc
from model.training import boosting, boosting_examples
from model.training.boosting_examples import EARLIER_WEIGHT, Examples, examples_of
from model.training.trainer import Schedule, Trainer

MakeTrainer = Callable[..., Trainer]


@pytest.fixture(scope="module")
def trainer(make_trainer: MakeTrainer, sessions: Callable[..., Dataset]) -> Trainer:
    return make_trainer(sessions(users=150), Schedule(epochs=1))


@pytest.fixture(scope="module")
def wide(trainer: Trainer) -> RiskModel:
    return boosting._tallied(trainer.model, trainer.sequences, None)


@pytest.fixture
def labelled(trainer: Trainer) -> Trainer:
    """The same where the source itself says who is bad: whoever defaults at all."""
    asking = Trainer(
        trainer.model, trainer.sequences, trainer.parts,
        (trainer.parts.test.truth.default_date_ms < NEVER_MS).astype(np.int8), trainer.schedule, 1, 90,
    )  # fmt: skip
    assert (asking.labels >= 0).all()
    return asking


def names_of(wide: RiskModel) -> tuple[str, ...]:
    fusion = wide.fusion
    assert isinstance(fusion, BoostedFusion)
    return fusion.input_names()


def test_examples_are_the_judged_events_whose_outcome_is_known(trainer: Trainer, wide: RiskModel) -> None:
    found = examples_of(trainer, wide, trainer.parts.train, 1)
    names = names_of(wide)
    assert found.inputs.shape == (len(found.rows), len(names))
    assert found.asked.all()
    assert (found.weights == 1).all()
    owner = trainer.sequences.user_of_event[found.rows]
    assert found.users.tolist() == owner.tolist()
    assert set(owner) <= set(trainer.parts.train.users.tolist())
    assert not found.inputs[:, names.index("activity.age_days")].any()  # each event is the newest of its kind
    inquiries = found.inputs[:, names.index("activity.kind:inquiry/90d")]
    assert (roc_auc(found.happened, inquiries) or 0) > 0.7


def test_a_label_is_learnt_from_last_events_and_a_little_from_earlier_ones(labelled: Trainer, wide: RiskModel) -> None:
    part = labelled.parts.train
    found = examples_of(labelled, wide, part, 1)
    last = labelled.sequences.merged_starts[part.users] + part.counts - 1
    assert found.rows[found.asked].tolist() == np.sort(last).tolist()
    assert (found.happened == (labelled.labels[found.users] > 0))[found.asked].all()
    assert np.unique(found.weights[~found.asked]).tolist() == [np.float32(EARLIER_WEIGHT)]
    earlier = found.rows[~found.asked]
    assert len(earlier) > 0.5 * len(last)
    assert not np.isin(earlier, last).any()
    # An earlier event has the outcome within the horizon, not the label: a default comes later.
    assert (labelled.labels[found.users[~found.asked]] > 0).sum() > found.happened[~found.asked].sum()


def test_too_many_events_are_sampled(
    trainer: Trainer, labelled: Trainer, wide: RiskModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boosting_examples, "MOST_ROWS", 40)
    part = trainer.parts.train
    assert len(examples_of(trainer, wide, part, 1).rows) == 40
    found = examples_of(labelled, wide, part, 1)
    assert found.asked.sum() == 20
    assert set(found.users[~found.asked].tolist()) <= set(found.users[found.asked].tolist())


def test_both_outcomes_are_asked_of_what_is_judged() -> None:
    happened = np.array([True, False, False])
    examples = Examples(
        np.arange(3), np.zeros((3, 1), np.float32), happened, np.arange(3), ~happened, np.ones(3, np.float32)
    )
    assert not examples.has_both_outcomes()
    assert replace(examples, asked=np.ones(3, bool)).has_both_outcomes()
