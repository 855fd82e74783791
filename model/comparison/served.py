"""The candidates that can be served: trained as `foreshock train` does, exported, and scored by their bundles.

Scores and costs come from the exported graphs, never from PyTorch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from events.types import KINDS
from model.bundle import Bundle, Training
from model.comparison.candidate import CandidateKind
from model.comparison.problem import Problem
from model.datasets.recipe import recipe_of
from model.evaluation.playback import merged_rows, score_sequences
from model.histories.sequences import Sequences

if TYPE_CHECKING:
    from model.architectures import Architecture
    from model.training.trainer import Trainer

ROWS_PER_BATCH = 256
BATCHES = 8
REPETITIONS = 15
"""The best of so many is the cost: other work on the machine can only add to it."""
FLOAT_BYTES = 4


class Served:
    """A `Candidate` for one architecture; its bundle stays in the folder `bundle` of its trial."""

    kind: CandidateKind = "served"
    is_probability = True

    def __init__(
        self, name: str, architecture: Architecture, epochs: int, weight_decay: float = 0.0, threads: int = 1
    ) -> None:
        self.name = name
        self._architecture = architecture
        self._epochs = epochs
        self._weight_decay = weight_decay
        self._threads = threads
        self._bundle: Bundle | None = None
        self._us_per_event: float | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that the weights depend on beside the problem."""
        return {
            "architecture": self._architecture.as_manifest(),
            "epochs": self._epochs,
            "weight_decay": self._weight_decay,
        }

    def settings_on(self, problem: Problem) -> Mapping[str, Any]:
        """Settings from the recipe of the problem's source, in addition to `settings`; empty without a recipe."""
        return recipe_of(problem.dataset).as_settings()

    @property
    def us_per_event(self) -> float | None:
        """Cost of the step graphs and the score graph on one thread, in batches of `ROWS_PER_BATCH` of all kinds."""
        return self._us_per_event

    @property
    def state_bytes(self) -> int | None:
        """The model's part of a state row."""
        return None if self._bundle is None else self._bundle.state_width * FLOAT_BYTES

    def trainer(self, problem: Problem) -> Trainer:
        """The trainer of this model on the problem, with the random initial weights of the seed."""
        import torch

        from model.training.preparation import prepare
        from model.training.train import default_batch_users
        from model.training.trainer import Schedule, Trainer

        torch.set_num_threads(self._threads)
        torch.manual_seed(problem.seed)
        batch_users = default_batch_users(problem.parts.train)
        schedule = Schedule(epochs=self._epochs, batch_users=batch_users, weight_decay=self._weight_decay)
        recipe = recipe_of(problem.dataset)
        schedule = schedule.following(recipe)
        model, sequences = prepare(problem.sequences, problem.parts, recipe.shaped(self._architecture), ())
        return Trainer(
            model,
            sequences,
            problem.parts,
            problem.labels,
            schedule,
            problem.seed,
            problem.headline_days,
            judged=problem.judged,
        )

    def fit(self, problem: Problem, folder: Path, progress: Progress) -> None:
        """Train, calibrate and export. Raises `TrainingError` and `ExportError` as training does."""
        from model.training.boosting import add_trees
        from model.training.export import Description, export_bundle

        started = time.monotonic()
        trainer = self.trainer(problem)
        history = trainer.fit(progress)
        add_trees(trainer, problem.seed, progress)
        thresholds = trainer.calibrate()
        sequences = trainer.sequences
        training = Training(
            source=problem.name,
            command="",
            seed=problem.seed,
            data_fingerprint=sequences.fingerprint,
            users=sequences.users,
            events=len(sequences.kinds),
            epochs=len(history),
            seconds=round(time.monotonic() - started, 1),
        )
        description = Description(
            name=problem.name,
            headline_horizon_days=problem.headline_days,
            vocabularies=sequences.vocabularies,
            thresholds=thresholds,
            training=training,
        )
        self._bundle = export_bundle(trainer.model, description, folder / "bundle")
        self._us_per_event = microseconds_per_event(self._bundle, sequences, problem.parts.test.users)

    def score(self, problem: Problem, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Candidate.score`."""
        bundle = self._fitted()
        scores: NDArray[np.float32] = self.score_horizons(problem, users)[:, bundle.headline].copy()
        return scores

    def score_horizons(self, problem: Problem, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """As `score`, for every horizon of the problem: float32 `[N, horizons]`."""
        bundle = self._fitted()
        sequences = problem.sequences
        if sequences.vocabularies != bundle.vocabularies:
            sequences = sequences.recoded(bundle.vocabularies)
        scores = np.full((len(sequences.kinds), len(bundle.horizons_days)), np.nan, dtype=np.float32)
        scores[merged_rows(sequences, users)] = score_sequences(bundle, sequences, users)
        return scores

    def _fitted(self) -> Bundle:
        if self._bundle is None:
            raise RuntimeError(f"{self.name} has not been fitted; call fit first")
        return self._bundle


def microseconds_per_event(bundle: Bundle, sequences: Sequences, users: NDArray[np.int64]) -> float | None:
    """Cost of one event of `users`, µs: batches of consecutive events by time go through the graphs of their kinds and
    then through the score graph, as in a worker. None without events."""
    rows = merged_rows(sequences, users)
    rows = rows[np.argsort(sequences.times_ms[rows], kind="stable")][-BATCHES * ROWS_PER_BATCH :]
    if not len(rows):
        return None
    owner = sequences.user_of_event
    batches = []
    for start in range(0, len(rows), ROWS_PER_BATCH):
        batch = rows[start : start + ROWS_PER_BATCH]
        parts = []
        for position, kind in enumerate(KINDS):
            mine = batch[sequences.kinds[batch] == position]
            of_kind = sequences.starts[kind][owner[mine]] + sequences.latest[mine, position] - 1
            state = np.zeros((len(mine), bundle.state_slices[kind].stop - bundle.state_slices[kind].start), np.float32)
            if len(mine):
                # From a state after an event: arithmetic on zeros may be faster than in serving.
                numeric, categorical = sequences.numeric[kind][of_kind], sequences.categorical[kind][of_kind]
                state, _ = bundle.step(kind, numeric, categorical, state)
                parts.append((kind, numeric, categorical, state))
        batches.append((parts, np.zeros((len(batch), bundle.readout_width), np.float32), sequences.ages_days[batch]))
    best = float("inf")
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        for parts, readout, ages in batches:
            for kind, numeric, categorical, state in parts:
                bundle.step(kind, numeric, categorical, state)
            bundle.score(readout, ages)
        best = min(best, time.perf_counter() - started)
    return 1e6 * best / len(rows)
