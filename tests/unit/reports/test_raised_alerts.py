"""Raised alerts are those of a worker, each with the very history that its score came from."""

from __future__ import annotations

import functools
from itertools import pairwise

import numpy as np
import pytest

from events.instalments import with_missed_among
from events.types import Event, Repayment
from model.bundle import Bundle
from model.datasets.sources import open_dataset
from model.explanation.rescoring import history_of, score_histories
from reports.raised_alerts import RaisedAlert, batches_of, drawn, raise_alerts, situation_after
from stream.scoring.scorer import Scorer
from stream.settings import PRETRAINED_BUNDLE, load_settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.topics import Topics


@functools.cache
def bundle() -> Bundle:
    return Bundle.load(PRETRAINED_BUNDLE)


@functools.cache
def raised_alerts() -> tuple[RaisedAlert, ...]:
    portfolio = open_dataset("simulator", users=80, months=8, seed=21)
    return tuple(raise_alerts(bundle(), load_settings(), portfolio.events()))


def test_the_history_of_a_raised_alert_gives_its_score() -> None:
    assert len(raised_alerts()) > 10
    assert {raised.alert.kind for raised in raised_alerts()} <= {"opened", "escalated"}
    scores = score_histories(bundle(), [history_of(raised.events, bundle()) for raised in raised_alerts()])
    for raised, score in zip(raised_alerts(), scores[:, bundle().headline].tolist(), strict=True):
        assert raised.alert.score == np.float32(score)
        assert len(raised.events) == raised.alert.sequence
        assert {event.user_id for event in raised.events} == {raised.alert.user_id}


def test_raised_alerts_are_the_same_in_any_batches_and_their_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    portfolio = open_dataset("simulator", users=80, months=8, seed=21)
    again = raise_alerts(bundle(), load_settings(), portfolio.events(), lambda *done: told.append(done))
    assert [raised.alert for raised in again] == [raised.alert for raised in raised_alerts()]
    assert told[-1][1] >= len(again), "cleared alerts are not counted, but none is forgotten"
    assert [scored for scored, _ in told] == sorted({scored for scored, _ in told})


def test_a_draw_is_without_repeats_and_in_order() -> None:
    few = drawn(raised_alerts(), 7, seed=3)
    places = [raised_alerts().index(raised) for raised in few]
    assert places == sorted(set(places))
    assert len(few) == 7
    assert drawn(raised_alerts(), 7, seed=3) == few != drawn(raised_alerts(), 7, seed=4)
    assert drawn(raised_alerts(), 10_000, seed=3) == list(raised_alerts())


def test_missed_payments_are_those_that_training_inserts() -> None:
    events = list(open_dataset("simulator", users=40, months=6, seed=9).events())
    everything = list(with_missed_among(events, 3.0))
    known = {event.event_id for event in events}
    added = [event for event in everything if event.event_id not in known]
    assert added
    assert all(isinstance(event, Repayment) and event.kind == "missed" for event in added)
    for user_id in {event.user_id for event in added}:
        own = [event for event in everything if event.user_id == user_id]
        assert [event for event in own if event.event_id in known] == [e for e in events if e.user_id == user_id]
        times = [event.occurred_at for event in own]
        assert times == sorted(times)


def test_facts_after_a_history_are_the_workers() -> None:
    slab = Slab(blank_row(row_dtype(bundle().state_width), bundle().fingerprint))
    scorer = Scorer(bundle(), load_settings().alert_policy(bundle().thresholds), slab, Topics())
    histories: dict[str, list[Event]] = {}
    for batch in batches_of(open_dataset("simulator", users=12, months=6, seed=5).events(), partitions=3):
        scorer.score(batch)
        for item in batch:
            histories.setdefault(item.event.user_id, []).append(item.event)
    rows = {key.decode(): row for _, key, row in slab.items()}
    assert set(rows) == set(histories)
    for user_id, events in histories.items():
        (row,) = np.frombuffer(rows[user_id], dtype=slab.dtype)
        assert situation_after(events).facts[0].tobytes() == row["facts"].tobytes()


def test_of_events_that_weigh_the_same_the_latest_are_named() -> None:
    pairs = 0
    for raised in raised_alerts():
        named = raised.alert.weighed_most
        for first, second in pairwise(named):
            if (first.topic, first.weight) == (second.topic, second.weight):
                pairs += 1
                assert (first.occurred_at, first.offset) > (second.occurred_at, second.offset)
    if not pairs:
        pytest.skip("under this bundle no two events draw the same attention")
