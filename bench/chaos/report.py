"""What seeded runs came to together: the report of `foreshock chaos`, and what reliability.md says of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from bench.chaos.plan import FAULTS

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


def report_bytes(outcomes: Sequence[Mapping[str, Any]]) -> bytes:
    """`summary` as JSON, with one line for each run."""
    report = summary(outcomes)
    head = msgspec.json.encode({name: value for name, value in report.items() if name != "outcomes"})
    lines = b",\n".join(msgspec.json.encode(outcome) for outcome in report["outcomes"])
    return head.removesuffix(b"}") + b',"outcomes":[\n' + lines + b"\n]}\n"


def faults(verdict: Mapping[str, int]) -> dict[str, int]:
    """What is wrong by a verdict or by the sums of several; empty when nothing is."""
    return {name: number for name, number in verdict.items() if number and name not in SIZES}


def section(report: Mapping[str, Any]) -> str:
    """The section of reliability.md: what a report comes to, in two sentences, and a table by fault."""
    sums, disturbances = report["sums"], report["disturbances"]
    seeds = sorted(outcome["plan"]["seed"] for outcome in report["outcomes"])
    wrong = faults(sums)
    found = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in wrong.items())
    found = found or "lag that stayed, or processes that ended without a word"
    commits = list(dict.fromkeys(outcome["commit"] for outcome in report["outcomes"] if outcome.get("commit")))
    times = f"{disturbances.get('kills', 0):,} kills, {disturbances.get('freezes', 0):,} freezes"
    sentences = (
        f"The last report ([{RESULTS}]({RESULTS})) has {report['runs']} runs, seeds {seeds[0]} to {seeds[-1]}, with "
        f"{sums['inputs']:,} inputs,\n{times} and {disturbances.get('stops', 0):,} stops. "
        f"{report['right']} of {report['runs']} runs were right: "
        + (
            "nothing lost, nothing twice, nothing wrong."
            if report["right"] == report["runs"]
            else f"the others had {found}."
        )
        + (f"\nCommits: {', '.join(commits)}." if commits else "")
    )
    rows = list(_rows(report["outcomes"]))
    if not rows:
        return sentences
    heads = ["what happens", "kind", "runs", "times", "until all is committed again", "seed"]
    lines = [f"| {' | '.join(heads)} |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    return "\n".join([sentences, "", *lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _rows(outcomes: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """A row for each kind of fault that the runs had."""
    for kind, fault in FAULTS.items():
        having = [outcome for outcome in outcomes if kind in outcome["plan"].get("faults", ())]
        if not having:
            continue
        times = sum(outcome["disturbances"].get(kind, 0) for outcome in having)
        spans_s = sorted(span for outcome in having for span in outcome["recovery_s"].get(kind, ()))
        # The seed that shows it best has the fewest others beside it.
        shown = min(having, key=lambda outcome: (len(outcome["plan"]["faults"]), outcome["plan"]["seed"]))
        yield [
            fault.what,
            f"`{kind}`",
            f"{len(having):,}",
            f"{times:,}" if fault.needs != "arrival" else "whole run",
            f"{statistics.median(spans_s):.0f} s, at most {spans_s[-1]:.0f} s" if spans_s else "",
            str(shown["plan"]["seed"]),
        ]
