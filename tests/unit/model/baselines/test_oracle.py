"""The oracles hand out the simulator's own hazards of what is judged, and refuse where nobody knows any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from events.calendar import DAY_MS
from model.baselines.challenger import ChallengerError
from model.baselines.oracle import Oracle, latent_hazards, told_hazards
from model.comparison.problem import Problem
from model.comparison.roster import roster
from model.comparison.targets import ATTAINABLE, ORACLE
from model.datasets.simulator import Simulator
from model.datasets.simulator.belief import attainable_hazards
from model.evaluation.evaluate import progress_bars
from model.histories.labels import truth_of
from model.histories.sequences import build_sequences
from model.histories.splits import Part


@pytest.fixture(scope="module")
def simulated(problem: Problem) -> Problem:
    """The user with most events is judged on what comes after the first five of them, the other three validate."""
    dataset = Simulator(users=4, months=1, seed=5)
    sequences = build_sequences(dataset.events())
    outcomes = dataset.outcomes()
    truth = truth_of(sequences, outcomes)
    counts = np.diff(sequences.merged_starts)
    order = np.argsort(counts)
    nobody, validates, judged = np.zeros(0, np.int64), np.sort(order[:3]), order[3:]
    assert counts[judged] > 5
    assert len(counts) == 4
    parts = replace(
        problem.parts,
        train=Part(nobody, nobody, nobody, truth),
        validation=Part(validates, counts[validates], np.zeros(3, np.int64), truth),
        test=Part(judged, counts[judged], np.array([5]), truth),
    )
    return replace(
        problem, name="simulator", sequences=sequences, parts=parts, truth=truth, outcomes=outcomes,
        headline_days=8, dataset=dataset,
    )  # fmt: skip


def examples(problem: Problem) -> NDArray[np.int64]:
    return np.union1d(problem.example_rows(problem.parts.validation), problem.example_rows(problem.parts.test))


def test_scores_are_the_simulator_s_hazards_of_what_is_judged(simulated: Problem, tmp_path: Path) -> None:
    oracle = Oracle("oracle", latent_hazards)
    with progress_bars(False) as bars:
        oracle.fit(simulated, tmp_path, bars)
        scores = oracle.score(simulated, np.arange(4))
    rows = examples(simulated)
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(scores)), rows)
    assert len(rows) < len(scores)
    dataset = simulated.dataset
    assert isinstance(dataset, Simulator)
    owner = simulated.sequences.user_of_event
    for row in rows[[0, len(rows) // 2, -1]]:
        at_ms = int(simulated.sequences.times_ms[row])
        expected = dataset.true_hazard(simulated.sequences.user_ids[owner[row]], at_ms, 8)
        assert scores[row] == pytest.approx(0.0 if np.isnan(expected) else expected)
    assert oracle.us_per_event is None
    assert oracle.state_bytes is None


def test_what_events_tell_is_the_belief_s_hazard(simulated: Problem) -> None:
    scores = Oracle("attainable", told_hazards).score(simulated, simulated.parts.test.users)
    rows = simulated.example_rows(simulated.parts.test)
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(scores)), rows)
    assert len(rows)
    days, place = np.unique(simulated.sequences.times_ms[rows] // DAY_MS, return_inverse=True)
    assert isinstance(simulated.dataset, Simulator)
    asked = [simulated.sequences.user_ids[simulated.parts.test.users[0]]] * len(days)
    expected = np.nan_to_num(attainable_hazards(simulated.dataset, asked, days * DAY_MS, 8))[place]
    np.testing.assert_allclose(scores[rows], expected, rtol=1e-6)


def test_each_user_and_day_is_asked_once_and_of_validation_a_sample(simulated: Problem) -> None:
    questions: list[tuple[str, int]] = []

    def hazards(
        simulator: Simulator,  # noqa: ARG001
        user_ids: Sequence[str],
        times_ms: NDArray[np.int64],
        horizon_days: int,
        advance: Callable[[float], None] | None,  # noqa: ARG001
    ) -> NDArray[np.float64]:
        assert horizon_days == 8
        questions.extend(zip(user_ids, times_ms.tolist(), strict=True))
        return np.full(len(user_ids), 0.25)

    scores = Oracle("some", hazards, validation_users=2).score(simulated, np.arange(4))
    assert len(set(questions)) == len(questions)
    sequences = simulated.sequences
    found = {user_id for user_id, _ in questions}
    assert len(found) == 3
    assert sequences.user_ids[simulated.parts.test.users[0]] in found
    rows = examples(simulated)
    asked = np.isin(np.array(sequences.user_ids)[sequences.user_of_event[rows]], list(found))
    np.testing.assert_array_equal(np.isnan(scores[rows]), ~asked)
    again = Oracle("some", hazards, validation_users=2).score(simulated, np.arange(4))
    np.testing.assert_array_equal(scores, again)


def test_the_roster_has_both_for_the_simulator_alone() -> None:
    everyone = roster("simulator", epochs=1)
    made = {name: everyone[name]() for name in (ORACLE, ATTAINABLE)}
    assert {name: (each.name, each.kind) for name, each in made.items()} == {
        "oracle": ("oracle", "oracle"),
        "attainable": ("attainable", "oracle"),
    }
    assert {ORACLE, ATTAINABLE}.isdisjoint(roster("berka", epochs=1))


def test_hazards_of_real_borrowers_are_not_known(problem: Problem, tmp_path: Path) -> None:
    with progress_bars(False) as bars, pytest.raises(ChallengerError, match="leave the oracle out"):
        Oracle("oracle", latent_hazards).fit(problem, tmp_path, bars)
    with pytest.raises(ChallengerError, match="only the simulator"):
        Oracle("attainable", told_hazards).score(problem, np.array([0]))
