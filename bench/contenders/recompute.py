"""The worker's own model without its state: for each event, every event of the user so far goes through it again.

It batches as the worker does: the histories of a whole poll advance together, one step of each at a time. Compared with
the worker it shows the gain from keeping the state; compared with the per-event contenders, the gain from batching.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contenders import bare
from bench.contenders.task import Task, score_bytes
from events.columns import ages_days, categorical_columns, numeric_columns, occurred_ms, time_columns
from events.contract_histories import ContractHistories
from events.types import KINDS, Event, Kind
from model.bundle import Bundle

POLL_RECORDS = 512
"""Enough for full batches, and few enough that a slow contender publishes often."""


class History:
    """Model inputs of one kind's events, and per user which of them are theirs, in order of arrival."""

    def __init__(self, bundle: Bundle, kind: Kind) -> None:
        self._bundle = bundle
        self._kind: Kind = kind
        self._numeric: list[NDArray[np.float32]] = []
        self._categorical: list[NDArray[np.int64]] = []
        self._latest_ms: dict[str, int] = {}
        self.of_user: dict[str, list[int]] = {}

    def add(self, events: Sequence[Event], contracts: NDArray[np.float32]) -> None:
        """Events of this kind, in order; `contracts` are the columns of `events.contract_columns` of repayments."""
        if not events:
            return
        times_ms = occurred_ms(events)
        previous_ms = np.empty(len(events), dtype=np.int64)
        for position, (event, time_ms) in enumerate(zip(events, times_ms.tolist(), strict=True)):
            previous_ms[position] = before_ms = self._latest_ms.get(event.user_id, -1)
            self._latest_ms[event.user_id] = max(before_ms, time_ms)
            self.of_user.setdefault(event.user_id, []).append(len(self._numeric) + position)
        columns = np.concatenate(
            (numeric_columns(self._kind, events, times_ms), contracts, time_columns(times_ms, previous_ms)), axis=1
        )
        self._numeric.extend(columns)
        self._categorical.extend(categorical_columns(self._kind, events, self._bundle.vocabularies.get(self._kind, {})))

    def latest_ms(self, user_id: str) -> int:
        """Time of the user's latest event of this kind, -1 without any."""
        return self._latest_ms.get(user_id, -1)

    def states(self, histories: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """State after each history (numbers of events, in order), from zeros: float32 `[histories, kind's width]`."""
        part = self._bundle.state_slices[self._kind]
        order = sorted(range(len(histories)), key=lambda row: -len(histories[row]))
        state = np.zeros((len(histories), part.stop - part.start), dtype=np.float32)
        active = len(order)
        for step in range(len(histories[order[0]]) if order else 0):
            while active and len(histories[order[active - 1]]) <= step:
                active -= 1
            numbers = [histories[row][step] for row in order[:active]]
            state[:active], _ = self._bundle.step(
                self._kind,
                np.array([self._numeric[number] for number in numbers]),
                np.array([self._categorical[number] for number in numbers]),
                np.ascontiguousarray(state[:active]),
            )
        unordered = np.empty_like(state)
        unordered[order] = state
        return unordered


class Recomputation:
    """Scores each event from all of the user's events so far."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._histories = {kind: History(bundle, kind) for kind in KINDS}
        self._contracts = ContractHistories()
        self._users: dict[str, int] = {}

    def score(self, events: Sequence[Event]) -> NDArray[np.float32]:
        """Probabilities after each event, in the order given: float32 `[n, horizons]`."""
        rows: list[dict[Kind, list[int]]] = []
        latest_ms = np.empty((len(events), len(KINDS)), dtype=np.int64)
        users = np.array([self._users.setdefault(event.user_id, len(self._users)) for event in events], dtype=np.int64)
        contracts = iter(self._contracts.take(users, occurred_ms(events), events)[0].inputs[:, None])
        nothing = np.empty((1, 0), dtype=np.float32)
        for position, event in enumerate(events):
            self._histories[event.KIND].add([event], next(contracts) if event.KIND == "repayments" else nothing)
            latest_ms[position] = [history.latest_ms(event.user_id) for history in self._histories.values()]
            rows.append(
                {kind: list(history.of_user.get(event.user_id, ())) for kind, history in self._histories.items()}
            )
        states = [self._histories[kind].states([row[kind] for row in rows]) for kind in KINDS]
        return self._bundle.score(self._bundle.readout_of(np.concatenate(states, axis=1)), ages_days(latest_ms))


def main() -> None:
    task = Task.from_command_line()
    decoders = task.decoders
    model = Recomputation(Bundle.load(Path(task.bundle)))

    def compute(polled: Mapping[Any, Sequence[Any]]) -> dict[int, bare.KeyedValues]:
        taken = [
            (decoders[tp.topic](record.value), tp.topic, tp.partition, record)
            for tp, records in polled.items()
            for record in records
        ]
        scores = model.score([event for event, *_ in taken]).tolist()
        outputs: dict[int, bare.KeyedValues] = {}
        for (event, topic, partition, record), horizons in zip(taken, scores, strict=True):
            value = score_bytes(event, topic, partition, record.offset, horizons)
            outputs.setdefault(partition, []).append((record.key, value))
        return outputs

    bare.run(task, compute, POLL_RECORDS)


if __name__ == "__main__":
    main()
