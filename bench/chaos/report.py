"""What seeded runs came to together: the report of `foreshock chaos`, and what reliability.md says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PAGE, RESULTS, SECTION = "reliability.md", "chaos.json", "chaos"
"""The page, the report beside it that the section is made from, and the section's name."""

SIZES = ("inputs", "scores", "alerts")
"""Counts of a verdict that are no faults."""


def summary(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The report of runs, each as `bench.chaos.run.Outcome.as_report` has it: their sums, and the runs themselves."""
    disturbances: dict[str, int] = {}
    sums: dict[str, int] = {}
    for outcome in outcomes:
        for total, found in ((disturbances, outcome["disturbances"]), (sums, outcome["verdict"])):
            for name, number in found.items():
                total[name] = total.get(name, 0) + number
    return {
        "runs": len(outcomes),
        "right": sum(outcome["right"] for outcome in outcomes),
        "disturbances": disturbances,
        "sums": sums,
        "outcomes": list(outcomes),
    }


def faults(verdict: Mapping[str, int]) -> dict[str, int]:
    """What is wrong by a verdict or by the sums of several; empty when nothing is."""
    return {name: number for name, number in verdict.items() if number and name not in SIZES}


def section(report: Mapping[str, Any]) -> str:
    """The section of reliability.md: what a report comes to, in two sentences."""
    sums, disturbances = report["sums"], report["disturbances"]
    seeds = sorted(outcome["plan"]["seed"] for outcome in report["outcomes"])
    wrong = faults(sums)
    found = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in wrong.items())
    times = f"{disturbances.get('kills', 0):,} kills, {disturbances.get('freezes', 0):,} freezes"
    return (
        f"The last report ([{RESULTS}]({RESULTS})) has {report['runs']} runs, seeds {seeds[0]} to {seeds[-1]}, with "
        f"{sums['inputs']:,} inputs,\n{times} and {disturbances.get('stops', 0):,} stops. "
        f"{report['right']} of {report['runs']} runs were right: "
        + (f"the others had {found}." if wrong else "nothing lost, nothing twice, nothing wrong.")
    )
