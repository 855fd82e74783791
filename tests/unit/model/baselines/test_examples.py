"""Which rows a challenger may learn from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from events.calendar import DAY_MS
from model.baselines.examples import examples_of
from model.comparison.problem import Problem
from model.histories.labels import known_by


def test_only_matured_events_of_the_part_are_examples(problem: Problem) -> None:
    sequences, part = problem.sequences, problem.parts.train
    cutoff_ms = int(np.quantile(sequences.times_ms, 0.9))
    early = replace(part, truth=known_by(problem.truth, cutoff_ms), skips=np.full_like(part.skips, 2))
    found = examples_of(problem, early)
    owner = sequences.user_of_event[found.rows]
    assert set(owner) <= set(part.users)
    assert (sequences.times_ms[found.rows] + problem.headline_days * DAY_MS <= cutoff_ms).all()
    assert (found.rows - sequences.merged_starts[owner] >= 2).all()
    assert (np.diff(found.rows) > 0).all()
    assert not found.happened.any()  # defaults come after the cutoff and are not known by then


def test_outcomes_are_defaults_within_the_headline_horizon(problem: Problem) -> None:
    sequences = problem.sequences
    found = examples_of(problem, problem.parts.train)
    until_days = (
        problem.truth.default_date_ms[sequences.user_of_event[found.rows]] - sequences.times_ms[found.rows]
    ) / DAY_MS
    np.testing.assert_array_equal(found.happened, until_days <= problem.headline_days)
    assert found.happened.any()


def test_a_label_has_one_row_per_client(label_problem: Problem) -> None:
    part = label_problem.parts.train
    found = examples_of(label_problem, part)
    np.testing.assert_array_equal(found.rows, np.sort(label_problem.sequences.merged_starts[part.users + 1] - 1))
    np.testing.assert_array_equal(found.happened, label_problem.labels[part.users] > 0)


def test_of_too_many_rows_a_sample_is_taken_that_repeats(problem: Problem) -> None:
    whole = examples_of(problem, problem.parts.train)
    sample = examples_of(problem, problem.parts.train, 300)
    assert len(sample.rows) == 300 < len(whole.rows)
    place = np.searchsorted(whole.rows, sample.rows)
    np.testing.assert_array_equal(whole.rows[place], sample.rows)
    np.testing.assert_array_equal(whole.happened[place], sample.happened)
    assert abs(sample.happened.mean() - whole.happened.mean()) < 0.1
    np.testing.assert_array_equal(sample.rows, examples_of(problem, problem.parts.train, 300).rows)


def test_only_judged_events_are_learnt_from(problem: Problem) -> None:
    judged = np.arange(len(problem.sequences.kinds)) % 3 == 0
    asked = replace(problem, judged=judged)
    for part in (problem.parts.train, problem.parts.validation):
        everything, found = examples_of(problem, part), examples_of(asked, part)
        kept = judged[everything.rows]
        assert 0 < kept.sum() < len(kept)
        np.testing.assert_array_equal(found.rows, everything.rows[kept])
        np.testing.assert_array_equal(found.happened, everything.happened[kept])
