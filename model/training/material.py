"""What training reads: a data set's histories, in memory or on disk, the truth, and the parts. Fits nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from events.calendar import UTC, Calendar
from model.datasets.dataset import Dataset, Outcome
from model.evaluation.evaluate import GRACE_DAYS, load_sequences
from model.histories.backing import InMemory, OnDisk
from model.histories.labels import Truth, truth_of
from model.histories.sequences import Sequences
from model.histories.splits import Split, split
from model.training.preparation import TrainingError

MOST_EVENTS = 20_000_000
"""Events that one run reads into memory; docs/training.md states the memory per event."""
MOST_EVENTS_ON_DISK = 400_000_000
"""Events that one run reads where their columns are kept on disk."""


@dataclass(frozen=True)
class Material:
    """A data set as training takes it: histories under provisional vocabularies, the truth, and the parts."""

    sequences: Sequences
    outcomes: Mapping[str, Outcome]
    truth: Truth
    parts: Split


def read(
    dataset: Dataset,
    bars: Progress,
    *,
    max_users: int | None = None,
    grace_days: float = GRACE_DAYS,
    calendar: Calendar = UTC,
    scratch: Path | None = None,
) -> Material:
    """A data set's histories, truth and split. Raises `TrainingError` without events, or with more than
    `MOST_EVENTS`, with `scratch` `MOST_EVENTS_ON_DISK`."""
    most = MOST_EVENTS if scratch is None else MOST_EVENTS_ON_DISK
    sequences = load_sequences(
        dataset,
        bars,
        max_users=max_users,
        grace_days=grace_days,
        most_events=most,
        calendar=calendar,
        backing=InMemory() if scratch is None else OnDisk(scratch),
    )
    if not sequences.users:
        raise TrainingError(f"{dataset.name} has no events; check its options or its file")
    if len(sequences.kinds) > most:
        taken, remedy = (
            ("about 6 GiB of memory", "give --scratch a folder that keeps them, or take")
            if scratch is None
            else (f"about 160 GiB in {scratch}", "take")
        )
        raise TrainingError(
            f"{dataset.name} has more than {most:,} events, the most that one run reads (they take {taken}); {remedy} "
            "fewer users with --max-users, or a shorter period"
        )
    outcomes = dataset.outcomes()
    truth = truth_of(sequences, outcomes)
    return Material(sequences, outcomes, truth, split(sequences, dataset, truth))
