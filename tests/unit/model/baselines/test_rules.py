"""The 3-sigma rule and the PD-doubling rule, by hand."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from events.types import Activity, Event, Transaction
from model.baselines.pd_doubling import LEAST_REFERENCE, PdDoubling
from model.baselines.three_sigma import LEAST_MOVEMENTS, ThreeSigma
from model.baselines.windows import window_features
from model.comparison.problem import Problem
from model.evaluation.evaluate import progress_bars
from model.histories.sequences import build_sequences

START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
BALANCES = (500.0, 510.0, 495.0, 505.0, 490.0, 500.0, 515.0, 485.0, 505.0, 495.0, 500.0, 900.0)


def movement(day: float, balance: float) -> Transaction:
    moment = START + dt.timedelta(days=day)
    return Transaction(event_id=f"t{day}", user_id="a", occurred_at=moment, amount=-10.0, balance_after=balance)


def sigma(events: list[Event]) -> list[float]:
    sequences = build_sequences(events)
    return ThreeSigma().score_rows(sequences, np.arange(len(events))).tolist()


def test_a_balance_far_from_the_usual_stands_out() -> None:
    scores = sigma([movement(day, balance) for day, balance in enumerate(BALANCES)])
    before = np.array(BALANCES[:-1])
    assert scores[:LEAST_MOVEMENTS] == [0.0] * LEAST_MOVEMENTS
    assert scores[-2] < 3
    assert scores[-1] == pytest.approx((900 - before.mean()) / before.std(), rel=1e-6)


def test_a_deviation_stands_for_a_month_and_no_longer() -> None:
    moves: list[Event] = [movement(day, balance) for day, balance in enumerate(BALANCES)]
    for day in (20, 60):
        moment = START + dt.timedelta(days=day)
        moves.append(Activity(event_id=f"s{day}", user_id="a", occurred_at=moment, kind="session"))
    scores = sigma(moves)
    assert scores[-2] == scores[-3] > 3
    assert scores[-1] == 0


def test_pd_doubling_is_today_s_pd_over_the_one_at_origination(problem: Problem, tmp_path: Path) -> None:
    rule = PdDoubling()
    with progress_bars(False) as bars:
        rule.fit(problem, tmp_path, bars)
    users = problem.parts.test.users
    rows = np.sort(problem.sequences.merged_starts[users + 1] - 1)
    features = window_features(problem.sequences, rows)
    today = rule._platt.probability(rule._logits(features.values))
    origination = features.values[:, features.names.index("profile_origination_pd")].astype(np.float64)
    ratio = rule.score_rows(problem.sequences, rows)
    implied = today / ratio / origination
    assert np.isfinite(origination).all()
    assert (today / ratio >= LEAST_REFERENCE).all()
    # One factor for everybody, that brings origination PDs to the horizon's rate of defaults.
    assert implied == pytest.approx(implied[0])
    assert np.corrcoef(ratio, today)[0, 1] > 0
