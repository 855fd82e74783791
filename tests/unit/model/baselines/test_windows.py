"""Window features: right by brute force, blind to the future and to other users."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.types import Event, Profile, Repayment, Transaction
from model.baselines import windows
from model.baselines.windows import Features, window_features
from model.histories.sequences import Sequences, Vocabularies, build_sequences

START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
VOCABULARIES: Vocabularies = {
    "repayments": {"kind": {"due": 2, "missed": 3, "paid": 4}},
    "transactions": {"category": {"cash": 2, "groceries": 3}, "channel": {"atm": 2, "card": 3}},
    "activity": {"kind": {"inquiry": 2, "session": 3}},
    "profiles": {"employment": {"employed": 2}},
}
DATED = {"day_of_week", "day_of_month"}


def features_of(sequences: Sequences) -> Features:
    return window_features(sequences, np.arange(len(sequences.kinds)))


def column(features: Features, name: str) -> np.ndarray:
    return features.values[:, features.names.index(name)]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), other=st.integers(0, 10_000), kept=st.integers(1, 60), later=st.integers(0, 20))
def test_nothing_later_and_nobody_else_changes_a_feature(
    make_history: Callable[..., list[Event]], seed: int, other: int, kept: int, later: int
) -> None:
    history = make_history("a", kept, seed)
    future = make_history("a", kept + later, other)[kept:]
    alone = features_of(build_sequences(history, VOCABULARIES))
    among = features_of(
        build_sequences([*make_history("b", 5, other), *history, *future, *make_history("c", 9, other)], VOCABULARIES)
    )
    assert among.names == alone.names
    np.testing.assert_array_equal(among.values[5 : 5 + kept], alone.values)


def test_a_later_event_that_counts_does_change_later_rows(make_history: Callable[..., list[Event]]) -> None:
    history = make_history("a", 30, 1)
    before = features_of(build_sequences(history[:-1], VOCABULARIES)).values[-1]
    after = features_of(build_sequences(history, VOCABULARIES)).values[-1]
    assert not np.array_equal(before, after, equal_nan=True)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_windows_are_what_a_loop_would_add_up(make_history: Callable[..., list[Event]], seed: int) -> None:
    history = make_history("a", 50, seed)
    features = features_of(build_sequences(history, VOCABULARIES))
    clock = START - dt.timedelta(days=999)
    clocks = []
    for event in history:
        clock = max(clock, event.occurred_at)
        clocks.append(clock)
    for row in range(len(history)):
        for days in windows.WINDOWS_DAYS:
            seen = [
                event
                for event, moment in zip(history[: row + 1], clocks, strict=False)
                if rounded_ms(clocks[row]) - rounded_ms(moment) < days * 86_400_000
            ]
            moves = [event for event in seen if isinstance(event, Transaction)]
            if any(isinstance(event, Transaction) for event in history[: row + 1]):
                spent = sum(-event.amount for event in moves if event.amount < 0)
                assert column(features, f"spent_sum_{days}d")[row] == pytest.approx(spent, rel=1e-5)
                cash = sum(event.category == "cash" or event.channel == "atm" for event in moves)
                assert column(features, f"cash_count_{days}d")[row] == cash
            used = [
                event.balance_after / event.credit_limit
                for event in moves
                if event.credit_limit and event.balance_after is not None
            ]
            found = column(features, f"utilisation_max_{days}d")[row]
            assert found == pytest.approx(max(used), rel=1e-4) if used else np.isnan(found)
            missed = sum(isinstance(event, Repayment) and event.kind == "missed" for event in seen)
            if any(isinstance(event, Repayment) for event in history[: row + 1]):
                assert column(features, f"missed_count_{days}d")[row] == missed


def test_a_change_of_balance_is_against_what_was_known_before_the_window() -> None:
    moves = [(0, 100.0), (20, 150.0), (24, None), (45, 400.0), (51, 900.0)]
    history = [transaction(day, balance) for day, balance in moves]
    features = features_of(build_sequences(history, VOCABULARIES))
    # 51 days in: 30 days ago 150 was known; 7 days ago 150, too; before the 90 days nothing: the first in them.
    assert column(features, "balance_change_30d").tolist() == [0, 50, 50, 300, 750]
    assert column(features, "balance_change_7d").tolist() == [0, 50, 50, 250, 750]
    assert column(features, "balance_change_90d").tolist() == [0, 50, 50, 300, 800]


def test_the_latest_six_are_columns_newest_first() -> None:
    history = [repayment(30 * month, days_past_due=10.0 * month) for month in range(8)]
    features = features_of(build_sequences(history, VOCABULARIES))
    lags = [column(features, f"repayments_days_past_due_{back}")[-1] for back in range(windows.LAGS)]
    assert lags == [70, 60, 50, 40, 30, 20]
    assert np.isnan(column(features, "repayments_days_past_due_1")[0])


def test_a_kind_never_seen_is_missing_and_a_quiet_window_is_zero() -> None:
    features = features_of(build_sequences([transaction(0, 5.0), repayment(60)], VOCABULARIES))
    assert column(features, "spent_sum_30d").tolist() == [10.0, 0.0]
    assert np.isnan(column(features, "missed_count_30d")[0])
    assert column(features, "missed_count_30d")[1] == 0
    assert np.isnan(column(features, "session_count_all")).all()


def test_an_unseen_category_has_its_own_code_and_a_missing_one_none() -> None:
    history = [transaction(0, 1.0, category="yachts"), transaction(1, 1.0, category=None), profile(2, "employed")]
    features = features_of(build_sequences(history, VOCABULARIES))
    codes = column(features, "transactions_category_0_code")
    assert codes[0] == 1
    assert np.isnan(codes[1])
    assert column(features, "profile_employment_code")[2] == 2
    named = [features.names[position] for position in features.categorical]
    assert "profile_employment_code" in named
    assert "profile_sex_code" not in features.names


def test_nothing_grows_with_the_calendar_alone() -> None:
    """The same quiet month over and over: a year later every feature but the date's is what it was."""
    history = [event for month in range(24) for event in (repayment(30 * month), transaction(30 * month + 10, 5.0))]
    features = features_of(build_sequences(history, VOCABULARIES))
    year, two = features.values[23], features.values[47]
    moved = {name for name, a, b in zip(features.names, year, two, strict=True) if not np.isclose(a, b, equal_nan=True)}
    # The first month weighs a little more in the rate of one year than of two.
    assert all(abs(column(features, name)[23] / column(features, name)[47] - 1) < 0.1 for name in moved - DATED)


