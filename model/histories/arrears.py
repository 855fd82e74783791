"""Arrears as they were known at each event, and the events whose scores a source judges.

Days past due are those of the one rule (`events.contracts`), which `Sequences` has for every event. Uses what was known
at the event, never the truth about the user. Needs numpy alone.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from events.columns import COLUMNS
from events.contracts import SERIOUS_DAYS
from events.types import KINDS, Kind
from model.datasets.dataset import Dataset
from model.histories.sequences import Sequences


@runtime_checkable
class AsksWhileCurrent(Protocol):
    """A data set that says whether its scores are judged only while a loan is current, that is, nothing is overdue."""

    @property
    def only_while_current(self) -> bool:
        """Whether events in arrears are history only: neither examples in training nor judged."""
        ...


def judged_events(dataset: Dataset, sequences: Sequences) -> NDArray[np.bool_] | None:
    """The events that the data set judges, bool `[N]` in merged order; None where it judges all.

    A borrower who is serious on any contract, or of whom one is written off, is not at risk again: nothing is to be
    predicted there. Where the question is asked only while a loan is current, neither the rule nor the latest report
    may say that anything is overdue, and before the first repayment event that is not known. A source with a label of
    its own asks about every client, whatever their arrears.
    """
    asks_while_current = isinstance(dataset, AsksWhileCurrent) and dataset.only_while_current
    if not asks_while_current and _has_labels(dataset):
        return None
    judged: NDArray[np.bool_] = ~is_serious(sequences)
    if asks_while_current:
        judged &= (sequences.days_past_due <= 0) & ~(stated_days_past_due(sequences) > 0)
    return None if judged.all() else judged


def is_serious(sequences: Sequences) -> NDArray[np.bool_]:
    """Whether the user's worst contract is serious or written off right after each event, bool `[N]`."""
    serious: NDArray[np.bool_] = (sequences.days_past_due >= SERIOUS_DAYS) | sequences.written_off
    return serious


def stated_days_past_due(sequences: Sequences) -> NDArray[np.float64]:
    """The number of days past due that the user's events stated last, float64 `[N]`; NaN before the first.

    That is one contract's, at the time of its event; how late a borrower is, is `Sequences.days_past_due`.
    """
    column = sequences.numeric["repayments"][:, COLUMNS["repayments"].numeric_inputs.index("days_past_due")]
    return latest_known(sequences, "repayments", column.astype(np.float64))


def _has_labels(dataset: Dataset) -> bool:
    return any(outcome.label is not None for outcome in dataset.outcomes().values())


def latest_known(sequences: Sequences, kind: Kind, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The latest value that is not NaN among the user's events of `kind` so far, per event, float64 `[N]`."""
    starts = sequences.starts[kind]
    own_start = np.repeat(starts[:-1], np.diff(starts))
    known_at = np.maximum.accumulate(np.where(np.isnan(values), -1, np.arange(len(values))))
    carried = np.append(np.where(known_at >= own_start, values[np.maximum(known_at, 0)], np.nan), np.nan)
    arrived = sequences.latest[:, KINDS.index(kind)].astype(np.int64)
    row = starts[sequences.user_of_event] + arrived - 1
    latest: NDArray[np.float64] = carried[np.where(arrived > 0, row, len(values))]
    return latest
