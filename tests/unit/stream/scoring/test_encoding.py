"""The fast way of writing scores gives the bytes of the plain way."""

from __future__ import annotations

import datetime as dt
import functools
import math
from unittest import mock

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import stream.scoring.encoding
from events.contracts import STATUSES
from events.types import Activity
from model.bundle import Bundle
from stream.kafka.record import RawRecord
from stream.outputs import LEVELS, Score, coordinate, encode_output
from stream.scoring.encoding import OutputEncoder, ScoredColumns, known
from stream.scoring.intake import Taken
from stream.settings import PRETRAINED_BUNDLE, load_settings
from stream.topics import Topics

HORIZONS = (30, 60, 90, 180)
LOSS_GIVEN_DEFAULT = 0.4
TOPICS = ("repayments", "transactions", "activity", "profiles")

floats = st.floats(0, 1, width=32)
names = st.text(min_size=1, max_size=12)
zones = st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=-3, minutes=-30))])
events = st.tuples(
    names,
    names,
    st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2099, 1, 1), timezones=zones),
    st.integers(0, 3),
    st.integers(0, 99),
    st.integers(0, 2**62),
    st.tuples(floats, floats, floats, floats),
    st.integers(0, 2),
    st.tuples(floats, floats, st.one_of(floats, st.just(float("nan")))),
)


@functools.cache
def encoder() -> OutputEncoder:
    bundle = Bundle.load(PRETRAINED_BUNDLE)
    return OutputEncoder(bundle, load_settings().alert_policy(bundle.thresholds), Topics(), LOSS_GIVEN_DEFAULT)


@settings(deadline=None)  # the first example loads the bundle
@given(st.lists(events, min_size=1, max_size=6), st.integers(1, 6))
def test_equals_the_encoded_objects(rows: list[tuple[object, ...]], at_once: int) -> None:
    taken, expected = [], []
    count = len(rows)
    found = ScoredColumns.empty(np.arange(1, count + 1), len(HORIZONS))
    for number, row in enumerate(rows):
        event_id, user_id, at, kind_no, partition, offset, horizons, level, (baseline, delta, past_due) = row  # type: ignore[misc]
        event = Activity(event_id=event_id, user_id=user_id, occurred_at=at, kind="session")
        record = RawRecord(TOPICS[kind_no], partition, offset, 0, user_id.encode(), b"")
        taken.append(Taken("activity", kind_no, partition, offset, user_id.encode(), 0, event, record))
        found.probabilities[number] = horizons
        found.level[number], found.baseline[number] = level, baseline
        found.delta[number], found.days_past_due[number] = delta, past_due
        status, exposure, overdue = number % 7 - 1, math.nan if number % 3 == 0 else 10.5 * number, 0.1 * number
        found.status[number], found.contracts[number] = status, number % 4
        found.exposure[number], found.amount_overdue[number] = exposure, overdue
        expected.append(
            Score(
                score_id=coordinate(TOPICS[kind_no], partition, offset),
                event_id=event_id,
                user_id=user_id,
                occurred_at=at.astimezone(dt.UTC),
                sequence=number + 1,
                score=float(found.probabilities[number, 2]),
                horizons={str(d): float(p) for d, p in zip(HORIZONS, found.probabilities[number], strict=True)},
                level=LEVELS[level],
                baseline=float(found.baseline[number]),
                delta=float(found.delta[number]),
                days_past_due=known(float(found.days_past_due[number])),
                source_topic=TOPICS[kind_no],
                source_partition=partition,
                source_offset=offset,
                model=encoder().model,
                status=None if status < 0 else STATUSES[status],
                contracts=number % 4,
                exposure=known(exposure),
                amount_overdue=overdue,
                expected_loss=known(float(found.probabilities[number, 2]) * exposure * LOSS_GIVEN_DEFAULT),
            )
        )
    scores: dict[int, list[tuple[bytes, bytes]]] = {}
    with mock.patch.object(stream.scoring.encoding, "SCORES_AT_ONCE", at_once):
        encoder().write_scores(taken, found, scores)
    written = {partition: [value for _, value in pairs] for partition, pairs in scores.items()}
    for partition, values in written.items():
        mine = [score for score in expected if score.source_partition == partition]
        assert values == [encode_output(score) for score in mine]
        assert [msgspec.json.decode(value, type=Score) for value in values] == mine
    assert sum(map(len, written.values())) == count
