"""Scores changed histories with the step graphs, many histories at once.

Pure: a bundle and events in, scores out. The graphs are those of serving, and their results do not depend on the batch,
so the score of an unchanged history is, bit for bit, the one that was published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from events.calendar import UTC, Calendar
from events.columns import (
    CONTRACT_COLUMNS,
    CONTRACT_PLACES,
    ages_days,
    categorical_columns,
    numeric_columns,
    occurred_ms,
    time_columns,
)
from events.contract_histories import contract_inputs
from events.types import KINDS, Event, Kind
from model.bundle import Bundle

SMALLEST_PROBABILITY = 1e-7
ROWS_AT_ONCE = 2_048
"""Histories stepped together: their inputs are held in memory."""


@dataclass(frozen=True, eq=False)
class Branch:
    """One user's events of one kind as the step graph's inputs, rows in order of arrival.

    `numeric` float32 `[n, numeric inputs without time columns]`, `categorical` int64 `[n, categories]`, `times_ms`
    int64 `[n]`. `state` is the state after earlier events, float32 `[state width of the kind]`, None if there were
    none; `previous_ms` is the latest of their times, -1 if there were none.
    """

    kind: Kind
    numeric: NDArray[np.float32]
    categorical: NDArray[np.int64]
    times_ms: NDArray[np.int64]
    state: NDArray[np.float32] | None = None
    previous_ms: int = -1

    @classmethod
    def of(
        cls, kind: Kind, events: Sequence[Event], bundle: Bundle, contracts: NDArray[np.float32] | None = None
    ) -> Branch:
        """From events that are all of `kind`; repayments need their `contracts`, as `contracts_of` gives them."""
        times = occurred_ms(events)
        codes = categorical_columns(kind, events, bundle.vocabularies.get(kind, {}))
        numeric = numeric_columns(kind, events, times)
        return cls(kind, np.concatenate([numeric, _checked(kind, contracts, len(times))], axis=1), codes, times)

    def __len__(self) -> int:
        return len(self.times_ms)

    @property
    def latest_ms(self) -> int:
        """Latest time of all its events, -1 without any."""
        return max(self.previous_ms, int(self.times_ms.max(initial=-1)))

    def without(self, rows: int | NDArray[np.int64], contracts: NDArray[np.float32] | None = None) -> Branch:
        """Without one or more events. How contracts stand after the others depends on all: repayments need the
        `contracts` of those that remain."""
        numeric = np.delete(self.numeric, rows, axis=0)
        if self.kind == "repayments":
            numeric[:, CONTRACT_PLACES] = _checked(self.kind, contracts, len(numeric))
        return replace(
            self,
            numeric=numeric,
            categorical=np.delete(self.categorical, rows, axis=0),
            times_ms=np.delete(self.times_ms, rows),
        )

    def since(self, rows: int, state: NDArray[np.float32]) -> Branch:
        """The events after the first `rows`, after which the state is `state`."""
        before = self.times_ms[:rows]
        return replace(
            self,
            numeric=self.numeric[rows:],
            categorical=self.categorical[rows:],
            times_ms=self.times_ms[rows:],
            state=state,
            previous_ms=max(self.previous_ms, int(before.max())) if rows else self.previous_ms,
        )

    def replaced(self, row: int, numeric: NDArray[np.float32], categorical: NDArray[np.int64]) -> Branch:
        """With other values in one row; its time stays, and so do the contracts of later rows."""
        new_numeric, new_categorical = self.numeric.copy(), self.categorical.copy()
        new_numeric[row], new_categorical[row] = numeric, categorical
        return replace(self, numeric=new_numeric, categorical=new_categorical)

    def with_contracts(self, contracts: NDArray[np.float32]) -> Branch:
        """The same repayments with other columns of contracts; the same branch where these are as they were."""
        if np.array_equal(self.numeric[:, CONTRACT_PLACES], contracts, equal_nan=True):
            return self
        numeric = self.numeric.copy()
        numeric[:, CONTRACT_PLACES] = contracts
        return replace(self, numeric=numeric)

    def inputs(self) -> NDArray[np.float32]:
        """Numeric inputs of the step graph, time columns included, float32 `[n, numeric inputs]`."""
        latest = np.maximum.accumulate(np.concatenate([[self.previous_ms], self.times_ms]))
        return np.concatenate([self.numeric, time_columns(self.times_ms, latest[:-1])], axis=1)


History = Mapping[Kind, Branch]
"""One user's events by kind. Branches are independent up to the fusion, so the score after the last event depends on
their interleaving only through the time of the latest event of each."""


def history_of(events: Sequence[Event], bundle: Bundle, calendar: Calendar = UTC) -> dict[Kind, Branch]:
    """The history of one user from all their events, in order of arrival."""
    return {kind: branches_of(kind, [events], bundle, calendar)[0] for kind in KINDS}


def branches_of(
    kind: Kind, histories: Sequence[Sequence[Event]], bundle: Bundle, calendar: Calendar = UTC
) -> list[Branch]:
    """The branch of one kind of each history, which has all of a user's events in order of arrival."""
    of_kind = [[event for event in events if kind == event.KIND] for events in histories]
    if kind != "repayments":
        return [Branch.of(kind, events, bundle) for events in of_kind]
    contracts = contracts_of(histories, bundle, calendar)
    return [Branch.of(kind, events, bundle, each) for events, each in zip(of_kind, contracts, strict=True)]


