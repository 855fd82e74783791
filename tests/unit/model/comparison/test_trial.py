"""A trial is not run twice, and is run again when anything that decides its scores is another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.comparison.leakage import LeakError
from model.comparison.problem import Problem
from model.comparison.trial import RECORD_FILE, run_trial
from model.evaluation.playback import merged_rows


def test_a_second_run_reads_what_the_first_left(problem: Problem, by_arrears: Any, bars: Any, tmp_path: Path) -> None:
    first, second = by_arrears(), by_arrears()
    fitted = run_trial(first, problem, tmp_path, bars)
    read = run_trial(second, problem, tmp_path, bars)
    assert (first.fits, second.fits) == (1, 0)
    assert np.array_equal(fitted.scores, read.scores, equal_nan=True)
    assert (read.kind, read.state_bytes, read.is_probability) == ("challenger", 8, True)
    scored = np.union1d(problem.parts.validation.users, problem.parts.test.users)
    assert np.array_equal(np.flatnonzero(~np.isnan(read.scores)), merged_rows(problem.sequences, scored))


def test_another_problem_candidate_or_setting_is_another_trial(
    problem: Problem, by_arrears: Any, bars: Any, tmp_path: Path
) -> None:
    run_trial(by_arrears(), problem, tmp_path, bars)
    parts = problem.parts
    fewer = replace(parts, train=replace(parts.train, counts=parts.train.counts - 1))

    class Tuned(by_arrears):
        settings = {"depth": 3}  # noqa: RUF012

    others = [
        (by_arrears(), replace(problem, seed=problem.seed + 1)),
        (by_arrears(), replace(problem, parts=fewer)),
        (by_arrears(), replace(problem, judged=np.ones(len(problem.sequences.kinds), dtype=bool))),
        (by_arrears("other"), problem),
        (Tuned(), problem),
    ]
    for candidate, posed in others:
        run_trial(candidate, posed, tmp_path, bars)
        assert candidate.fits == 1


def test_a_trial_that_was_cut_short_is_run_again(problem: Problem, by_arrears: Any, bars: Any, tmp_path: Path) -> None:
    run_trial(by_arrears(), problem, tmp_path, bars)
    (record,) = tmp_path.rglob(RECORD_FILE)
    record.write_bytes(record.read_bytes()[:20])
    again = by_arrears()
    run_trial(again, problem, tmp_path, bars)
    assert again.fits == 1


def test_who_sees_the_future_gets_no_scores(problem: Problem, leaky: Any, bars: Any, tmp_path: Path) -> None:
    for way in ("next event", "next time", "length"):
        with pytest.raises(LeakError, match="another score when the future"):
            run_trial(leaky[way](), problem, tmp_path, bars)
    assert not list(tmp_path.rglob(RECORD_FILE))


def test_an_oracle_is_not_held_to_be_blind(problem: Problem, leaky: Any, bars: Any, tmp_path: Path) -> None:
    """It knows the process anyway; a model that did the same is stopped above."""
    oracle = leaky["length"]("attainable")
    oracle.kind = "oracle"
    assert run_trial(oracle, problem, tmp_path, bars).kind == "oracle"
