"""A source's histories with a bundle's scores and the truth: the input of drift reports and model cards.

`model.evaluation.playback` computes the scores, which are those that serving would publish. Needs no torch; never
changes a bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from model.bundle import Bundle
from model.datasets.dataset import Dataset, Outcome
from model.evaluation.evaluate import GRACE_DAYS, load_sequences
from model.evaluation.panel import Panel, panel_of
from model.evaluation.playback import merged_rows, score_sequences
from model.histories.arrears import judged_events
from model.histories.labels import Truth, truth_of
from model.histories.sequences import Sequences
from model.histories.splits import Part


@dataclass(frozen=True)
class ScoredSource:
    """Histories in the bundle's vocabularies (`sequences`) and in the source's own (`plain`, protected fields too).

    `probabilities` float32 `[events, horizons]` in merged order, NaN for users that were not scored. `judged` bool
    `[events]` marks the events that the source judges, None where it judges all (`model.histories.arrears`).
    """

    name: str
    bundle: Bundle
    sequences: Sequences
    plain: Sequences
    probabilities: NDArray[np.float32]
    truth: Truth
    outcomes: Mapping[str, Outcome]
    judged: NDArray[np.bool_] | None = None

    @property
    def headline(self) -> NDArray[np.float32]:
        """Probabilities at the bundle's headline horizon, float32 `[events]`."""
        return self.probabilities[:, self.bundle.headline]

    def panel(self, from_ms: int = 0) -> Panel:
        """Matured scores of those users at judged events; see `model.evaluation.panel.panel_of`."""
        return panel_of(self.bundle, self.sequences, self.headline, self.truth, self.outcomes, from_ms, self.judged)


def score_source(
    bundle: Bundle,
    dataset: Dataset,
    bars: Progress,
    *,
    held_out_only: bool = False,
    max_users: int | None = None,
    grace_days: float = GRACE_DAYS,
) -> ScoredSource:
    """Read and score a data set, by the calendar that the bundle was trained with.

    Raises `ValueError` when no user remains, `DatasetError` as the source does.
    """
    plain = load_sequences(
        dataset,
        bars,
        max_users=max_users,
        held_out_only=held_out_only,
        grace_days=grace_days,
        calendar=bundle.calendar,
    )
    if not plain.users:
        raise ValueError(f"{dataset.name} has no users to score; check its options or its file")
    outcomes = dataset.outcomes()
    asked = judged_events(dataset, plain)
    return scored(bundle, dataset.name, plain, outcomes, np.arange(plain.users), bars, judged=asked)


def scored(
    bundle: Bundle,
    name: str,
    plain: Sequences,
    outcomes: Mapping[str, Outcome],
    users: NDArray[np.int64],
    bars: Progress | None = None,
    *,
    judged: NDArray[np.bool_] | None = None,
) -> ScoredSource:
    """Scores of `users` (positions) among histories that are in their own vocabularies; `judged` as in
    `ScoredSource`."""
    sequences = plain.recoded(bundle.vocabularies)
    rows = merged_rows(sequences, users)
    task = None if bars is None else bars.add_task("scoring", total=len(rows))

    def advance(events: int) -> None:
        if bars is not None and task is not None:
            bars.advance(task, events)

    probabilities = sequences.backing.zeros((len(sequences.kinds), len(bundle.horizons_days)), np.float32)
    probabilities[:] = np.nan
    probabilities[rows] = score_sequences(bundle, sequences, users, advance)
    return ScoredSource(name, bundle, sequences, plain, probabilities, truth_of(sequences, outcomes), outcomes, judged)


def scored_users(source: ScoredSource, users: NDArray[np.int64]) -> ScoredSource:
    """The same with the scores of `users` (positions) alone."""
    probabilities = source.sequences.backing.zeros(source.probabilities.shape, np.float32)
    probabilities[:] = np.nan
    rows = merged_rows(source.sequences, users)
    probabilities[rows] = source.probabilities[rows]
    return replace(source, probabilities=probabilities)


def rows_of_part(sequences: Sequences, part: Part) -> NDArray[np.bool_]:
    """Which merged rows are a part's examples, bool `[events]`."""
    first = sequences.merged_starts[:-1]
    position = np.arange(len(sequences.kinds)) - np.repeat(first, np.diff(sequences.merged_starts))
    skips, counts = np.zeros((2, sequences.users), dtype=np.int64)
    skips[part.users], counts[part.users] = part.skips, part.counts
    owner = sequences.user_of_event
    return (position >= skips[owner]) & (position < counts[owner])