def test_pieces_of_a_portfolio_have_the_features_of_the_whole(
    make_history: Callable[..., list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [event for number in range(7) for event in make_history(f"u{number}", 20, number)]
    sequences = build_sequences(events, VOCABULARIES)
    whole = features_of(sequences)
    rows = np.array([3, 19, 20, 71, 139])
    done: list[int] = []
    monkeypatch.setattr(windows, "EVENTS_PER_CHUNK", 30)
    np.testing.assert_array_equal(window_features(sequences, rows, done.append).values, whole.values[rows])
    assert sum(done) == len(rows)


def test_no_rows_give_no_features() -> None:
    sequences = build_sequences([transaction(0, 1.0)], VOCABULARIES)
    assert window_features(sequences, np.zeros(0, dtype=np.int64)).values.shape[0] == 0


def rounded_ms(moment: dt.datetime) -> int:
    return round(moment.timestamp() * 1000)


def at(day: float) -> dt.datetime:
    return START + dt.timedelta(days=day)


def transaction(day: float, balance: float | None, category: str | None = "groceries") -> Transaction:
    return Transaction(
        event_id=f"t{day}", user_id="a", occurred_at=at(day), amount=-10.0, category=category, balance_after=balance
    )


def repayment(day: float, days_past_due: float | None = None) -> Repayment:
    return Repayment(event_id=f"r{day}", user_id="a", occurred_at=at(day), kind="due", days_past_due=days_past_due)


def profile(day: float, employment: str) -> Profile:
    return Profile(event_id=f"p{day}", user_id="a", occurred_at=at(day), employment=employment, sex="female")
