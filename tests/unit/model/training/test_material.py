"""What training reads is the same in memory and on disk, up to the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.architectures import Architecture
from model.datasets.dataset import Dataset
from model.evaluation.evaluate import progress_bars
from model.training import material
from model.training.material import read
from model.training.preparation import TrainingError, labels_of, prepare
from model.training.trainer import Schedule, Trainer


def test_weights_do_not_depend_on_where_the_columns_are(
    sessions: Callable[..., Dataset], small: Architecture, tmp_path: Path
) -> None:
    dataset, found = sessions(users=60), []
    for scratch in (None, tmp_path / "columns"):
        torch.manual_seed(1)
        with progress_bars(False) as bars:
            held = read(dataset, bars, scratch=scratch)
            model, sequences = prepare(held.sequences, held.parts, small, ())
            labels = labels_of(sequences, held.outcomes)
            trainer = Trainer(model, sequences, held.parts, labels, Schedule(epochs=2), 1, 90)
            history = trainer.fit(bars)
            found.append((history, trainer.calibrate(), trainer.model.state_dict()))
    (history, thresholds, weights), (again, thresholds_again, weights_again) = found
    assert history == again
    assert thresholds == thresholds_again
    assert all(weights[name].equal(weights_again[name]) for name in weights)
    assert list((tmp_path / "columns").iterdir()) == []


def test_too_many_events_are_refused_with_what_to_do(
    sessions: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(material, "MOST_EVENTS", 10)
    with progress_bars(False) as bars:
        with pytest.raises(TrainingError, match=r"more than 10 events.*give --scratch a folder.*--max-users"):
            read(sessions(), bars)
        assert len(read(sessions(), bars, scratch=tmp_path).sequences.kinds) > 10
        monkeypatch.setattr(material, "MOST_EVENTS_ON_DISK", 20)
        with pytest.raises(TrainingError, match=r"more than 20 events.*; take fewer users"):
            read(sessions(), bars, scratch=tmp_path)
