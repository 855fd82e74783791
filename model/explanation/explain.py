"""Why one user's score is what it is, exactly: attention, what each recent event did, and what would lower the score.

Pure: a bundle and the user's events in, figures out; no broker, no torch, no alert policy. Every figure comes from the
served graphs on a changed history (`model.explanation.rescoring`), without approximation. The reasons of an alert
(`stream.scoring.explanation`) are an estimate of the same, made without the history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.calendar import UTC, Calendar
from events.columns import CONTRACT_COLUMNS, ages_days, occurred_ms
from events.contract_histories import ContractHistories
from events.counterfactuals import COUNTERFACTUALS, without_cause
from events.reasons import CATALOGUE
from events.types import KINDS, Event, Kind
from model.bundle import Bundle
from model.explanation.rescoring import Branch, History, changed_histories, history_of, score_histories, trace

RECENT_EVENTS = 30
MOST_LEFT_OUT = 8
"""Events that are left out together, at most, in search of a score below the threshold."""


@dataclass(frozen=True)
class Influence:
    """The influence of one event on the score.

    `position` is its place among the user's events. `attention` is its share of the attention over all the user's
    events of its kind. `dropped` is the score without it; `normal` the score with the user's usual event of its sort in
    its place, None without earlier events.
    """

    position: int
    event: Event
    attention: float
    dropped: float
    normal: float | None


@dataclass(frozen=True)
class Cause:
    """The score without a cause of the catalogue (`events.counterfactuals`)."""

    code: str
    score: float


@dataclass(frozen=True)
class CounterfactualEvents:
    """Recent events without which the score would be `score`. `suffices`: whether that is below the threshold."""

    positions: tuple[int, ...]
    score: float
    suffices: bool


@dataclass(frozen=True)
class Explanation:
    """Explanation of the score after the last of `events`; all scores are probabilities at the headline horizon.

    `scores` float32 `[n]` after each event. `attention` per kind float64 `[events of the kind]`: shares that sum to 1.
    `recent`, latest first; `causes`, lowest score first; `counterfactual` is None where the score is below the
    threshold.
    """

    events: Sequence[Event]
    scores: NDArray[np.float32]
    threshold: float
    attention: Mapping[Kind, NDArray[np.float64]]
    recent: list[Influence]
    causes: list[Cause]
    counterfactual: CounterfactualEvents | None

    @property
    def score(self) -> float:
        """The score that is explained."""
        return float(self.scores[-1])


def explain(
    bundle: Bundle,
    events: Sequence[Event],
    *,
    recent: int = RECENT_EVENTS,
    threshold: float | None = None,
    calendar: Calendar = UTC,
) -> Explanation:
    """Explain the score after the last of one user's events, given in the order in which they were scored.

    `recent` events are tried one by one; `threshold` is the bundle's for MEDIUM unless given. `calendar` is the one
    that the events were scored by. Raises `ValueError`
    without events.
    """
    if not events:
        raise ValueError("there is no event to explain a score with")
    past = _Scored.of(bundle, events, recent, calendar)
    bar = bundle.thresholds.medium if threshold is None else threshold
    influences = past.influences()
    return Explanation(
        events=events,
        scores=past.scores,
        threshold=bar,
        attention=past.attention,
        recent=influences,
        causes=past.causes(),
        counterfactual=past.counterfactual(bar),
    )


@dataclass(frozen=True, eq=False)
class _Scored:
    """A user's history with the states after its events. `tail` is the history from the first recent event on."""

    bundle: Bundle
    events: Sequence[Event]
    row_of: NDArray[np.int64]  # of each event among those of its kind
    recent: range  # positions of the recent events
    whole: dict[Kind, Branch]
    tail: dict[Kind, Branch]
    scores: NDArray[np.float32]
    attention: dict[Kind, NDArray[np.float64]]
    calendar: Calendar
    contracts: ContractHistories  # as they stood before the recent events

    @classmethod
    def of(cls, bundle: Bundle, events: Sequence[Event], recent: int, calendar: Calendar) -> _Scored:
        kinds = np.array([KINDS.index(event.KIND) for event in events])
        counts = np.cumsum(kinds[:, None] == np.arange(len(KINDS)), axis=0)
        window = range(max(0, len(events) - recent), len(events))
        whole = history_of(events, bundle, calendar)
        contracts, before = ContractHistories(calendar), events[: window.start]
        contracts.take(np.zeros(len(before), dtype=np.int64), occurred_ms(before), before)
        tail: dict[Kind, Branch] = {}
        attention: dict[Kind, NDArray[np.float64]] = {}
        readouts = []
        latest_ms = np.full((len(events), len(KINDS)), -1, dtype=np.int64)
        for number, (kind, branch) in enumerate(whole.items()):
            states, logits = trace(bundle, branch)
            done = int(counts[window.start - 1, number]) if window.start else 0
            tail[kind] = branch.since(done, states[done])
            attention[kind] = _shares(logits)
            latest_ms[:, number] = np.maximum.accumulate([-1, *branch.times_ms])[counts[:, number]]
            readouts.append(states[counts[:, number], : bundle.readout_widths[kind]])
        scores = bundle.score(np.concatenate(readouts, axis=1), ages_days(latest_ms))[:, bundle.headline]
        row_of = counts[np.arange(len(events)), kinds] - 1
        return cls(bundle, events, row_of, window, whole, tail, scores, attention, calendar, contracts)

    def influences(self) -> list[Influence]:
        dropped = self._score(self._without([(position,) for position in self.recent]))
        usual = {position: self._usual(position) for position in self.recent}
        changed = [position for position, history in usual.items() if history is not None]
        normal = dict(
            zip(changed, self._score([history for history in usual.values() if history is not None]), strict=True)
        )
        return [
            Influence(
                position,
                self.events[position],
                float(self.attention[self.events[position].KIND][self.row_of[position]]),
                dropped[position - self.recent.start],
                normal.get(position),
            )
            for position in reversed(self.recent)
        ]

    def causes(self) -> list[Cause]:
        codes: list[str] = []
        histories: list[History] = []
        for code in COUNTERFACTUALS:
            kind, without = CATALOGUE[code].kind, without_cause(code, self.events)
            if without is not None and kind is not None:
                codes.append(code)
                histories += changed_histories([self.whole], kind, [without], self.bundle, self.calendar)
        found = [Cause(code, score) for code, score in zip(codes, self._score(histories), strict=True)]
        return sorted(found, key=lambda cause: cause.score)

    def counterfactual(self, threshold: float) -> CounterfactualEvents | None:
        """Leave out, one after another, the recent event without which the score is lowest, until it is below
        `threshold`."""
        score = float(self.scores[-1])
        if score < threshold:
            return None
        left_out: tuple[int, ...] = ()
        while score >= threshold and len(left_out) < min(MOST_LEFT_OUT, len(self.recent)):
            rest = [position for position in self.recent if position not in left_out]
            found = self._score(self._without([(*left_out, position) for position in rest]))
            best = int(np.argmin(found))
            if found[best] >= score:
                break
            score, left_out = found[best], (*left_out, rest[best])
        return CounterfactualEvents(left_out, score, score < threshold)

    def _without(self, left_out: Sequence[tuple[int, ...]]) -> list[History]:
        """The history without the events at some positions, for each of several choices of them."""
        rests = [[self.events[each] for each in self.recent if each not in positions] for positions in left_out]
        contracts = self._contracts_of(rests)
        histories: list[History] = []
        for positions, of_contracts in zip(left_out, contracts, strict=True):
            rows: dict[Kind, list[int]] = {}
            for position in positions:
                rows.setdefault(self.events[position].KIND, []).append(self._row_in_tail(position))
            gone = {kind: np.array(each, dtype=np.int64) for kind, each in rows.items()}
            changed = {
                kind: self.tail[kind].without(each, of_contracts if kind == "repayments" else None)
                for kind, each in gone.items()
            }
            if "repayments" not in changed:
                changed["repayments"] = self.tail["repayments"].with_contracts(of_contracts)
            histories.append({**self.tail, **changed})
        return histories

    def _contracts_of(self, rests: Sequence[Sequence[Event]]) -> list[NDArray[np.float32]]:
        """The columns of contracts of the repayments in each of several courses of the recent events."""
        counts = [sum(event.KIND == "repayments" for event in rest) for rest in rests]
        if not self.bundle.takes("repayments", CONTRACT_COLUMNS):
            return [np.full((count, len(CONTRACT_COLUMNS)), np.nan, dtype=np.float32) for count in counts]
        events = [event for rest in rests for event in rest]
        course = np.repeat(np.arange(len(rests)), [len(rest) for rest in rests])
        followed, _ = self.contracts.copies(len(rests)).take(course, occurred_ms(events), events)
        return np.split(followed.inputs, np.cumsum(counts)[:-1])

    def _usual(self, position: int) -> History | None:
        """The history with the event replaced by a usual one of its sort; None without earlier events of its kind.

        Events are of one sort when their kind and its first category are equal. The usual event has the medians and the
        most frequent categories of the user's earlier events of the sort, or of the whole kind if there are none.
        """
        kind = self.events[position].KIND
        branch, tail = self.whole[kind], self.tail[kind]
        earlier = len(branch) - len(tail)
        if not earlier:
            return None
        row = int(self.row_of[position])
        alike = np.flatnonzero(branch.categorical[:earlier, 0] == branch.categorical[row, 0])
        rows = alike if len(alike) else np.arange(earlier)
        numeric = np.array([_median(column) for column in branch.numeric[rows].T], dtype=np.float32)
        codes = np.array([np.bincount(column).argmax() for column in branch.categorical[rows].T], dtype=np.int64)
        return {**self.tail, kind: tail.replaced(self._row_in_tail(position), numeric, codes)}

    def _row_in_tail(self, position: int) -> int:
        kind = self.events[position].KIND
        return int(self.row_of[position]) - (len(self.whole[kind]) - len(self.tail[kind]))

    def _score(self, histories: Sequence[History]) -> list[float]:
        scores: list[float] = score_histories(self.bundle, histories)[:, self.bundle.headline].tolist()
        return scores


def _shares(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    if not len(logits):
        return np.zeros(0)
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum())


def _median(column: NDArray[np.float32]) -> float:
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) else float("nan")
