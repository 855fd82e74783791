"""Fits a small PyTorch network in mini-batches until validation stops improving, on one thread."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

LEARNING_RATE = 1e-3
GRADIENT_NORM = 1.0
ROWS_MULTIPLE = 32
"""Rows are padded to multiples of so many: a matrix product computes the remaining rows differently, so that the last
bits of a row's result would depend on the number of rows."""


@dataclass(frozen=True)
class Schedule:
    """At most `epochs`, ended after `patience` of them without a better validation; `batch` examples per step."""

    epochs: int = 25
    patience: int = 4
    batch: int = 512
    weight_decay: float = 1e-5


def fit_network(
    network: torch.nn.Module,
    loss: Callable[[NDArray[np.int64]], torch.Tensor],
    validate: Callable[[], float],
    examples: int,
    schedule: Schedule,
    seed: int,
    progress: Progress,
    name: str,
) -> None:
    """Adam on `loss(positions)` over shuffled positions `0 … examples - 1`; the network keeps the weights of the best
    `validate()`, larger being better, and ends in evaluation mode."""
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, weight_decay=schedule.weight_decay)
    random = np.random.default_rng(seed)
    best, best_epoch, best_weights = -np.inf, -1, copy.deepcopy(network.state_dict())
    task = progress.add_task(f"{name}: epochs", total=schedule.epochs)
    for epoch in range(schedule.epochs):
        network.train()
        for positions in np.array_split(random.permutation(examples), max(1, examples // schedule.batch)):
            optimiser.zero_grad()
            loss(positions).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
            optimiser.step()
        network.eval()
        with torch.no_grad():
            found = validate()
        progress.advance(task)
        if found > best:
            best, best_epoch, best_weights = found, epoch, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= schedule.patience:
            break
    network.load_state_dict(best_weights)
    network.eval()


def outputs_of(network: torch.nn.Module, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs of a network for `inputs` `[rows, width]`, float32 `[rows, …]`.

    A row's outputs are the same, to the last bit, whatever the other rows.
    """
    padded = np.pad(inputs, ((0, -len(inputs) % ROWS_MULTIPLE), (0, 0)))
    with torch.no_grad(), one_thread():
        outputs: NDArray[np.float32] = network(torch.from_numpy(padded))[: len(inputs)].numpy()
    return outputs


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits PyTorch to one thread, so that times are comparable and results repeatable."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
