"""Keeps on disk what a worker has counted of its inputs, so that `stream.worker.input_drift` goes on after a restart.

A file of counts, which tell of nobody. It is small and written whole; where it is lost, or is of another model,
counting begins anew, as without a `state_dir`.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from stream.worker.input_drift import InputDrift, KeptInputs

KEEP_EVERY_S = 300.0
"""A worker that is killed loses what it has counted since."""

logger = logging.getLogger("foreshock.worker")


class _Kept(msgspec.Struct, frozen=True):
    model: str
    inputs: KeptInputs


class DriftFile:
    """The file of one worker."""

    def __init__(self, path: Path, model: str, drift: InputDrift) -> None:
        """`model` is the fingerprint of the bundle by whose reference `drift` counts."""
        self._path = path
        self._model = model
        self._drift = drift

    def read(self, now_ms: int) -> None:
        """Go on with what the file holds, as far as the window reaches at this wall time; says in the log where it
        cannot be used."""
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
            if kept.model != self._model:
                raise ValueError(f"it is of model {kept.model}")
            self._drift.go_on(kept.inputs, now_ms)
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            logger.warning("%s is not used, the drift of inputs is counted anew: %s", self._path, error)

    def write(self) -> None:
        """Replace the file; says in the log where that fails, which costs no more than the drift of inputs."""
        draft = self._path.with_name(f"{self._path.name}.part")
        try:
            draft.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.encode(_Kept(self._model, self._drift.kept())))
            draft.replace(self._path)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._path, error)
