"""1-D convolutional network over the latest events, without window features: a sequence model without memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from model.baselines.challenger import Challenger, ChallengerError, Platt
from model.baselines.cost import Kept
from model.baselines.examples import Examples, examples_of
from model.baselines.raw_events import RawEvents
from model.baselines.timeline import Floats, Ints, Timeline
from model.comparison.problem import Problem
from model.histories.sequences import Sequences, chunks_of_users
from model.statistics.metrics import roc_auc

if TYPE_CHECKING:
    import torch

EVENTS = 63
"""Events that a score depends on: causal kernels of 3 at dilations 1, 2, 4, 8 and 16 reach 2 · 31 + 1 events back."""
BATCH_EVENTS = 4_000
LEAST_BATCHES = 10
"""Least number of steps in an epoch, whatever the events per step."""
EVENTS_PER_CHUNK = 20_000


class Convolution(Challenger):
    """Causal dilated convolutions over `RawEvents`, trained on every example row, stopped by validation AUC.

    A stream keeps the last `EVENTS` events of a user and runs the network over them on every event.
    """

    name = "1d-cnn"

    def fit(self, problem: Problem, folder: Path, progress: Progress) -> None:  # noqa: ARG002
        """Fit on the training part's examples, calibrate on the validation part's. Raises `ChallengerError`."""
        import torch

        from model.baselines.dilated import DilatedNetwork
        from model.baselines.fitting import Schedule, fit_network, one_thread

        sequences = problem.sequences
        train, validation = (examples_of(problem, part) for part in (problem.parts.train, problem.parts.validation))
        for name, found in (("training", train), ("validation", validation)):
            if not 0 < found.happened.sum() < len(found.happened):
                raise ChallengerError(
                    f"{self.name}: the {name} part of {problem.name} does not show both outcomes; take more users"
                )
        self._inputs = RawEvents.of(sequences, train.rows)
        torch.manual_seed(problem.seed)
        self._network = network = DilatedNetwork(self._inputs.width, float(train.happened.mean()))
        groups = _by_user(sequences, train)

        def loss(positions: NDArray[np.int64]) -> torch.Tensor:
            chosen = np.sort(positions)
            rows = np.concatenate([train.rows[groups[position]] for position in chosen])
            target = np.concatenate([train.happened[groups[position]] for position in chosen])
            found = self._forward(sequences, rows)
            return torch.nn.functional.binary_cross_entropy_with_logits(found, torch.from_numpy(target).float())

        def validate() -> float:
            return roc_auc(validation.happened, self._logits(sequences, validation.rows)) or 0.5

        schedule = Schedule(batch=_batch_users(sequences, problem.parts.train.users, len(groups)))
        with one_thread():
            fit_network(network, loss, validate, len(groups), schedule, problem.seed, progress, self.name)
        self._platt = Platt.fit(self._logits(sequences, validation.rows), validation.happened)
        self._measure(problem, Kept(events=EVENTS))

    def score_rows(self, sequences: Sequences, rows: Ints) -> Floats:
        return self._platt.probability(self._logits(sequences, rows))

    def _logits(self, sequences: Sequences, rows: Ints) -> Floats:
        import torch

        from model.baselines.fitting import one_thread

        owner = np.searchsorted(sequences.merged_starts, rows, side="right") - 1
        logits = np.empty(len(rows))
        with torch.no_grad(), one_thread():
            for chunk in chunks_of_users(sequences, np.unique(owner), EVENTS_PER_CHUNK):
                piece = slice(*np.searchsorted(owner, [chunk[0], chunk[-1] + 1]))
                logits[piece] = self._forward(sequences, rows[piece]).double().numpy()
        return logits

    def _forward(self, sequences: Sequences, rows: Ints) -> torch.Tensor:
        """Logits of `rows` (ascending), from their users' histories in one pass, each padded at its end."""
        import torch

        owner = np.searchsorted(sequences.merged_starts, rows, side="right") - 1
        users, index = np.unique(owner, return_inverse=True)
        timeline = Timeline(sequences, users)
        place = np.arange(len(timeline)) - timeline.start
        step = rows - sequences.merged_starts[owner]
        padded = np.zeros((len(users), int(step.max()) + 1, self._inputs.width), dtype=np.float32)
        wanted = place < padded.shape[1]
        padded[timeline.owner[wanted], place[wanted]] = self._inputs.inputs(timeline, np.flatnonzero(wanted))
        logits: torch.Tensor = self._network(torch.from_numpy(padded))[index, step]
        return logits


def _batch_users(sequences: Sequences, users: Ints, examples: int) -> int:
    events = float(np.diff(sequences.merged_starts)[users].mean())
    return int(np.clip(BATCH_EVENTS / max(events, 1.0), 8, max(8, examples // LEAST_BATCHES)))


def _by_user(sequences: Sequences, examples: Examples) -> list[NDArray[np.int64]]:
    """Positions of each user's examples; only users who have some."""
    owner = np.searchsorted(sequences.merged_starts, examples.rows, side="right") - 1
    return np.split(np.arange(len(owner)), np.flatnonzero(np.diff(owner)) + 1)
