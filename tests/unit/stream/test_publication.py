"""The fast way of writing scores gives the bytes of the plain way."""

from __future__ import annotations

import datetime as dt

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from events.types import Activity
from stream.facts import initial_facts
from stream.intake import RawRecord, Taken
from stream.outputs import LEVELS, Score, coordinate, encode_output
from stream.publication import DecidedColumns, Moment, ScoreText, known

HORIZONS = (30, 60, 90, 180)
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


@given(st.lists(events, min_size=1, max_size=6))
def test_equals_the_encoded_objects(rows: list[tuple[object, ...]]) -> None:
    taken, expected = [], []
    count = len(rows)
    probabilities = np.empty((count, 4), dtype=np.float32)
    decided = DecidedColumns.empty(count)
    for number, row in enumerate(rows):
        event_id, user_id, at, kind_no, partition, offset, horizons, level, (baseline, delta, past_due) = row  # type: ignore[misc]
        event = Activity(event_id=event_id, user_id=user_id, occurred_at=at, kind="session")
        record = RawRecord(TOPICS[kind_no], partition, offset, 0, user_id.encode(), b"")
        taken.append(Taken("activity", kind_no, partition, offset, user_id.encode(), 0, event, record))
        probabilities[number] = horizons
        decided.level[number], decided.baseline[number] = level, baseline
        decided.delta[number], decided.days_past_due[number] = delta, past_due
        expected.append(
            Score(
                score_id=coordinate(TOPICS[kind_no], partition, offset),
                event_id=event_id,
                user_id=user_id,
                occurred_at=at.astimezone(dt.UTC),
                sequence=number + 1,
                score=float(probabilities[number, 2]),
                horizons={str(d): float(p) for d, p in zip(HORIZONS, probabilities[number], strict=True)},
                level=LEVELS[level],
                baseline=float(decided.baseline[number]),
                delta=float(decided.delta[number]),
                days_past_due=known(float(decided.days_past_due[number])),
                source_topic=TOPICS[kind_no],
                source_partition=partition,
                source_offset=offset,
                model="00ff",
            )
        )
    nothing = np.zeros(count, dtype=np.float32)
    moment = Moment(
        taken,
        np.arange(1, count + 1),
        nothing,
        nothing.reshape(-1, 1),
        initial_facts(count),
        nothing,
        nothing,
        nothing > 0,
    )
    found = ScoreText(HORIZONS, "00ff").rows(moment, [t.encode() for t in TOPICS], probabilities, 2, decided)
    assert found == [encode_output(score) for score in expected]
    assert [msgspec.json.decode(value, type=Score) for value in found] == expected
