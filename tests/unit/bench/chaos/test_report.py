"""Sums of runs, and the sentences that the documents have of them."""

from __future__ import annotations

from typing import Any

from bench.chaos.report import section, summary


def outcome(seed: int, *, lost: int = 0) -> dict[str, Any]:
    verdict = {"inputs": 1_200, "scores": 1_190, "alerts": 12, "lost": lost, "twice": 0}
    plan = {"seed": seed}
    return {"plan": plan, "verdict": verdict, "disturbances": {"kills": 4, "freezes": 1}, "right": not lost}


def test_sums_are_of_all_runs() -> None:
    found = summary([outcome(1), outcome(2, lost=2)])
    assert (found["runs"], found["right"]) == (2, 1)
    assert found["disturbances"] == {"kills": 8, "freezes": 2}
    assert found["sums"]["lost"] == 2


def test_the_section_says_what_went_wrong() -> None:
    right = section(summary([outcome(7), outcome(8)]))
    assert "2 runs, seeds 7 to 8, with 2,400 inputs,\n8 kills, 2 freezes and 0 stops" in right
    assert "2 of 2 runs were right: nothing lost" in right
    assert "1 of 2 runs were right: the others had 3 lost." in section(summary([outcome(7), outcome(8, lost=3)]))
