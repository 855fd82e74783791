"""Every proof that nothing leaks is shown to fail where something does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from events.types import KINDS
from model.architectures import Architecture
from model.comparison.leakage import LeakError, check_blind_to_future, check_parts, with_other_future, without_future
from model.comparison.problem import Problem
from model.comparison.served import Served
from model.histories.labels import NEVER_MS

SMALL = Architecture(hidden=(8, 8, 4), profile_hidden=8, profile_embedding=4, fusion=8)


def _with(problem: Problem, **parts: Any) -> Problem:
    return replace(problem, parts=replace(problem.parts, **parts))


def test_honest_parts_pass(problem: Problem) -> None:
    check_parts(problem)
    assert min(len(part.users) for part in (problem.parts.train, problem.parts.test)) > 30


def test_a_user_in_two_parts_is_found(problem: Problem) -> None:
    test, train = problem.parts.test, problem.parts.train
    both = replace(
        test,
        users=np.append(test.users, train.users[0]),
        counts=np.append(test.counts, train.counts[0]),
        skips=np.append(test.skips, 0),
    )
    with pytest.raises(LeakError, match="is in the test part and another"):
        check_parts(_with(problem, test=both))


def test_an_event_that_trains_and_validates_is_found(problem: Problem) -> None:
    validation = problem.parts.validation
    with pytest.raises(LeakError, match="both train and validation"):
        check_parts(_with(problem, validation=replace(validation, skips=np.zeros_like(validation.skips))))


def test_training_events_after_the_cut_are_found(problem: Problem) -> None:
    train, validation = problem.parts.train, problem.parts.validation
    # The next part gives up the events that training takes, so only the cut itself is broken.
    later = _with(
        problem,
        train=replace(train, counts=validation.counts),
        validation=replace(validation, skips=validation.counts),
    )
    with pytest.raises(LeakError, match="an example of train lies after the end"):
        check_parts(later)


def test_a_truth_that_looks_past_the_cut_is_found(problem: Problem) -> None:
    with pytest.raises(LeakError, match="the truth of validation looks past"):
        check_parts(_with(problem, validation=replace(problem.parts.validation, truth=problem.truth)))
    with pytest.raises(LeakError, match="the truth of train looks past"):
        check_parts(_with(problem, train=replace(problem.parts.train, truth=problem.parts.validation.truth)))


def test_test_examples_before_the_cut_are_found(problem: Problem) -> None:
    test = problem.parts.test
    with pytest.raises(LeakError, match="before the end of validation"):
        check_parts(_with(problem, test=replace(test, skips=np.zeros_like(test.skips))))


def _moment(problem: Problem) -> int:
    return int(np.median(problem.sequences.times_ms))


def test_another_future_leaves_the_past_and_other_users_alone(problem: Problem) -> None:
    users, at_ms = problem.parts.test.users[:10], _moment(problem)
    changed = with_other_future(problem, users, at_ms, seed=1).sequences
    sequences = problem.sequences
    past = np.diff(sequences.merged_starts)
    past[users] = sequences.events_before(at_ms)[users]
    for kind in KINDS:
        same = sequences.rows_of(kind, past)
        other = np.setdiff1d(np.arange(len(sequences.numeric[kind])), same)
        assert np.array_equal(changed.numeric[kind][same], sequences.numeric[kind][same], equal_nan=True)
        assert np.array_equal(changed.categorical[kind][same], sequences.categorical[kind][same])
        assert kind == "profiles" or len(other), "most borrowers tell of themselves once, and early"
        assert not len(other) or not np.array_equal(
            changed.numeric[kind][other], sequences.numeric[kind][other], equal_nan=True
        )
    moved = np.flatnonzero(changed.times_ms != sequences.times_ms)
    assert len(moved)
    assert (sequences.times_ms[moved] >= at_ms).all()
    assert np.isin(sequences.user_of_event[moved], users).all()


def test_a_missing_future_is_the_history_as_it_was_read_up_to_then(problem: Problem) -> None:
    users, at_ms = problem.parts.test.users[:10], _moment(problem)
    shorter, sequences = without_future(problem, users, at_ms).sequences, problem.sequences
    assert (shorter.times_ms[np.isin(shorter.user_of_event, users)] < at_ms).all()
    for user in (*users, problem.parts.train.users[0]):
        kept = shorter.merged_starts[user + 1] - shorter.merged_starts[user]
        old, new = (slice(s.merged_starts[user], s.merged_starts[user] + kept) for s in (sequences, shorter))
        assert np.array_equal(shorter.kinds[new], sequences.kinds[old])
        assert np.array_equal(shorter.latest[new], sequences.latest[old])
        for position, kind in enumerate(KINDS):
            count = shorter.starts[kind][user + 1] - shorter.starts[kind][user]
            assert count == (shorter.latest[new][-1, position] if kept else 0)
            begin = sequences.starts[kind][user]
            assert np.array_equal(
                shorter.numeric[kind][shorter.starts[kind][user] :][:count],
                sequences.numeric[kind][begin : begin + count],
                equal_nan=True,
            )


def test_who_sees_the_future_is_found(problem: Problem, by_arrears: Any, leaky: Any, bars: Any, tmp_path: Path) -> None:
    users, at_ms = problem.parts.test.users[:20], _moment(problem)
    honest = by_arrears()
    honest.fit(problem, tmp_path, bars)
    check_blind_to_future(honest, problem, users, at_ms)
    for way, said in (("next event", "is another"), ("next time", "is another"), ("length", "is missing")):
        candidate = leaky[way]()
        candidate.fit(problem, tmp_path, bars)
        with pytest.raises(LeakError, match=said):
            check_blind_to_future(candidate, problem, users, at_ms)


def _otherwise_after_training(problem: Problem) -> Problem:
    """The same training and validation parts; everything else is another."""
    parts = problem.parts
    later = with_other_future(problem, np.union1d(parts.train.users, parts.validation.users), parts.until_ms, seed=4)
    test = with_other_future(later, parts.test.users, 0, seed=5)
    default_date_ms = np.where(problem.truth.default_date_ms < parts.until_ms, problem.truth.default_date_ms, NEVER_MS)
    default_date_ms[parts.test.users] = np.where(
        default_date_ms[parts.test.users] < NEVER_MS, NEVER_MS, parts.until_ms + 1
    )
    truth = replace(problem.truth, default_date_ms=default_date_ms)
    return replace(test, truth=truth, parts=replace(parts, test=replace(parts.test, truth=truth)))


def test_nothing_outside_training_and_validation_changes_a_candidate(
    problem: Problem, by_arrears: Any, leaky: Any, bars: Any, tmp_path: Path
) -> None:
    for make, equal in ((by_arrears, True), (leaky["learns from all"], False)):
        fitted = []
        for each in (problem, _otherwise_after_training(problem)):
            candidate = make()
            candidate.fit(each, tmp_path, bars)
            fitted.append(candidate.rates)
        assert np.array_equal(*fitted) is equal


def _weights(problem: Problem, bars: Any) -> dict[str, torch.Tensor]:
    trainer = Served("small", SMALL, epochs=1).trainer(problem)
    trainer.fit(bars)
    trainer.calibrate()
    return trainer.model.state_dict()


def test_nothing_outside_training_and_validation_changes_a_served_model(problem: Problem, bars: Any) -> None:
    weights, other = (_weights(each, bars) for each in (problem, _otherwise_after_training(problem)))
    assert all(torch.equal(weights[name], other[name]) for name in weights)


def test_a_served_model_that_trains_past_the_cut_is_another(problem: Problem, bars: Any) -> None:
    """The comparison of weights can fail: one that is given more than training must have comes out otherwise."""
    parts = problem.parts
    longer = _with(problem, train=replace(parts.train, counts=parts.validation.counts, truth=parts.validation.truth))
    changed = _otherwise_after_training(replace(longer, parts=replace(longer.parts, until_ms=parts.from_ms)))
    weights, other = (_weights(each, bars) for each in (longer, changed))
    assert not all(torch.equal(weights[name], other[name]) for name in weights)
