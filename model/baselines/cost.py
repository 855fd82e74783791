"""Cost of a challenger if it were served: microseconds per event and bytes per user.

Assumes a worker that keeps each user's recent events, and on every event computes all window features from them and
scores one row. Measured over a batch of different users, as for the served models, on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.columns import COLUMNS, TIME_COLUMNS
from events.types import KINDS
from model.baselines.timeline import Timeline
from model.histories.sequences import Sequences

BATCH_USERS = 256
REPEATS = 7
TIME_BYTES = 8
CODE_BYTES = 2
TOTAL_BYTES = 8


@dataclass(frozen=True)
class Kept:
    """Which past events a serving form keeps of each user: those of the last `days`, and the `events` latest ones even
    if they are older (`of_each_kind`: the latest of each kind). `totals` are running totals over the whole history."""

    days: float = 0.0
    events: int = 1
    of_each_kind: bool = False
    totals: int = 0


def us_per_event(
    sequences: Sequences, users: NDArray[np.int64], score: Callable[[Sequences, NDArray[np.int64]], object], kept: Kept
) -> float:
    """Microseconds that `score(sequences, rows)` takes per event: the best of `REPEATS` batches.

    A batch is the last event of up to `BATCH_USERS` of `users` (spread evenly), with the history that is `kept`.
    Reading events, serialising scores and storing the state are not included; nor are running totals, which an event
    changes by one addition each.
    """
    with_events = users[np.diff(sequences.merged_starts)[users] > 0]
    chosen = with_events[np.linspace(0, len(with_events) - 1, min(BATCH_USERS, len(with_events))).astype(np.int64)]
    held = recent(sequences, chosen, kept)
    rows = held.merged_starts[1:] - 1
    best = np.inf
    for _ in range(REPEATS):
        started = time.perf_counter()
        score(held, rows)
        best = min(best, time.perf_counter() - started)
    return best / len(rows) * 1e6


def state_bytes(sequences: Sequences, users: NDArray[np.int64], kept: Kept) -> int:
    """Bytes per user that the next event needs: median over `users`, as of their last event.

    An event is its numbers (float32), codes (2 bytes) and time (8 bytes); a running total is 8 bytes.
    """
    held = recent(sequences, users[np.diff(sequences.merged_starts)[users] > 0], kept)
    size = [
        4 * (len(COLUMNS[kind].numeric_inputs) - len(TIME_COLUMNS)) + CODE_BYTES * len(COLUMNS[kind].categorical)
        for kind in KINDS
    ]
    counts = np.stack([np.diff(held.starts[kind]) for kind in KINDS], axis=1)
    per_user = counts @ (np.array(size) + TIME_BYTES)
    return (int(np.median(per_user)) if len(per_user) else 0) + TOTAL_BYTES * kept.totals


def recent(sequences: Sequences, users: NDArray[np.int64], kept: Kept) -> Sequences:
    """The part of the histories of `users` (each with events) that is `kept` after their last event."""
    timeline = Timeline(sequences, users)
    last = np.cumsum(np.diff(sequences.merged_starts)[users])[timeline.owner] - 1
    late = np.arange(len(timeline)) >= timeline.begin(last, kept.days)
    if kept.of_each_kind:
        kind = timeline.kinds
        arrived = sequences.latest[timeline.rows]
        everything = sequences.latest[timeline.rows[last], kind]
        late |= arrived[np.arange(len(timeline)), kind] > everything - kept.events
    else:
        late |= np.arange(len(timeline)) > last - kept.events
    return _only(sequences, users, timeline.rows[late], timeline.owner[late])


def _only(
    sequences: Sequences, users: NDArray[np.int64], rows: NDArray[np.int64], owner: NDArray[np.int64]
) -> Sequences:
    """Histories that hold the merged `rows` alone; `owner` is each one's position in `users`."""
    numeric, categorical, starts = {}, {}, {}
    kinds = sequences.kinds[rows]
    latest = np.zeros((len(rows), len(KINDS)), dtype=np.int32)
    for position, kind in enumerate(KINDS):
        of_kind = kinds == position
        own = sequences.starts[kind][users[owner[of_kind]]] + sequences.latest[rows[of_kind], position] - 1
        numeric[kind], categorical[kind] = sequences.numeric[kind][own], sequences.categorical[kind][own]
        if kind == "repayments":
            contract_place = sequences.contract_place[own]
        starts[kind] = np.searchsorted(owner[of_kind], np.arange(len(users) + 1))
        latest[:, position] = np.cumsum(of_kind) - starts[kind][owner]
    return Sequences(
        user_ids=[sequences.user_ids[user] for user in users],
        numeric=numeric,
        categorical=categorical,
        starts=starts,
        merged_starts=np.searchsorted(owner, np.arange(len(users) + 1)),
        kinds=kinds,
        times_ms=sequences.times_ms[rows],
        latest=latest,
        days_past_due=sequences.days_past_due[rows],
        written_off=sequences.written_off[rows],
        contract_place=contract_place,
        vocabularies=sequences.vocabularies,
        fingerprint=sequences.fingerprint,
    )