def changed_histories(
    wholes: Sequence[History],
    kind: Kind,
    changed: Sequence[Sequence[Event]],
    bundle: Bundle,
    calendar: Calendar = UTC,
) -> list[History]:
    """Histories `wholes` with other events of one kind; `changed` are all events of each, of other kinds as they were.

    Contracts grow older with every event, so their columns may be others, too.
    """
    branches = branches_of(kind, changed, bundle, calendar)
    if kind == "repayments":
        return [{**whole, kind: branch} for whole, branch in zip(wholes, branches, strict=True)]
    contracts = contracts_of(changed, bundle, calendar)
    return [
        {**whole, kind: branch, "repayments": whole["repayments"].with_contracts(each)}
        for whole, branch, each in zip(wholes, branches, contracts, strict=True)
    ]


def contracts_of(
    histories: Sequence[Sequence[Event]], bundle: Bundle, calendar: Calendar = UTC
) -> list[NDArray[np.float32]]:
    """`events.columns.CONTRACT_COLUMNS` of the repayments of each history; NaN for a bundle that takes none of them."""
    if bundle.takes("repayments", CONTRACT_COLUMNS):
        return contract_inputs(histories, calendar)
    counts = [sum(event.KIND == "repayments" for event in events) for events in histories]
    return [np.full((count, len(CONTRACT_COLUMNS)), np.nan, dtype=np.float32) for count in counts]


def _checked(kind: Kind, contracts: NDArray[np.float32] | None, rows: int) -> NDArray[np.float32]:
    if kind != "repayments":
        return np.empty((rows, 0), dtype=np.float32)
    if contracts is None:
        raise ValueError("repayments without the columns of their contracts")
    return contracts


def score_histories(bundle: Bundle, histories: Sequence[History]) -> NDArray[np.float32]:
    """Probabilities after the last event of each history, float32 `[n, horizons]`.

    A branch that several histories share (the same object) is stepped once.
    """
    return bundle.score(readouts_of(bundle, histories), ages_of(histories))


def ages_of(histories: Sequence[History]) -> NDArray[np.float32]:
    """Days since the latest event of each kind as of each history's end, float32 `[n, kinds]`, as `Bundle.score` takes
    them."""
    latest_ms = [[history[kind].latest_ms for kind in KINDS] for history in histories]
    return ages_days(np.array(latest_ms, dtype=np.int64).reshape(len(histories), len(KINDS)))


def readouts_of(bundle: Bundle, histories: Sequence[History]) -> NDArray[np.float32]:
    """Readouts after the last event of each history, float32 `[n, readout_width]`."""
    readout = np.zeros((len(histories), bundle.readout_width), dtype=np.float32)
    for kind, part in bundle.readout_slices.items():
        unique: dict[int, Branch] = {id(history[kind]): history[kind] for history in histories}
        row_of = {branch: row for row, branch in enumerate(unique)}
        states = final_states(bundle, kind, list(unique.values()))
        rows = [row_of[id(history[kind])] for history in histories]
        readout[:, part] = states[rows, : bundle.readout_widths[kind]]
    return readout


def final_states(bundle: Bundle, kind: Kind, branches: Sequence[Branch]) -> NDArray[np.float32]:
    """The kind's state after the last event of each branch, float32 `[n, state width of the kind]`."""
    part = bundle.state_slices[kind]
    states = np.zeros((len(branches), part.stop - part.start), dtype=np.float32)
    lengths = np.array([len(branch) for branch in branches], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), ROWS_AT_ONCE):
        chosen = order[start : start + ROWS_AT_ONCE]
        for row in chosen:
            if (known := branches[row].state) is not None:
                states[row] = known
        states[chosen] = _stepped(bundle, kind, [branches[row] for row in chosen], states[chosen])
    return states


def _stepped(bundle: Bundle, kind: Kind, falling: Sequence[Branch], state: NDArray[np.float32]) -> NDArray[np.float32]:
    """States after each branch. The branches are in falling order of length: those with events left are the first."""
    lengths = np.array([len(branch) for branch in falling], dtype=np.int64)
    if not lengths.sum():
        return state
    numeric = np.concatenate([branch.inputs() for branch in falling])
    categorical = np.concatenate([branch.categorical for branch in falling])
    begin = np.cumsum(lengths) - lengths
    for step in range(int(lengths[0])):
        active = int(np.searchsorted(-lengths, -step, side="left"))
        rows = begin[:active] + step
        state[:active], _ = bundle.step(kind, numeric[rows], categorical[rows], np.ascontiguousarray(state[:active]))
    return state


def trace(bundle: Bundle, branch: Branch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """States float32 `[n + 1, state width of the kind]`, before the first event and after each, and the events'
    attention logits float32 `[n]`."""
    part = bundle.state_slices[branch.kind]
    states = np.zeros((len(branch) + 1, part.stop - part.start), dtype=np.float32)
    logits = np.zeros(len(branch), dtype=np.float32)
    if branch.state is not None:
        states[0] = branch.state
    numeric = branch.inputs()
    for row in range(len(branch)):
        states[row + 1], logits[row] = (
            output[0]
            for output in bundle.step(
                branch.kind, numeric[row : row + 1], branch.categorical[row : row + 1], states[row : row + 1]
            )
        )
    return states, logits


def log_odds(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    """Logarithm of p / (1 - p), with p clipped to `SMALLEST_PROBABILITY` from 0 and 1."""
    clipped = np.clip(probability.astype(np.float64), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return np.asarray(np.log(clipped / (1 - clipped)))
