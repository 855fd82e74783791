"""Arrears as they were known at each event, and the events whose scores a source judges.

Uses what was known at the event, never the truth about the user. Needs numpy alone.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from events.columns import COLUMNS
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

    Before the first repayment event it is not known whether a loan is current, so those events are not judged.
    """
    if isinstance(dataset, AsksWhileCurrent) and dataset.only_while_current:
        current: NDArray[np.bool_] = days_past_due(sequences) <= 0
        return current
    return None


def days_past_due(sequences: Sequences) -> NDArray[np.float64]:
    """The user's latest known days past due right after each event, float64 `[N]`; NaN before the first."""
    column = sequences.numeric["repayments"][:, COLUMNS["repayments"].numeric_inputs.index("days_past_due")]
    return latest_known(sequences, "repayments", column.astype(np.float64))


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
