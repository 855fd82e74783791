"""Scores and alerts as published: from the scorer's columns to JSON. Pure; sends nothing."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.contracts import STATUSES
from model.bundle import Bundle
from stream.alerts.policy import AlertPolicy
from stream.alerts.state_machine import Decision, transition_kind, trigger_names
from stream.outputs import (
    LEVELS,
    Alert,
    AlertKind,
    ContractStanding,
    Explanation,
    Score,
    caused_id,
    coordinate,
    encode_output,
    moment_of,
)
from stream.scoring.borrowers import Borrowers
from stream.scoring.intake import Taken
from stream.topics import Topics

KeyedValue = tuple[bytes, bytes]

_STATUS_NAMES = (*STATUSES, None)
"""By status; -1, of a user without any contract, is the last."""

SCORES_AT_ONCE = 256
"""Scores made and encoded together: so few that they stay in the processor's cache throughout."""


@dataclass(frozen=True)
class ScoredColumns:
    """The columns `[n]` of a batch's scores, filled wave by wave.

    `sequence` int64: the user's count of scored events. `probabilities` float32 `[n, horizons]`. `level` uint8.
    `baseline`, `delta`, `days_past_due` float32, the last NaN when not known. `status` int8, `contracts` uint8,
    `exposure`, `amount_overdue` float64 as in `stream.scoring.borrowers.Borrowers`.
    """

    sequence: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    level: NDArray[np.uint8]
    baseline: NDArray[np.float32]
    delta: NDArray[np.float32]
    days_past_due: NDArray[np.float32]
    status: NDArray[np.int8]
    contracts: NDArray[np.uint8]
    exposure: NDArray[np.float64]
    amount_overdue: NDArray[np.float64]

    @classmethod
    def empty(cls, sequence: NDArray[np.int64], horizons: int) -> ScoredColumns:
        """Columns to be filled."""
        size = len(sequence)
        floats = [np.empty(size, dtype=np.float32) for _ in range(3)]
        return cls(
            sequence,
            np.empty((size, horizons), dtype=np.float32),
            np.empty(size, dtype=np.uint8),
            floats[0],
            floats[1],
            floats[2],
            np.empty(size, dtype=np.int8),
            np.empty(size, dtype=np.uint8),
            np.empty(size),
            np.empty(size),
        )

    def fill(self, where: slice, probabilities: NDArray[np.float32], decision: Decision, borrowers: Borrowers) -> None:
        """Store the results of a wave at `where`."""
        self.probabilities[where] = probabilities
        self.level[where] = decision.level
        self.baseline[where] = decision.baseline
        self.delta[where] = decision.delta
        self.days_past_due[where] = decision.days_past_due
        self.status[where] = borrowers.status
        self.contracts[where] = borrowers.contracts
        self.exposure[where] = borrowers.exposure
        self.amount_overdue[where] = borrowers.amount_overdue

    def at(self, positions: NDArray[np.int64] | slice) -> ScoredColumns:
        """The columns at `positions`, in that order."""
        return ScoredColumns(
            self.sequence[positions],
            self.probabilities[positions],
            self.level[positions],
            self.baseline[positions],
            self.delta[positions],
            self.days_past_due[positions],
            self.status[positions],
            self.contracts[positions],
            self.exposure[positions],
            self.amount_overdue[positions],
        )


