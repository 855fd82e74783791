"""A data set's events as a producer sends them, in the order of event time or as a topic may get them."""

from __future__ import annotations

from collections.abc import Iterator

from events.types import KeyedEvent, keyed
from model.datasets.dataset import Dataset
from model.datasets.simulator import Simulator
from model.datasets.simulator.arrivals import delivered


def keyed_events_of(dataset: Dataset) -> Iterator[KeyedEvent]:
    """A data set's events as they are published. The simulator's own encoding is faster, with the same bytes."""
    return dataset.keyed_events() if isinstance(dataset, Simulator) else keyed(dataset.events())


def arrivals_of(dataset: Dataset, late_share: float, twice_share: float, seed: int) -> Iterator[KeyedEvent]:
    """A data set's events as a topic may get them: a share of them late, and so out of order, and a share twice.

    Without shares these are exactly `keyed_events_of`. Equal arguments give equal arrivals.
    """
    in_order = keyed_events_of(dataset)
    return delivered(in_order, seed, late_share, twice_share) if late_share or twice_share else in_order
