"""Scores and alerts as published: from the scorer's columns to JSON. Pure; sends nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from stream.alerts import Decision, transition_kind, trigger_names
from stream.intake import Taken
from stream.outputs import (
    LEVELS,
    Alert,
    AlertKind,
    Reason,
    Score,
    WeighedEvent,
    caused_id,
    coordinate,
    encode_output,
)
from stream.policy import AlertPolicy
from stream.topics import Topics

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Moment:
    """What is true right after each event of a batch, columns `[n]` in the batch's order.

    `attention` float32: the event's own logit. `readout` float32 `[n, readout_width]`. `facts` FACTS `[n]`.
    `reference_pd` and `days_past_due` float32, NaN when not known or not stated. `sequence` int64: the user's count of scored events.
    """

    taken: Sequence[Taken]
    sequence: NDArray[np.int64]
    attention: NDArray[np.float32]
    readout: NDArray[np.float32]
    facts: NDArray[np.void]
    reference_pd: NDArray[np.float32]
    days_past_due: NDArray[np.float32]


@dataclass(frozen=True)
class Explanation:
    """Why one alert was raised."""

    reasons: list[Reason]
    weighed_most: list[WeighedEvent]


class Publication:
    """Writes scores and alerts for one bundle and policy."""

    def __init__(self, bundle: Bundle, policy: AlertPolicy, topics: Topics) -> None:
        self._horizons = [str(days) for days in bundle.horizons_days]
        self._headline = bundle.headline
        self._model = bundle.fingerprint_hex
        self._policy = policy.version
        self._inputs = topics.inputs
        self._encode = msgspec.json.Encoder().encode

    def write_scores(
        self,
        moment: Moment,
        probabilities: NDArray[np.float32],
        decided: DecidedColumns,
        scores: dict[int, list[tuple[bytes, bytes]]],
    ) -> None:
        """Append each event's score to its partition's list."""
        encode, horizons, headline, model, inputs = (
            self._encode, self._horizons, self._headline, self._model, self._inputs,
        )  # fmt: skip
        for item, sequence, row, level, baseline, delta, days_past_due in zip(
            moment.taken,
            moment.sequence.tolist(),
            probabilities.tolist(),
            decided.level.tolist(),
            decided.baseline.tolist(),
            decided.delta.tolist(),
            decided.days_past_due.tolist(),
            strict=True,
        ):
            topic = inputs[item.kind_no]
            score = Score(
                score_id=coordinate(topic, item.partition, item.offset),
                event_id=item.event.event_id,
                user_id=item.event.user_id,
                occurred_at=item.event.occurred_at.astimezone(dt.UTC),
                sequence=sequence,
                score=row[headline],
                horizons=dict(zip(horizons, row, strict=True)),
                level=LEVELS[level],
                baseline=baseline,
                delta=delta,
                days_past_due=known(days_past_due),
                source_topic=topic,
                source_partition=item.partition,
                source_offset=item.offset,
                model=model,
            )
            scores.setdefault(item.partition, []).append((item.key, encode(score)))

    def write_alert(
        self,
        moment: Moment,
        position: int,
        decision: Decision,
        row: int,
        score: float,
        explanation: Explanation | None,
        alerts: dict[int, list[tuple[bytes, bytes]]],
    ) -> AlertKind:
        """Append the alert of row `row` of a decision, caused by the event at `position`; returns what it was."""
        item = moment.taken[position]
        state = decision.state[row]
        user_id = item.event.user_id
        opened_by = coordinate(
            self._inputs[int(state["opened_topic"])], int(state["opened_partition"]), int(state["opened_offset"])
        )
        source = coordinate(self._inputs[item.kind_no], item.partition, item.offset)
        alert_id = caused_id("alert", user_id, opened_by)
        kind = transition_kind(int(decision.transition[row]))
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
            reference_pd=known(float(moment.reference_pd[position])),
            days_past_due=known(float(decision.days_past_due[row])),
            triggers=trigger_names(int(decision.triggers[row])),
            reasons=explanation.reasons if explanation else [],
            weighed_most=explanation.weighed_most if explanation else [],
            sequence=int(moment.sequence[position]),
            source_topic=self._inputs[item.kind_no],
            source_partition=item.partition,
            source_offset=item.offset,
            policy=self._policy,
            model=self._model,
        )
        alerts.setdefault(item.partition, []).append((item.key, encode_output(alert)))
        return kind


@dataclass(frozen=True)
class DecidedColumns:
    """The alert policy's view of each event of a batch, columns `[n]`, filled wave by wave."""

    level: NDArray[np.uint8]
    baseline: NDArray[np.float32]
    delta: NDArray[np.float32]
    days_past_due: NDArray[np.float32]

    @classmethod
    def empty(cls, size: int) -> DecidedColumns:
        floats = [np.empty(size, dtype=np.float32) for _ in range(3)]
        return cls(np.empty(size, dtype=np.uint8), *floats)

    def fill(self, wave: NDArray[np.int64], decision: Decision) -> None:
        self.level[wave] = decision.level
        self.baseline[wave] = decision.baseline
        self.delta[wave] = decision.delta
        self.days_past_due[wave] = decision.days_past_due


def known(value: float) -> float | None:
    """A number, or None for NaN."""
    return None if value != value else value


def moment_of(ms: int) -> dt.datetime:
    """UTC time of milliseconds since 1970-01-01."""
    return EPOCH + dt.timedelta(milliseconds=ms)
