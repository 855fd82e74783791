"""A prediction from one user's events is what workers publish of all users' events, byte for byte."""

from __future__ import annotations

import functools

import msgspec
import pytest

from model.bundle import Bundle
from model.datasets.sources import open_dataset
from stream.outputs import Alert
from stream.scoring import prediction
from stream.scoring.intake import Taken
from stream.scoring.prediction import Predictor
from stream.scoring.scorer import Scorer
from stream.settings import PRETRAINED_BUNDLE, Settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from tests.unit.stream.scoring.test_scorer import take

SETTINGS = Settings.model_construct()


@functools.cache
def bundle() -> Bundle:
    return Bundle.load(PRETRAINED_BUNDLE)


@functools.cache
def published() -> tuple[list[Taken], dict[bytes, bytes], dict[bytes, list[bytes]]]:
    """Events of a portfolio, and what a worker publishes of them in batches: last scores and alerts by user."""
    events = take(list(open_dataset("simulator", users=40, months=8, seed=11).events()))
    slab = Slab(blank_row(row_dtype(bundle().state_width), bundle().fingerprint))
    policy, rules = SETTINGS.alert_policy(bundle().thresholds), SETTINGS.portfolio_rules()
    scorer = Scorer(bundle(), policy, slab, SETTINGS.topics, rules=rules)
    scores: dict[bytes, bytes] = {}
    alerts: dict[bytes, list[bytes]] = {}
    for begin in range(0, len(events), 700):
        scored = scorer.score(events[begin : begin + 700])
        for values in scored.scores.values():
            scores |= dict(values)
        for values in scored.alerts.values():
            for key, value in values:
                alerts.setdefault(key, []).append(value)
    return events, scores, alerts


@functools.cache
def predictor() -> Predictor:
    policy, rules = SETTINGS.alert_policy(bundle().thresholds), SETTINGS.portfolio_rules()
    return Predictor(bundle(), policy, SETTINGS.topics, rules)


def test_it_is_what_workers_publish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "EVENTS_AT_ONCE", 13)
    events, scores, alerts = published()
    assert len(alerts) > 5
    for key in [*list(alerts)[:6], *sorted(scores.keys() - alerts.keys())[:2]]:
        own = [item for item in events if item.key == key]
        found = predictor().predict(own)
        assert found is not None
        assert (found.score, found.alert) == (scores[key], alerts[key][-1] if key in alerts else None)
        assert (found.scored, found.refused) == (len(own), [])


def test_its_reasons_are_those_of_the_alert_that_the_last_event_raised() -> None:
    events, _, alerts = published()
    compared = 0
    for key, values in list(alerts.items())[:8]:
        own = [item for item in events if item.key == key]
        for value in values:
            alert = msgspec.json.decode(value, type=Alert)
            if alert.kind == "cleared":
                continue
            found = predictor().predict(own[: alert.sequence])
            assert found is not None
            assert (found.explanation.reasons, found.explanation.weighed_most) == (alert.reasons, alert.weighed_most)
            assert found.alert == value
            compared += 1
    assert compared > 5


def test_a_repeat_is_not_scored_and_nothing_at_all_is_no_prediction() -> None:
    events, _, _ = published()
    own = [item for item in events if item.key == events[0].key][:5]
    again = msgspec.structs.replace(own[-1], offset=own[-1].offset + 1)
    found = predictor().predict([*own, again])
    assert found is not None
    assert (found.scored, [letter.reason for letter in found.refused]) == (5, ["duplicate_event_id"])
    without = predictor().predict(own)
    assert without is not None
    assert found.score == without.score
    assert predictor().predict([]) is None
