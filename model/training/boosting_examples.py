"""The examples that trees are fitted to and judged by: events, what trees take of them, and what became of them.

Holds no settings of trees and fits nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.histories.labels import within_horizons
from model.histories.splits import Part
from model.networks.boosted import BoostedFusion
from model.networks.risk_model import RiskModel
from model.training.batches import by_length, pad
from model.training.trainer import LONGEST_HISTORY, Trainer

MOST_ROWS = 300_000
"""Events of a part that trees are fitted to or judged by. More are sampled, whatever became of them."""
EARLIER_WEIGHT = 0.2
"""Weight of an earlier event beside a client's last one, where a source has a label of its own."""


@dataclass(frozen=True)
class Examples:
    """Events whose outcome within the headline horizon is known: their `rows` int64 `[n]` in merged order, what trees
    take of them, float32 `[n, features]`, whether it `happened`, bool `[n]`, and whose they are, int64 `[n]`.

    `asked` bool `[n]` are those whose scores are judged, `weights` float32 `[n]` how much each teaches.
    """

    rows: NDArray[np.int64]
    inputs: NDArray[np.float32]
    happened: NDArray[np.bool_]
    users: NDArray[np.int64]
    asked: NDArray[np.bool_]
    weights: NDArray[np.float32]

    def at(self, chosen: NDArray[Any]) -> Examples:
        """Some of them, by positions or flags."""
        return Examples(
            self.rows[chosen], self.inputs[chosen], self.happened[chosen], self.users[chosen], self.asked[chosen],
            self.weights[chosen],
        )  # fmt: skip

    def has_both_outcomes(self) -> bool:
        """Whether a judged one happened and another did not."""
        happened = self.happened[self.asked]
        return 0 < int(happened.sum()) < len(happened)


def examples_of(trainer: Trainer, model: RiskModel, part: Part, seed: int) -> Examples:
    """The examples of a part, with all inputs that the trees of `model` may take.

    Every judged event whose outcome is known, or, where a source has a label of its own, what is judged there: each
    client's last event, with the label. With one earlier event of each client beside it, of little weight: trees that
    had seen last events alone would give every earlier one a last one's risk.
    """
    labelled = bool(len(part.users)) and bool((trainer.labels[part.users] >= 0).all())
    counts = np.minimum(part.counts, LONGEST_HISTORY)
    random = np.random.default_rng(seed)
    last = trainer.sequences.merged_starts[part.users] + counts - 1
    chosen = _last_and_earlier(trainer, part, counts, random) if labelled else _known(trainer, part, counts, random)
    rows, inputs = _inputs(trainer, model, part, counts, chosen)
    owner = np.searchsorted(trainer.sequences.merged_starts, rows, side="right") - 1
    happened = within_horizons(trainer.sequences.times_ms[rows], owner, part.truth, (trainer.headline_days,))[0][:, 0]
    asked = np.isin(rows, last) if labelled else np.ones(len(rows), dtype=np.bool_)
    if labelled:
        happened = np.where(asked, trainer.labels[owner] > 0, happened)
    weights = np.where(asked, 1.0, EARLIER_WEIGHT).astype(np.float32)
    return Examples(rows, inputs, happened, owner, asked, weights)


@torch.no_grad()
def _inputs(
    trainer: Trainer, model: RiskModel, part: Part, counts: NDArray[np.int64], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The chosen rows that a batch holds, ascending, and the inputs of the trees there."""
    sequences, fusion = trainer.sequences, model.fusion
    assert isinstance(fusion, BoostedFusion)
    wanted = np.zeros(len(sequences.kinds), dtype=np.bool_)
    wanted[chosen] = True
    rows, inputs = [np.zeros(0, dtype=np.int64)], [np.zeros((0, len(fusion.input_names())), dtype=np.float32)]
    for positions in by_length(counts, 64):
        batch = pad(sequences, part.users[positions], counts[positions], part.skips[positions])
        kept = np.flatnonzero(wanted[batch.rows])
        if not len(kept):
            continue
        readout = model.readouts(batch.numeric, batch.categorical, batch.latest[kept])
        rows.append(batch.rows[kept])
        inputs.append(fusion.parts(readout, batch.ages[kept])[1].numpy().astype(np.float32))
    found = np.concatenate(rows)
    order = np.argsort(found)
    return found[order], np.concatenate(inputs)[order]


def _known(trainer: Trainer, part: Part, counts: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """Rows of the judged events whose outcome is known, or a sample of them."""
    sequences = trainer.sequences
    skips = np.minimum(part.skips, counts)
    lengths = counts - skips
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = np.repeat(sequences.merged_starts[part.users] + skips, lengths) + within
    owner = np.repeat(part.users, lengths)
    _, known = within_horizons(sequences.times_ms[rows], owner, part.truth, (trainer.headline_days,))
    counting = known[:, 0] if trainer.judged is None else known[:, 0] & trainer.judged[rows]
    rows = rows[counting]
    if len(rows) > MOST_ROWS:
        rows = random.choice(rows, MOST_ROWS, replace=False)
    return np.sort(rows)


def _last_and_earlier(
    trainer: Trainer, part: Part, counts: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Rows of each user's last event, and of one earlier event whose outcome is known, drawn at random."""
    present = counts > part.skips
    begin = trainer.sequences.merged_starts[part.users][present]
    skips = part.skips[present]
    last = begin + counts[present] - 1
    if len(last) > MOST_ROWS // 2:
        few = np.sort(random.choice(len(last), MOST_ROWS // 2, replace=False))
        begin, skips, last, users = begin[few], skips[few], last[few], part.users[present][few]
    else:
        users = part.users[present]
    earlier = random.integers(begin + skips, last + 1)
    times = trainer.sequences.times_ms[earlier]
    _, known = within_horizons(times, users, part.truth, (trainer.headline_days,))
    return np.unique(np.concatenate([last, earlier[known[:, 0] & (earlier < last)]]))
