"""Checkpoints of a training run: the state after each epoch, so that a killed run can be continued.

A folder with one `.npz` of arrays and `checkpoint.json`, which names it. No pickles. Must not depend on networks or
data sets.

The arrays are written and synced under a new name, then `checkpoint.json` replaces the previous one atomically, then
older arrays are deleted. A kill at any moment leaves the previous checkpoint or the new one, both complete.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import sha256_of

FORMAT_VERSION = 1
RECORD_FILE = "checkpoint.json"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be used; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Snapshot:
    """A run after `epochs` epochs: `arrays` by name, and `facts`, plain values that JSON can hold."""

    epochs: int
    arrays: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Any]


def folder_beside(out: Path) -> Path:
    """Folder of the checkpoints of the run that will write the bundle `out`."""
    return out.with_name(f"{out.name}.checkpoint")


class Checkpoints:
    """The checkpoint of one run in `folder`, of which only the newest is kept.

    `settings`, plain values, are all that the run's result depends on; a checkpoint of other settings is refused.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self._settings: dict[str, Any] = json.loads(json.dumps(settings))

    def load(self) -> Snapshot | None:
        """The newest checkpoint, None where there is none.

        Raises `CheckpointError` when it is damaged, or of other settings, which the message then names.
        """
        path = self.folder / RECORD_FILE
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_bytes())
            version, settings, name, digest = (record[key] for key in ("version", "settings", "arrays", "sha256"))
            epochs, facts = record["epochs"], record["facts"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is no checkpoint ({error!r}); {self._way_out()}") from None
        if version != FORMAT_VERSION:
            raise CheckpointError(f"{path} has version {version}, expected {FORMAT_VERSION}; {self._way_out()}")
        self._compare(settings)
        file = self.folder / name
        if not file.is_file() or sha256_of(file) != digest:
            raise CheckpointError(f"{file} is missing or not what {RECORD_FILE} was written for; {self._way_out()}")
        try:
            with np.load(file, allow_pickle=False) as stored:
                arrays = {key: stored[key] for key in stored.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{file} cannot be read ({error}); {self._way_out()}") from None
        return Snapshot(epochs, arrays, facts)

    def save(self, snapshot: Snapshot) -> None:
        """Make this the checkpoint; durable when it returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"epoch-{snapshot.epochs:04d}.npz"
        _replace(file, lambda stream: np.savez(stream, allow_pickle=False, **dict(snapshot.arrays)))
        record = {
            "version": FORMAT_VERSION,
            "epochs": snapshot.epochs,
            "arrays": file.name,
            "sha256": sha256_of(file),
            "settings": self._settings,
            "facts": dict(snapshot.facts),
        }
        content = json.dumps(record, indent=1, allow_nan=False).encode()
        _replace(self.folder / RECORD_FILE, lambda stream: stream.write(content))
        for older in self.folder.glob("epoch-*.npz"):
            if older != file:
                older.unlink()

    def clear(self) -> None:
        """Delete the checkpoint, if there is one."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _compare(self, settings: Mapping[str, Any]) -> None:
        mine = self._settings
        other = [key for key in sorted(mine.keys() | settings.keys()) if mine.get(key) != settings.get(key)]
        if other:
            told = "; ".join(f"{key} was {settings.get(key)!r} and is now {mine.get(key)!r}" for key in other)
            raise CheckpointError(
                f"{self.folder} holds a checkpoint of another run: {told}. Run that command again to finish it, "
                "or give --restart to begin anew"
            )

    def _way_out(self) -> str:
        return f"delete {self.folder} or give --restart to begin anew"


def _replace(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under another name, sync it, and move it to its place in one step."""
    staging = path.with_name(f".{path.name}")
    with staging.open("wb") as stream:
        write(stream)
        stream.flush()
        os.fsync(stream.fileno())
    staging.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
