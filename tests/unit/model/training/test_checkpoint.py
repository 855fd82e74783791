"""A run that is killed goes on as if it had not been, and no checkpoint is taken for another's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model.architectures import Architecture
from model.datasets.dataset import Dataset
from model.datasets.sources import open_dataset
from model.evaluation.evaluate import progress_bars
from model.training.checkpoint import RECORD_FILE, CheckpointError, Checkpoints, Snapshot, folder_beside
from model.training.material import read
from model.training.preparation import labels_of, prepare
from model.training.trainer import EpochRecord, Schedule, Trainer

SETTINGS = {"seed": 1, "schedule": {"epochs": 4, "alert_budget": (40.0, 15.0)}}
SCHEDULE = Schedule(epochs=4, patience=9, batch_users=16)


def snapshot(epochs: int = 2) -> Snapshot:
    return Snapshot(epochs, {"model/w": np.arange(3.0), "step": np.array(5)}, {"history": [{"loss": 0.25}]})


def test_what_was_saved_is_loaded_and_only_the_newest_is_kept(tmp_path: Path) -> None:
    folder = folder_beside(tmp_path / "bundle")
    assert Checkpoints(folder, SETTINGS).load() is None
    Checkpoints(folder, SETTINGS).save(snapshot(1))
    Checkpoints(folder, SETTINGS).save(snapshot(2))
    assert sorted(path.name for path in folder.iterdir()) == [RECORD_FILE, "epoch-0002.npz"]
    found = Checkpoints(folder, SETTINGS).load()
    assert found is not None
    assert (found.epochs, dict(found.facts)) == (2, {"history": [{"loss": 0.25}]})
    assert {name: value.tolist() for name, value in found.arrays.items()} == {"model/w": [0.0, 1.0, 2.0], "step": 5}
    Checkpoints(folder, SETTINGS).clear()
    assert not folder.exists()


def test_another_run_is_refused_by_the_names_of_what_differs(tmp_path: Path) -> None:
    Checkpoints(tmp_path, SETTINGS).save(snapshot())
    with pytest.raises(CheckpointError, match=r"seed was 1 and is now 2.*--restart"):
        Checkpoints(tmp_path, {**SETTINGS, "seed": 2}).load()


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, SETTINGS)
    checkpoints.save(snapshot())
    file = tmp_path / "epoch-0002.npz"
    content = file.read_bytes()
    file.write_bytes(content[:-20] + bytes(20))
    with pytest.raises(CheckpointError, match=r"epoch-0002.npz is missing or not what"):
        checkpoints.load()
    file.unlink()
    with pytest.raises(CheckpointError, match="--restart"):
        checkpoints.load()
    (tmp_path / RECORD_FILE).write_text("{")
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        checkpoints.load()
    (tmp_path / RECORD_FILE).write_text(json.dumps({"version": 0, "settings": {}, "arrays": "", "sha256": ""}))
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        checkpoints.load()


def portfolio() -> Dataset:
    return open_dataset("simulator", users=90, months=12, seed=3)


def run(folder: Path | None, on_epoch: Callable[[list[EpochRecord]], None] | None = None) -> dict[str, torch.Tensor]:
    """Train on the portfolio, with checkpoints in `folder`, and return the calibrated weights."""
    torch.set_num_threads(1)
    torch.manual_seed(5)
    dataset = portfolio()
    architecture = Architecture(hidden=(6, 6, 6), profile_hidden=6, profile_embedding=4, fusion=8)
    with progress_bars(False) as bars:
        material = read(dataset, bars)
        model, sequences = prepare(material.sequences, material.parts, architecture, ())
        labels = labels_of(sequences, material.outcomes)
        trainer = Trainer(model, sequences, material.parts, labels, SCHEDULE, 5, 90)
        history = trainer.fit(bars, None if folder is None else Checkpoints(folder, SETTINGS), on_epoch)
        trainer.calibrate()
    assert len(history) == SCHEDULE.epochs
    return {**model.state_dict(), "losses": torch.tensor([record["loss"] for record in history])}


def run_and_wait_in_the_third_epoch(folder: str) -> None:
    """What the process does that is killed."""

    def on_epoch(history: list[EpochRecord]) -> None:
        if len(history) == 3:
            (Path(folder) / "waiting").touch()
            time.sleep(300)

    run(Path(folder) / "checkpoint", on_epoch)


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    script = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('killed', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "module.run_and_wait_in_the_third_epoch(sys.argv[2])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, __file__, str(tmp_path)])
    uninterrupted = run(None)
    limit = time.monotonic() + 120
    while not (tmp_path / "waiting").exists():
        assert process.poll() is None, "the process to be killed ended by itself"
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    epochs_after: list[int] = []
    resumed = run(tmp_path / "checkpoint", lambda history: epochs_after.append(len(history)))
    assert epochs_after == [3, 4], "the first two epochs were there, the third had not been saved"
    assert uninterrupted.keys() == resumed.keys()
    assert all(torch.equal(uninterrupted[name], resumed[name]) for name in uninterrupted)
