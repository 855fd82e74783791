"""A forecast at an origin knows nothing that came later, and every method is judged on the same."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from events.calendar import DAY_MS
from model.bundle import Bundle
from model.datasets.sources import open_dataset
from model.evaluation.evaluate import progress_bars
from model.evaluation.scored_source import ScoredSource, score_source
from model.histories.labels import NEVER_MS, known_by
from model.outlook.backtest import (
    ENCODER_DECODER,
    SCORES,
    SET_RIGHT,
    Origin,
    backtest,
    known_presence,
    methods,
    month_starts,
    track_record,
)
from model.outlook.cases import PERIOD_MS, Presence, presence_of
from model.outlook.outlook import book_at
from stream.settings import PRETRAINED_BUNDLE

DATASET = open_dataset("simulator", users=150, months=16, seed=21)


@pytest.fixture(scope="module")
def source() -> ScoredSource:
    with progress_bars(False) as bars:
        return score_source(Bundle.load(PRETRAINED_BUNDLE), DATASET, bars)


def end_of(source: ScoredSource) -> int:
    return int(source.truth.observation_end_ms.max())


def forecast(presence: Presence, at_ms: int, at_risk: int) -> np.ndarray:
    """As many cases a period as in the six before together."""
    return np.full(9, min(float(presence.cases(at_ms - 6 * PERIOD_MS, 6).sum()), at_risk))


def moment(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp() * 1000)


def test_origins_are_the_starts_of_months() -> None:
    found = month_starts(moment("2023-01-15"), moment("2023-04-01"))
    assert found == [moment(f"2023-{month:02d}-01") for month in (2, 3, 4)]
    assert month_starts(moment("2023-01-01"), moment("2023-01-01") + DAY_MS) == [moment("2023-01-01")]


def test_every_method_is_asked_at_every_origin(source: ScoredSource) -> None:
    origins = backtest(source, end_of(source), forecast)
    months = sorted({each.origin for each in origins})
    assert months[0] == "2023-10"
    assert months[-1] == "2024-02"
    assert len(origins) == len(months) * 3 * 5
    for each in origins:
        assert 0 <= each.observed <= each.users
        assert each.intervals is None or set(each.intervals) == {"80", "95"}
    by_horizon = {(each.horizon_days, each.origin): each.expected for each in origins if each.method == SCORES}
    assert all(by_horizon[30, month] <= by_horizon[60, month] <= by_horizon[90, month] for month in months)


def test_later_truth_changes_no_forecast(source: ScoredSource) -> None:
    """Without any default after the first origins, those expect the same."""
    limit = moment("2023-12-01")
    blind = replace(source, truth=known_by(source.truth, limit))
    plain, altered = (
        {(each.method, each.origin, each.horizon_days): each for each in backtest(one, end_of(source), forecast)}
        for one in (source, blind)
    )
    for key, each in plain.items():
        if each.origin <= "2023-12":
            assert altered[key].expected == pytest.approx(each.expected), key
            assert altered[key].intervals == each.intervals
    later = [key for key in plain if key[1] > "2023-12" and key[0] == ENCODER_DECODER]
    assert any(plain[key].expected != altered[key].expected for key in later)


def test_a_book_is_of_users_at_risk_who_were_seen_lately(source: ScoredSource) -> None:
    at_ms = moment("2023-09-01")
    book = book_at(source.sequences, source.probabilities, source.truth, at_ms)
    assert (source.truth.default_date_ms[book.users] >= at_ms).all()
    assert (book.ages_days > 0).all()
    assert (book.ages_days <= 60).all()
    everyone = book_at(source.sequences, source.probabilities, source.truth, at_ms, stale_days=10_000)
    assert set(book.users) < set(everyone.users)
    presence = known_presence(source.sequences, source.truth, at_ms, 60)
    assert (presence.last_ms <= at_ms).all()
    assert ((presence.default_date_ms < at_ms) | (presence.default_date_ms == NEVER_MS)).all()
    assert presence.at_risk(np.array([at_ms]))[0] == len(book.users)


def test_past_outlooks_count_once_they_have_come_due(source: ScoredSource) -> None:
    until = moment("2023-08-01")
    record = track_record(source, until)
    assert [len(record.due(days, until)) for days in (30, 60, 90)] == [6, 5, 4]
    blind = replace(source, truth=known_by(source.truth, until))
    again = track_record(blind, until)
    assert [again.due(days, until) for days in (30, 60, 90)] == [record.due(days, until) for days in (30, 60, 90)]
    assert np.array_equal(again.factors(until), record.factors(until))
    assert (record.factors(moment("2023-03-01")) == 1).all()


def test_records_of_methods() -> None:
    rows = [
        Origin("m", "2023-01", 30, 100, 4.0, 9, None),
        Origin("m", "2023-02", 30, 100, 4.0, 5, {"80": (2.0, 6.0), "95": (1.0, 8.0)}),
        Origin("m", "2023-03", 30, 100, 6.0, 9, {"80": (3.0, 7.0), "95": (2.0, 10.0)}),
    ]
    (found,) = methods(rows)
    assert (found.origins, found.observed, found.mean_absolute_error) == (2, 7.0, 2.0)
    assert found.ratio == pytest.approx(10 / 14)
    assert found.coverage == {"80": 0.5, "95": 1.0}
    assert found.width == {"80": 4.0, "95": 7.5}


def test_scaling_by_the_past_follows_it(source: ScoredSource) -> None:
    """Scores that are half of what they should be are put right once enough outlooks have come due."""
    halved = replace(source, probabilities=source.probabilities / 2)
    origins = backtest(halved, end_of(source))
    last = {each.method: each for each in origins if each.horizon_days == 30 and each.origin == "2024-02"}
    assert last[SET_RIGHT].expected > 1.1 * last[SCORES].expected


def test_presence_of_a_source(source: ScoredSource) -> None:
    found = presence_of(DATASET)
    assert len(found.first_ms) == source.sequences.users
    assert (found.first_ms <= found.last_ms).all()
    assert sorted(found.default_date_ms.tolist()) == sorted(source.truth.default_date_ms.tolist())
    begin = int(found.first_ms.min())
    periods = int((found.last_ms.max() - begin) // PERIOD_MS) + 20
    known = (found.default_date_ms >= begin) & (found.default_date_ms < NEVER_MS)
    assert found.cases(begin, periods).sum() == known.sum()
    some = presence_of(DATASET, source.sequences.user_ids[:7])
    assert len(some.first_ms) == 7
    until = moment("2023-06-01")
    assert (found.known_at(until).last_ms <= until).all()