class OutputEncoder:
    """Writes scores and alerts for one bundle and policy."""

    def __init__(self, bundle: Bundle, policy: AlertPolicy, topics: Topics, loss_given_default: float) -> None:
        self._loss_given_default = loss_given_default
        self._headline = bundle.headline
        self.model = bundle.fingerprint_hex
        self._policy = policy.version
        self._inputs = topics.inputs
        # Built for every event: a struct with these fields is several times faster to make and encode than a dict.
        self._horizons = msgspec.defstruct(
            "Horizons",
            [(f"in_{days}_days", float, msgspec.field(name=str(days))) for days in bundle.horizons_days],
            frozen=True,
            gc=False,
        )
        self._encode_lines = msgspec.json.Encoder().encode_lines

    def write_scores(
        self, taken: Sequence[Taken], found: ScoredColumns, scores: dict[int, list[tuple[bytes, bytes]]]
    ) -> None:
        """Append each event's score to its partition's list."""
        for start in range(0, len(taken), SCORES_AT_ONCE):
            piece = slice(start, start + SCORES_AT_ONCE)
            self._write_piece(taken[piece], found.at(piece), scores)

    def _write_piece(
        self, taken: Sequence[Taken], found: ScoredColumns, scores: dict[int, list[tuple[bytes, bytes]]]
    ) -> None:
        """Append the scores of a few events, made and encoded together for speed: there is one for every event."""
        topics = [self._inputs[item.kind_no] for item in taken]
        partitions = [item.partition for item in taken]
        offsets = [item.offset for item in taken]
        horizons = found.probabilities.T.tolist()
        made = map(
            Score,
            map(coordinate, topics, partitions, offsets),
            [item.event.event_id for item in taken],
            [item.event.user_id for item in taken],
            [utc(item.event.occurred_at) for item in taken],
            found.sequence.tolist(),
            horizons[self._headline],
            map(self._horizons, *horizons),
            map(LEVELS.__getitem__, found.level.tolist()),
            found.baseline.tolist(),
            found.delta.tolist(),
            found.days_past_due.tolist(),  # NaN is encoded as null
            topics,
            partitions,
            offsets,
            itertools.repeat(self.model, len(taken)),
            map(_STATUS_NAMES.__getitem__, found.status.tolist()),
            found.contracts.tolist(),
            found.exposure.tolist(),
            found.amount_overdue.tolist(),
            (
                found.probabilities[:, self._headline].astype(np.float64) * found.exposure * self._loss_given_default
            ).tolist(),
        )
        values = self._encode_lines(list(made)).split(b"\n")  # JSON has no line break of its own
        lists = {partition: scores.setdefault(partition, []) for partition in set(partitions)}
        for item, partition, value in zip(taken, partitions, values, strict=False):
            lists[partition].append((item.key, value))

    def write_alert(
        self,
        item: Taken,
        decision: Decision,
        row: int,
        *,
        score: float,
        sequence: int,
        reference_pd: float,
        explanation: Explanation | None,
        borrowers: Borrowers,
        contracts: list[ContractStanding],
        alerts: dict[int, list[tuple[bytes, bytes]]],
    ) -> AlertKind:
        """Append the alert of row `row` of a decision, caused by the event `item`; returns its kind."""
        state = decision.state[row]
        user_id = item.event.user_id
        opened_by = coordinate(
            self._inputs[int(state["opened_topic"])], int(state["opened_partition"]), int(state["opened_offset"])
        )
        source = coordinate(self._inputs[item.kind_no], item.partition, item.offset)
        alert_id = caused_id("alert", user_id, opened_by)
        kind = transition_kind(int(decision.transition[row]))
        exposure = float(borrowers.exposure[row])
        alert = Alert(
            transition_id=caused_id("transition", alert_id, source),
            alert_id=alert_id,
            user_id=user_id,
            kind=kind,
            occurred_at=moment_of(int(decision.time_ms[row])),
            opened_at=moment_of(int(state["opened_ms"])),
            level_from=LEVELS[int(decision.level_from[row])],
            level_to=LEVELS[int(decision.level_to[row])],
            score=score,
            baseline=float(decision.baseline[row]),
            delta=float(decision.delta[row]),
            reference_pd=known(reference_pd),
            days_past_due=known(float(decision.days_past_due[row])),
            triggers=trigger_names(int(decision.triggers[row])),
            reasons=explanation.reasons if explanation else [],
            weighed_most=explanation.weighed_most if explanation else [],
            sequence=sequence,
            source_topic=self._inputs[item.kind_no],
            source_partition=item.partition,
            source_offset=item.offset,
            policy=self._policy,
            model=self.model,
            status=_STATUS_NAMES[int(borrowers.status[row])],
            exposure=known(exposure),
            amount_overdue=known(float(borrowers.amount_overdue[row])),
            expected_loss=known(score * exposure * self._loss_given_default),
            contracts=contracts,
        )
        alerts.setdefault(item.partition, []).append((item.key, encode_output(alert)))
        return kind


def utc(moment: dt.datetime) -> dt.datetime:
    """The same moment in UTC."""
    return moment if moment.tzinfo is dt.UTC else moment.astimezone(dt.UTC)


def known(value: float) -> float | None:
    """A number, or None for NaN."""
    return None if value != value else value
