"""Explanations are exact: every figure is the score of a history that could be written down."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from events.counterfactuals import without_cause
from events.types import Event, Transaction
from model.bundle import Bundle
from model.explanation.explain import Explanation, explain
from model.explanation.rescoring import history_of, score_histories

MakeHistory = Callable[..., list[Event]]


@pytest.fixture(scope="module")
def events(make_history: MakeHistory) -> list[Event]:
    return make_history("u", 90, 8)


@pytest.fixture(scope="module")
def explanation(random_bundle: Bundle, events: list[Event]) -> Explanation:
    return explain(random_bundle, events, recent=12, threshold=0.0)


def score(bundle: Bundle, events: list[Event]) -> float:
    return float(score_histories(bundle, [history_of(events, bundle)])[0, bundle.headline])


def test_the_curve_is_the_score_after_each_event(
    random_bundle: Bundle, events: list[Event], explanation: Explanation
) -> None:
    assert len(explanation.scores) == len(events)
    for number in (1, 40, len(events)):
        assert explanation.scores[number - 1] == np.float32(score(random_bundle, events[:number]))
    assert explanation.score == score(random_bundle, events)


def test_attention_is_shared_among_the_events_of_a_kind(events: list[Event], explanation: Explanation) -> None:
    for kind, shares in explanation.attention.items():
        assert len(shares) == sum(kind == event.KIND for event in events)
        assert shares.sum() == pytest.approx(1)
    assert [each.position for each in explanation.recent] == list(range(89, 77, -1))
    for each in explanation.recent:
        same = [event for event in events if event.KIND == each.event.KIND]
        assert each.attention == explanation.attention[each.event.KIND][same.index(each.event)]


def test_dropping_an_event_is_never_having_seen_it(
    random_bundle: Bundle, events: list[Event], explanation: Explanation
) -> None:
    for each in explanation.recent:
        assert each.event is events[each.position]
        rest = events[: each.position] + events[each.position + 1 :]
        assert each.dropped == score(random_bundle, rest)


def test_an_events_normal_is_the_median_of_its_sort(random_bundle: Bundle) -> None:
    start = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
    history: list[Event] = [
        Transaction(
            event_id=f"t{day}",
            user_id="u",
            occurred_at=start + dt.timedelta(days=day),
            amount=amount,
            category=category,
            balance_after=None if day == 0 else 100.0,
        )
        for day, (amount, category) in enumerate(
            [
                (-10.0, "groceries"),
                (-30.0, "groceries"),
                (2_000.0, "salary"),
                (-20.0, "groceries"),
                (-900.0, "groceries"),
            ]
        )
    ]
    (last,) = explain(random_bundle, history, recent=1).recent
    usual = msgspec.structs.replace(history[-1], amount=-20.0, balance_after=100.0)
    assert last.normal == score(random_bundle, [*history[:-1], usual])
    assert explain(random_bundle, history, recent=5).recent[-1].normal is None, "nothing came before"


def test_causes_are_the_counterfactuals_of_the_catalogue(
    random_bundle: Bundle, events: list[Event], explanation: Explanation
) -> None:
    assert explanation.causes
    scores = [cause.score for cause in explanation.causes]
    assert scores == sorted(scores)
    for cause in explanation.causes:
        without = without_cause(cause.code, events)
        assert without is not None
        assert cause.score == score(random_bundle, without)


def test_the_counterfactual_leaves_out_events_until_the_score_is_low_enough(
    random_bundle: Bundle, events: list[Event], explanation: Explanation
) -> None:
    counterfactual = explanation.counterfactual
    assert counterfactual is not None
    assert counterfactual.positions
    assert not counterfactual.suffices
    kept = [event for number, event in enumerate(events) if number not in counterfactual.positions]
    assert counterfactual.score == score(random_bundle, kept) < explanation.score
    bar = (explanation.score + counterfactual.score) / 2
    nearer = explain(random_bundle, events, recent=12, threshold=bar).counterfactual
    assert nearer is not None
    assert nearer.suffices
    assert nearer.score < bar
    assert nearer.positions == counterfactual.positions[: len(nearer.positions)]


def test_below_the_threshold_there_is_no_counterfactual(random_bundle: Bundle, events: list[Event]) -> None:
    assert explain(random_bundle, events, recent=2, threshold=1.0).counterfactual is None


def test_one_event_is_enough_and_none_is_not(random_bundle: Bundle, events: list[Event]) -> None:
    assert len(explain(random_bundle, events[:1], threshold=0.0).recent) == 1
    with pytest.raises(ValueError, match="no event"):
        explain(random_bundle, [])
