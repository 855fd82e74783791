"""The oracle hands out the simulator's own hazards, and refuses where nobody knows any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.baselines.challenger import ChallengerError
from model.baselines.oracle import Oracle
from model.comparison.problem import Problem
from model.datasets.simulator import Simulator
from model.evaluate import progress_bars
from model.labels import truth_of
from model.playback import merged_rows
from model.sequences import build_sequences


@pytest.fixture(scope="module")
def simulated(problem: Problem) -> Problem:
    dataset = Simulator(users=3, months=1, seed=5)
    sequences = build_sequences(dataset.events())
    outcomes = dataset.outcomes()
    return replace(
        problem, name="simulator", sequences=sequences, truth=truth_of(sequences, outcomes), outcomes=outcomes,
        headline_days=8, dataset=dataset,
    )  # fmt: skip


def test_scores_are_the_simulator_s_hazards(simulated: Problem, tmp_path: Path) -> None:
    oracle = Oracle()
    user = 0
    with progress_bars(False) as bars:
        oracle.fit(simulated, tmp_path, bars)
        scores = oracle.score(simulated, np.array([user]))
    rows = merged_rows(simulated.sequences, np.array([user]))
    assert np.isnan(np.delete(scores, rows)).all()
    dataset = simulated.dataset
    assert isinstance(dataset, Simulator)
    for row in rows[[0, len(rows) // 2, -1]]:
        at_ms = int(simulated.sequences.times_ms[row])
        expected = dataset.true_hazard(simulated.sequences.user_ids[user], at_ms, 8)
        assert scores[row] == pytest.approx(0.0 if np.isnan(expected) else expected)
    assert oracle.us_per_event is None
    assert oracle.state_bytes is None


def test_hazards_of_real_borrowers_are_not_known(problem: Problem, tmp_path: Path) -> None:
    with progress_bars(False) as bars, pytest.raises(ChallengerError, match="leave the oracle out"):
        Oracle().fit(problem, tmp_path, bars)
    with pytest.raises(ChallengerError, match="only the simulator"):
        Oracle().score(problem, np.array([0]))
