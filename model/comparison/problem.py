"""A problem: histories, the parts to learn from and to be judged on, and the truth, the same for every candidate.

Holds data and computes no features; must import neither torch nor any candidate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model.datasets.dataset import Dataset, Outcome
from model.histories.labels import Truth
from model.histories.sequences import Sequences
from model.histories.splits import Part, Split

Task: TypeAlias = Literal["hazard", "label"]
"""What is judged. `hazard`: each event's score against default within the headline horizon. `label`: each user's last
score against the source's own verdict."""


@dataclass(frozen=True)
class Problem:
    """What every candidate is given, for `U` users with `N` events in merged order (see `Sequences`).

    `sequences` are all users' histories under vocabularies learnt from the training part only; `parts` are train,
    validation and test with the truth as it was known when each ended. A candidate may learn from `parts.train`, stop
    and calibrate on `parts.validation`, and nothing else: `truth`, `outcomes` and `labels` of other users are for
    judging. `labels` int8 `[U]` is the source's own verdict, -1 where there is none. `headline_days` is one of
    `horizons_days`. `dataset` is for the oracle only. `judged` bool `[N]` marks the events that the source judges, None
    where it judges all: a candidate reads the others as history, but they are no examples.
    """

    name: str
    sequences: Sequences
    parts: Split
    truth: Truth
    labels: NDArray[np.int8]
    outcomes: Mapping[str, Outcome]
    headline_days: int
    horizons_days: tuple[int, ...]
    task: Task
    seed: int
    dataset: Dataset
    judged: NDArray[np.bool_] | None = None

    def example_rows(self, part: Part) -> NDArray[np.int64]:
        """Rows of a part's examples in merged order of its users: without skipped events, those after the part's end,
        those at or after the default date, and those that do not count in judging."""
        starts = self.sequences.merged_starts[part.users]
        skips = np.minimum(part.skips, part.counts)
        lengths = part.counts - skips
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = np.repeat(starts + skips, lengths) + within
        owner = np.repeat(part.users, lengths)
        counts = self.sequences.times_ms[rows] < part.truth.default_date_ms[owner]
        if self.judged is not None:
            counts &= self.judged[rows]
        kept: NDArray[np.int64] = rows[counts]
        return kept
