"""Sums of runs, and the sentences that the documents have of them."""

from __future__ import annotations

from typing import Any

import msgspec

from bench.chaos.report import report_bytes, section, summary


def outcome(seed: int, *, lost: int = 0) -> dict[str, Any]:
    verdict = {"inputs": 1_200, "scores": 1_190, "alerts": 12, "lost": lost, "twice": 0}
    plan = {"seed": seed, "faults": ["kill", "freeze", *(["hot_user"] if seed == 7 else [])]}
    disturbances = {"kill": 3, "freeze": 1, "kills": 4, "freezes": 1}
    recovery_s = {"kill": [2.0, 4.0, 9.0 + seed], "freeze": []}
    return {
        "plan": plan,
        "verdict": verdict,
        "disturbances": disturbances,
        "recovery_s": recovery_s,
        "right": not lost,
    }


def test_sums_are_of_all_runs() -> None:
    found = summary([outcome(1), outcome(2, lost=2)])
    assert (found["runs"], found["right"]) == (2, 1)
    assert found["disturbances"] == {"kill": 6, "freeze": 2, "kills": 8, "freezes": 2}
    assert found["sums"]["lost"] == 2


def test_the_section_says_what_went_wrong() -> None:
    right = section(summary([outcome(7), outcome(8)]))
    assert "2 runs, seeds 7 to 8, with 2,400 inputs,\n8 kills, 2 freezes and 0 stops" in right
    assert "2 of 2 runs were right: nothing lost" in right
    assert "1 of 2 runs were right: the others had 3 lost." in section(summary([outcome(7), outcome(8, lost=3)]))


def test_the_section_says_of_which_versions_the_runs_are() -> None:
    runs = [outcome(number) | {"commit": version} for number, version in ((7, "abc"), (8, "abc"), (9, "def"))]
    assert section(summary(runs)).splitlines()[2] == "Commits: abc, def."
    assert "Commits" not in section(summary([outcome(7)]))


def test_the_table_has_each_fault_with_the_seed_that_shows_it_best() -> None:
    rows = [line for line in section(summary([outcome(7), outcome(8)])).splitlines() if line.startswith("|")][2:]
    assert [row.split(" | ")[1:] for row in rows] == [
        ["`kill`", "2", "6", "4 s, at most 17 s", "8 |"],
        ["`freeze`", "2", "2", "", "8 |"],
        ["`hot_user`", "1", "whole run", "", "7 |"],
    ]


def test_the_report_has_a_line_for_each_run() -> None:
    outcomes = [outcome(1), outcome(2)]
    written = report_bytes(outcomes)
    assert msgspec.json.decode(written) == summary(outcomes)
    assert len(written.splitlines()) == 4
