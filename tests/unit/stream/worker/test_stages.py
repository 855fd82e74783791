"""Seconds are counted to the stage that they passed in, also when it fails."""

from __future__ import annotations

import contextlib

from stream.worker.stages import STAGES, Stages


def test_counts_by_stage() -> None:
    now_s = 0.0
    stages = Stages(lambda: now_s)
    for stage, seconds in (("score", 3.0), ("intake", 1.0), ("score", 4.0), ("changelog", 100.0)):
        with stages(stage):
            now_s += seconds
    with contextlib.suppress(ValueError), stages("merge"):
        now_s += 2.0
        raise ValueError
    assert {stage: spent for stage, spent in stages.spent_s.items() if spent} == {
        "score": 7.0,
        "intake": 1.0,
        "changelog": 100.0,
        "merge": 2.0,
    }
    assert set(stages.spent_s) == set(STAGES)
    assert "score=70%" in stages.shares()
    assert "changelog" not in stages.shares(), "what runs beside the loop is no share of it"


def test_each_commit_is_timed() -> None:
    now_s = 0.0
    stages = Stages(lambda: now_s)
    for took_s in (0.02, 0.3):
        with stages("commit"):
            now_s += took_s
    with stages("score"):
        now_s += 1.0
    assert stages.commits.count == 2
    assert dict(stages.commits.cumulative())["0.2"] == 1
    assert stages.commits.total == stages.spent_s["commit"]
