"""What a replay's diff says of a comparison."""

from __future__ import annotations

import datetime as dt

import pytest

from stream.comparison.alerts import Opening, ShiftedAlert
from stream.outputs import moment_of
from stream.published_outputs import Comparison, Scope
from stream.replay.diff import AlertShift, ReplayDiff
from stream.replay.range import ReplayError, ReplayRange

DAY = [dt.datetime(2024, 1, day, tzinfo=dt.UTC) for day in range(1, 10)]


def compared(scores: int = 3, identical: int = 3, **found: object) -> Comparison:
    result = Comparison(Scope(), identical=identical, **found)  # type: ignore[arg-type]
    result.scores.scores = scores
    return result


def test_any_difference_counts() -> None:
    assert not ReplayDiff.of(compared()).differs
    assert ReplayDiff.of(compared(identical=2)).differs
    assert ReplayDiff.of(compared(changed_alert_records=1)).differs
    for what in ("only_live", "only_other", "live_before", "live_after", "other_after"):
        found = compared()
        found.not_compared[what] = 1
        assert ReplayDiff.of(found).differs, what


def test_what_retention_has_taken_of_the_live_scores_is_no_difference() -> None:
    found = compared()
    found.not_compared["other_before"] = 4
    diff = ReplayDiff.of(found)
    assert (diff.live_expired, diff.only_replayed, diff.differs) == (4, 0, False)


def test_alerts_that_differ_are_named() -> None:
    early, late = Opening(86_400_000, "HIGH"), Opening(2 * 86_400_000, "HIGH")
    shifts = [
        ("a", ShiftedAlert("gained", None, early)), ("b", ShiftedAlert("lost", early, None)),
        ("c", ShiftedAlert("earlier", late, early)), ("d", ShiftedAlert("later", early, late)),
    ]  # fmt: skip
    diff = ReplayDiff.of(compared(moved_alerts=shifts))
    assert diff.differs
    assert diff.alerts_gained == [AlertShift("a", None, moment_of(early.opened_ms))]
    assert diff.alerts_lost == [AlertShift("b", moment_of(early.opened_ms), None)]
    assert [shift.lead_days for shift in (*diff.alerts_earlier, *diff.alerts_later)] == [1.0, -1.0]
    assert diff.as_report()["alerts_earlier"][0]["user_id"] == "c"


def test_the_alert_budget_is_of_borrowers_and_days() -> None:
    found = compared(users=500, first_ms=0, last_ms=60 * 86_400_000)
    assert found.alerts_per_1000(15) == 15.0
    assert compared().alerts_per_1000(15) is None


def test_a_range_is_half_open_and_not_empty() -> None:
    covered = ReplayRange("r", DAY[1], DAY[2])
    assert covered.covers(DAY[1])
    assert not covered.covers(DAY[2])
    assert covered.wants(b"anyone")
    assert not ReplayRange("r", DAY[1], DAY[2], frozenset({"u"})).wants(b"v")
    with pytest.raises(ReplayError, match="not before"):
        ReplayRange("r", DAY[2], DAY[2])
