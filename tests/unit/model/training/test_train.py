"""The whole of training and evaluation, small: that it runs, what it writes, and what it must never look at."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from events.types import Activity, Event
from model.architectures import ARCHITECTURES, Architecture
from model.bundle import Bundle
from model.datasets.dataset import Dataset, Outcome
from model.datasets.sources import open_dataset
from model.evaluation.card import CARD_FILE
from model.evaluation.drift_reference import REFERENCE_FILE, read_drift_reference
from model.evaluation.evaluate import evaluate, load_sequences, progress_bars
from model.histories.labels import Truth, truth_of
from model.histories.splits import Part, split
from model.training.forward_pass import score_users
from model.training.preparation import TrainingError
from model.training.preparation import labels_of as _labels
from model.training.preparation import prepare as _prepare
from model.training.train import default_batch_users, train
from model.training.trainer import Schedule, Trainer

START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
SMALL = Architecture(hidden=(8, 8, 4), profile_hidden=8, profile_embedding=4, fusion=8)
COMMAND = "foreshock train --source simulator --users 220 --months 14 --seed 3 --out B"


class Altered:
    """A data set with other outcomes for some users."""

    def __init__(self, dataset: Dataset, outcomes: dict[str, Outcome]) -> None:
        self._dataset = dataset
        self._outcomes = outcomes
        self.name = dataset.name
        self.headline_horizon_days = dataset.headline_horizon_days

    def events(self) -> Iterator[Event]:
        return self._dataset.events()

    def outcomes(self) -> dict[str, Outcome]:
        return self._outcomes

    def held_out(self, user_id: str) -> bool:
        return self._dataset.held_out(user_id)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return open_dataset("simulator", users=220, months=14, seed=3)


@pytest.fixture(scope="module")
def trained(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, dict[str, Any]]:
    out = tmp_path_factory.mktemp("trained") / "bundle"
    metrics = train(dataset, out, seed=3, epochs=2, command=COMMAND, progress=False)
    return Bundle.load(out), metrics


def test_the_manifest_says_how_to_make_the_bundle_again(trained: tuple[Bundle, dict[str, Any]]) -> None:
    bundle, metrics = trained
    manifest = bundle.manifest
    assert (manifest.training.command, manifest.training.seed, manifest.training.source) == (COMMAND, 3, "simulator")
    assert re.fullmatch("[0-9a-f]{64}", manifest.training.data_fingerprint)
    assert 200 < manifest.training.users <= 220
    assert manifest.metrics == metrics
    assert len(metrics["history"]) == 2
    assert set(metrics["test"]["horizons"]) == {"30", "60", "90", "180"}
    assert manifest.architecture["hidden"] == [64, 64, 32]
    assert 0 < manifest.thresholds.medium <= manifest.thresholds.high <= 1
    assert manifest.vocabularies["repayments"]["kind"].keys() >= {"due", "missed", "paid"}


def test_a_reference_and_a_card_lie_beside_the_manifest(trained: tuple[Bundle, dict[str, Any]]) -> None:
    bundle, metrics = trained
    assert not {REFERENCE_FILE, CARD_FILE} & bundle.manifest.files.keys()
    reference = read_drift_reference(bundle)
    assert reference is not None
    assert 50 < reference.users <= metrics["split"]["validation_users"]
    text = (bundle.path / CARD_FILE).read_text()
    assert bundle.fingerprint_hex in text
    assert "the run's test part" in text


def test_protected_fields_are_no_input_unless_named(trained: tuple[Bundle, dict[str, Any]], dataset: Dataset) -> None:
    assert not {"age_band", "sex"} & trained[0].vocabularies["profiles"].keys()
    assert trained[0].vocabularies["profiles"]
    trainer = _trainer(dataset, protected=("sex",))
    assert "sex" in trainer.sequences.vocabularies["profiles"]
    assert "age_band" not in trainer.sequences.vocabularies["profiles"]


def test_evaluation_measures_what_is_served(trained: tuple[Bundle, dict[str, Any]], dataset: Dataset) -> None:
    bundle, _ = trained
    everyone = evaluate(bundle, dataset, held_out_only=False, progress=False)
    held_out = evaluate(bundle.path, dataset, progress=False)
    assert 200 < everyone["users"] <= 220
    assert 0 < held_out["users"] < 80
    horizon = everyone["horizons"]["90"]
    assert horizon["positives"] > 0
    assert 0 <= horizon["brier"] <= 1
    assert 0 < everyone["early_warning"]["medium"]["onsets"] <= 220
    assert "label" not in everyone


def _trainer(
    dataset: Dataset,
    seed: int = 1,
    protected: tuple[str, ...] = (),
    schedule: Schedule | None = None,
    architecture: Architecture = SMALL,
) -> Trainer:
    torch.manual_seed(seed)
    with progress_bars(False) as bars:
        provisional = load_sequences(dataset, bars)
    outcomes = dataset.outcomes()
    parts = split(provisional, dataset, truth_of(provisional, outcomes))
    model, sequences = _prepare(provisional, parts, architecture, protected)
    schedule = schedule or Schedule(epochs=3, batch_users=16)
    return Trainer(model, sequences, parts, _labels(sequences, outcomes), schedule, seed, 90)


def _weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    with progress_bars(False) as bars:
        trainer.fit(bars)
    trainer.calibrate()
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def test_held_out_clients_and_later_truths_change_nothing(dataset: Dataset) -> None:
    """Weights, calibration and all are equal when what must not be known is different."""
    outcomes = dataset.outcomes()
    until_ms = _trainer(dataset).parts.until_ms
    changed = {}
    for user_id, outcome in outcomes.items():
        later = outcome.default_date_ms is not None and outcome.default_date_ms >= until_ms
        default_date_ms = None if later or dataset.held_out(user_id) else outcome.default_date_ms
        changed[user_id] = replace(outcome, default_date_ms=default_date_ms)
    assert sum(changed[user_id] != outcomes[user_id] for user_id in outcomes) > 3
    original, altered = _weights(_trainer(dataset)), _weights(_trainer(Altered(dataset, changed)))
    assert all(torch.equal(original[name], altered[name]) for name in original)
    other_seed = _weights(_trainer(dataset, seed=2))
    assert not all(torch.equal(original[name], other_seed[name]) for name in original)


class Obvious:
    """Half of the users make inquiries from day 40 on, and those have a default on day 100: nothing else differs."""

    name = "obvious"
    headline_horizon_days = 90
    users = 300

    def events(self) -> Iterator[Event]:
        for day in range(0, 90, 10):
            for user in range(self.users):
                yield Activity(
                    event_id=f"{user}-{day}",
                    user_id=f"u{user}",
                    occurred_at=START + dt.timedelta(days=day, seconds=user),
                    kind="inquiry" if user % 2 and day >= 40 else "session",
                )

    def outcomes(self) -> dict[str, Outcome]:
        default_date_ms, until_ms = (int((START + dt.timedelta(days=day)).timestamp() * 1000) for day in (100, 300))
        return {
            f"u{user}": Outcome(f"u{user}", default_date_ms if user % 2 else None, until_ms)
            for user in range(self.users)
        }

    def held_out(self, user_id: str) -> bool:
        return int(user_id[1:]) % 10 < 2


def test_training_learns_what_can_be_learnt() -> None:
    trainer = _trainer(Obvious(), schedule=Schedule(epochs=15, patience=15, batch_users=8, learning_rate=3e-3))
    with progress_bars(False) as bars:
        history = trainer.fit(bars)
    trainer.calibrate()
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    scores = score_users(trainer.model, trainer.sequences)[:, 2]
    sequences = trainer.sequences
    odd = np.array([int(user_id[1:]) % 2 == 1 for user_id in sequences.user_ids])[sequences.user_of_event]
    day = np.concatenate([np.arange(0, 90, 10)] * sequences.users)
    assert np.isfinite(scores).all()
    # Before the first inquiry nobody can tell (half of all have a default within 90 days, from day 10 on); after it all
    # can.
    assert abs(scores[odd & (day == 30)].mean() - scores[~odd & (day == 30)].mean()) < 0.02
    assert scores[odd & (day == 80)].mean() > 0.85
    assert scores[~odd & (day == 80)].mean() < 0.15


class Few(Obvious):
    """As obvious, and quickly read."""

    users = 80


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_family_trains(family: str) -> None:
    small = replace(
        ARCHITECTURES[family], hidden=(8, 8, 8), window=4, heads=2, profile_hidden=8, profile_embedding=4, fusion=8
    )
    trainer = _trainer(Few(), schedule=Schedule(epochs=2, weight_decay=1e-4), architecture=small)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    with progress_bars(False) as bars:
        history = trainer.fit(bars)
    assert len(history) == 2
    assert all(np.isfinite(epoch["loss"]) for epoch in history)
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    reads = ARCHITECTURES[family].encoder("activity") != "ignored"
    assert any(name.startswith("activity.") for name in moved) == reads


@pytest.mark.parametrize(
    ("users", "events_each", "expected"),
    [(30, 10, 8), (1_000, 10, 20), (50_000, 10, 256), (50_000, 40, 102), (50_000, 900, 64)],
)
def test_short_histories_go_in_larger_batches(users: int, events_each: int, expected: int) -> None:
    nobody = Truth(np.zeros(users, np.int64), np.zeros(users, np.int64))
    counts = np.full(users, events_each)
    assert default_batch_users(Part(np.arange(users), counts, np.zeros_like(counts), nobody)) == expected


def test_nothing_to_learn_is_said(dataset: Dataset, tmp_path: Path) -> None:
    calm = {user_id: replace(outcome, default_date_ms=None) for user_id, outcome in dataset.outcomes().items()}
    with pytest.raises(TrainingError, match="no default is known in the training part"):
        train(Altered(dataset, calm), tmp_path / "bundle", progress=False)
    with pytest.raises(ValueError, match="protected_inputs"):
        train(dataset, tmp_path / "bundle", protected_inputs=["income"], progress=False)
    assert list(tmp_path.iterdir()) == []
