"""Fine-tuning and what a trainer tells about itself; what training learns is in test_train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.architectures import Architecture
from model.bundle import Bundle
from model.datasets.dataset import Dataset
from model.datasets.recipe import Criterion
from model.evaluation.evaluate import progress_bars
from model.histories.splits import Part
from model.training.checkpoint import CheckpointError, Checkpoints, Snapshot
from model.training.material import read
from model.training.preparation import TrainingError, from_bundle, labels_of
from model.training.train import device_of, peak_memory_mib, train
from model.training.trainer import EpochRecord, Schedule, Trainer


def fine_tuner(bundle: Bundle, dataset: Dataset, schedule: Schedule) -> Trainer:
    with progress_bars(False) as bars:
        material = read(dataset, bars)
    torch.manual_seed(1)
    model, sequences = from_bundle(bundle, material.sequences)
    labels = labels_of(sequences, material.outcomes)
    return Trainer(model, sequences, material.parts, labels, schedule, 1, 90, fine_tuning=True)


def fitted(trainer: Trainer) -> list[EpochRecord]:
    with progress_bars(False) as bars:
        return trainer.fit(bars)


def test_fine_tuning_keeps_the_bundle_s_inputs_and_improves_on_other_data(
    random_bundle: Bundle, sessions: Callable[..., Dataset]
) -> None:
    trainer = fine_tuner(random_bundle, sessions(), Schedule(epochs=6, batch_users=8))
    features = trainer.model.activity.features
    bounds = [part.clone() for part in (features.low, features.high, features.mean, features.scale)]
    before = trainer._validation(trainer.parts.validation)
    history = fitted(trainer)
    after = trainer._validation(trainer.parts.validation)
    assert before["validation_auc"] is not None
    assert after["validation_auc"] is not None
    assert after["validation_auc"] > before["validation_auc"] + 0.1
    assert after["validation_auc"] == pytest.approx(max(record["validation_auc"] or 0 for record in history), abs=1e-6)
    assert trainer.sequences.vocabularies == random_bundle.vocabularies
    kept = (features.low, features.high, features.mean, features.scale)
    assert all(torch.equal(then, now) for then, now in zip(bounds, kept, strict=True))
    thresholds = trainer.calibrate()
    assert trainer.model.fusion.intercept.tolist() != [0.0] * 4
    assert thresholds != random_bundle.thresholds


class Worsening(Trainer):
    """Every epoch makes it worse."""

    def _validation(self, part: Part) -> EpochRecord:  # noqa: ARG002
        return {"validation_loss": 0.1, "validation_auc": 0.9 - 0.1 * len(self._history)}


def test_fine_tuning_keeps_the_bundle_s_weights_unless_an_epoch_beats_them(
    sessions: Callable[..., Dataset], make_trainer: Callable[..., Trainer]
) -> None:
    made = make_trainer(sessions(), Schedule(epochs=9, batch_users=8))
    weights = {name: value.clone() for name, value in made.model.state_dict().items()}
    for fine_tuning, epochs in ((True, 4), (False, 5)):
        made.model.load_state_dict(weights)
        trainer = Worsening(
            made.model, made.sequences, made.parts, made.labels, made.schedule, 1, 90, fine_tuning=fine_tuning
        )
        assert len(fitted(trainer)) == epochs, "it gives up after four epochs in vain"
        kept = all(torch.equal(weights[name], value) for name, value in trainer.model.state_dict().items())
        assert kept == fine_tuning


class Wavering(Trainer):
    """The second epoch has the highest AUC, the third the lowest loss."""

    def _validation(self, part: Part) -> EpochRecord:  # noqa: ARG002
        epoch = len(self._history)
        return {"validation_loss": abs(epoch - 2) + 0.1, "validation_auc": 0.9 - 0.1 * abs(epoch - 1)}


@pytest.mark.parametrize(("compare_by", "best"), [("auc", 1), ("loss", 2), ("last", 4)])
def test_epochs_are_compared_by_what_the_schedule_names(
    sessions: Callable[..., Dataset], make_trainer: Callable[..., Trainer], compare_by: Criterion, best: int
) -> None:
    schedule = Schedule(epochs=5, batch_users=8, compare_by=compare_by)
    made = make_trainer(sessions(), schedule)
    trainer = Wavering(made.model, made.sequences, made.parts, made.labels, schedule, 1, 90)
    weights: list[torch.Tensor] = []

    with progress_bars(False) as bars:
        trainer.fit(bars, on_epoch=lambda _: weights.append(trainer.model.fusion.hidden.weight.detach().clone()))
    assert trainer._best_epoch == best
    assert torch.equal(trainer.model.fusion.hidden.weight, weights[best])
    assert not torch.equal(weights[best], weights[best - 1])


def test_a_decaying_rate_runs_to_its_end(
    sessions: Callable[..., Dataset], make_trainer: Callable[..., Trainer]
) -> None:
    schedule = Schedule(epochs=7, batch_users=8, rate_decay="cosine")
    rates = [schedule.rate_at(done) for done in (0.0, 0.5, 1.0)]
    assert rates == pytest.approx([1e-3, 0.51e-3, 0.02e-3])
    assert Schedule().rate_at(0.7) == Schedule().learning_rate
    made = make_trainer(sessions(), schedule)
    trainer = Worsening(made.model, made.sequences, made.parts, made.labels, schedule, 1, 90)
    assert len(fitted(trainer)) == 7, "no epoch is better than the first, and yet none is left out"
    steps = -(-len(made.parts.train.users) // 8)
    last = schedule.rate_at(1 - 1 / (7 * steps))
    assert trainer.optimiser.param_groups[0]["lr"] == pytest.approx(last)


def test_a_bundle_fixes_inputs_and_network(
    random_bundle: Bundle, sessions: Callable[..., Dataset], tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="an architecture and dropout were given"):
        train(sessions(), tmp_path / "b", start=random_bundle.path, architecture=Architecture(), dropout=0.0)
    with pytest.raises(TrainingError, match="protected inputs were given"):
        train(sessions(), tmp_path / "b", start=random_bundle.path, protected_inputs=["sex"])


def test_a_checkpoint_of_other_options_is_refused_before_anything_is_lost(
    sessions: Callable[..., Dataset], small: Architecture, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    Checkpoints(tmp_path / "bundle.checkpoint", {"seed": 9}).save(Snapshot(1, {}, {}))
    with pytest.raises(CheckpointError, match=r"seed was 9 and is now 1.*--restart"):
        train(sessions(), out, architecture=small, epochs=1, progress=False)
    assert (tmp_path / "bundle.checkpoint" / "checkpoint.json").exists()


def test_the_share_of_padding_is_that_of_the_batches(
    sessions: Callable[..., Dataset], make_trainer: Callable[..., Trainer]
) -> None:
    trainer = make_trainer(sessions(), Schedule(epochs=1, batch_users=8))
    assert trainer.padding_share is None
    fitted(trainer)
    assert trainer.padding_share is not None
    # Every user has as many activity events as every other; the kinds without any still take a step for each user.
    users, events = len(trainer.counts), int(trainer.counts.sum())
    assert trainer.padding_share == pytest.approx(3 * users / (events + 3 * users))


def test_the_device_must_be_there() -> None:
    assert device_of("cpu").type == "cpu"
    if not torch.cuda.is_available():
        assert device_of("auto").type == "cpu"
        with pytest.raises(TrainingError, match="no CUDA device"):
            device_of("cuda")
    assert 50 < peak_memory_mib() < 100_000


def test_a_run_on_the_gpu_is_a_run(sessions: Callable[..., Dataset], make_trainer: Callable[..., Trainer]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    trainer = make_trainer(sessions(), Schedule(epochs=2, batch_users=8))
    trainer.device = device_of("cuda")
    trainer.model.to(trainer.device)
    assert len(fitted(trainer)) == 2
