"""Runs add up target by target, and a finding is told."""

from __future__ import annotations

from collections import Counter

from bench.fuzzing.report import added, section
from bench.fuzzing.run import Finding, Outcome


def test_runs_add_up() -> None:
    first = Outcome("rows", 10, 1.0, Counter(mismatch=7, rows=3), [], 70.2)
    second = Outcome("rows", 5, 1.0, Counter(mismatch=5), [Finding("rows", "hang", "", b"")], 60.0)
    other = Outcome("events", 2_000, 1.0, Counter({str(number): number for number in range(1, 7)}), [], 90.0)
    report = added(added({}, [first, other], 2), [second], 1)
    assert report["rows"] == {
        "inputs": 15,
        "findings": 1,
        "peak_mib": 70,
        "seeds": [1, 2],
        "outcomes": {"mismatch": 12, "rows": 3},
    }
    text = section(report)
    assert "has 2,015 inputs and 1 findings" in text
    assert "| `rows` | 15 | 1 | 70 | 12 mismatch, 3 rows |" in text
    assert "6 6, 5 5, 4 4, 3 3, 3 others |" in text
