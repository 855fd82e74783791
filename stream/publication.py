"""Scores and alerts as published: from the scorer's columns to JSON. Pure; sends nothing."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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
    `reference_pd` and `days_past_due` float32, NaN when not known or not stated. `sequence` int64: the user's count of
    scored events. `missed` bool: the event is a missed instalment.
    """

    taken: Sequence[Taken]
    sequence: NDArray[np.int64]
    attention: NDArray[np.float32]
    readout: NDArray[np.float32]
    facts: NDArray[np.void]
    reference_pd: NDArray[np.float32]
    days_past_due: NDArray[np.float32]
    missed: NDArray[np.bool_]


@dataclass(frozen=True)
class Explanation:
    """Why one alert was raised."""

    reasons: list[Reason]
    weighed_most: list[WeighedEvent]


class ScoreText:
    """Scores as JSON, a column at a time: the bytes that encoding `Score` objects one by one would give, faster.

    One score is published for every event, so this is the hottest text in the house. Numbers of a column are encoded in
    one call and cut at the commas, which numbers and dates cannot contain; the columns are then put together row by row
    by one template made from the fields of `Score`. A test compares the result with the encoded objects.
    """

    def __init__(self, horizons_days: Sequence[int], model: str) -> None:
        fields = Score.__struct_fields__
        self._fields = fields
        self._row = b"{" + b",".join(b'"%b":%%b' % name.encode() for name in fields) + b"}"
        self._horizons = b"{" + b",".join(b'"%d":%%b' % days for days in horizons_days) + b"}"
        self._levels = [b'"%b"' % level.encode() for level in LEVELS]
        self._model = b'"%b"' % model.encode()
        self._encode = msgspec.json.Encoder().encode

    def rows(
        self,
        moment: Moment,
        topics: Sequence[bytes],
        probabilities: NDArray[np.float32],
        headline: int,
        decided: DecidedColumns,
    ) -> list[bytes]:
        """JSON of each event's score. `topics` are the input topics' names by kind number."""
        taken, cut, encode = moment.taken, self._cut, self._encode
        source_topic = [topics[item.kind_no] for item in taken]
        partition = [b"%d" % item.partition for item in taken]
        offset = [b"%d" % item.offset for item in taken]
        by_horizon = [cut(column) for column in probabilities.T.tolist()]
        columns: dict[str, Iterable[bytes]] = {
            "score_id": map(b'"%b:%b:%b"'.__mod__, zip(source_topic, partition, offset, strict=True)),
            "event_id": [encode(item.event.event_id) for item in taken],
            "user_id": [encode(item.event.user_id) for item in taken],
            "occurred_at": cut([utc(item.event.occurred_at) for item in taken]),
            "sequence": cut(moment.sequence.tolist()),
            "score": by_horizon[headline],
            "horizons": map(self._horizons.__mod__, zip(*by_horizon, strict=True)),
            "level": map(self._levels.__getitem__, decided.level.tolist()),
            "baseline": cut(decided.baseline.tolist()),
            "delta": cut(decided.delta.tolist()),
            "days_past_due": cut(decided.days_past_due.tolist()),  # NaN is encoded as null
            "source_topic": map(b'"%b"'.__mod__, source_topic),
            "source_partition": partition,
            "source_offset": offset,
            "model": itertools.repeat(self._model, len(taken)),
        }
        return list(map(self._row.__mod__, zip(*(columns[name] for name in self._fields), strict=True)))

    def _cut(self, values: list[Any]) -> list[bytes]:
        return self._encode(values)[1:-1].split(b",")


class Publication:
    """Writes scores and alerts for one bundle and policy."""

    def __init__(self, bundle: Bundle, policy: AlertPolicy, topics: Topics) -> None:
        self._headline = bundle.headline
        self._model = bundle.fingerprint_hex
        self._policy = policy.version
        self._inputs = topics.inputs
        self._input_bytes = [topic.encode() for topic in topics.inputs]
        self._score_text = ScoreText(bundle.horizons_days, bundle.fingerprint_hex)

    def write_scores(
        self,
        moment: Moment,
        probabilities: NDArray[np.float32],
        decided: DecidedColumns,
        scores: dict[int, list[tuple[bytes, bytes]]],
    ) -> None:
        """Append each event's score to its partition's list."""
        values = self._score_text.rows(moment, self._input_bytes, probabilities, self._headline, decided)
        for item, value in zip(moment.taken, values, strict=True):
            scores.setdefault(item.partition, []).append((item.key, value))

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


def utc(moment: dt.datetime) -> dt.datetime:
    """The same moment in UTC."""
    return moment if moment.tzinfo is dt.UTC else moment.astimezone(dt.UTC)


def known(value: float) -> float | None:
    """A number, or None for NaN."""
    return None if value != value else value


def moment_of(ms: int) -> dt.datetime:
    """UTC time of milliseconds since 1970-01-01."""
    return EPOCH + dt.timedelta(milliseconds=ms)
