"""What fuzzing came to, run by run added up: the report of `foreshock fuzz`, and what reliability.md says of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.fuzzing.run import Outcome

RESULTS, SECTION = "fuzzing.json", "fuzzing"
"""The report beside reliability.md that its section is made from, and the section's name."""

MOST_OUTCOMES = 4
"""How many outcomes of a target the table names."""


def added(report: Mapping[str, Any], outcomes: Iterable[Outcome], seed: int) -> dict[str, Any]:
    """A report (empty at first) with the runs of one seed added, target by target."""
    found: dict[str, Any] = {name: dict(figures) for name, figures in report.items()}
    for outcome in outcomes:
        before = found.get(outcome.target, {"inputs": 0, "findings": 0, "peak_mib": 0, "seeds": [], "outcomes": {}})
        counts = Counter(before["outcomes"]) + outcome.outcomes
        found[outcome.target] = {
            "inputs": before["inputs"] + outcome.inputs,
            "findings": before["findings"] + len(outcome.findings),
            "peak_mib": max(before["peak_mib"], round(outcome.peak_mib)),
            "seeds": sorted({*before["seeds"], seed}),
            "outcomes": dict(counts.most_common()),
        }
    return found


def section(report: Mapping[str, Any]) -> str:
    """The section of reliability.md: a table of the targets, and their sum."""
    inputs, findings = (sum(figures[name] for figures in report.values()) for name in ("inputs", "findings"))
    lines = [
        f"The last report ([{RESULTS}]({RESULTS})) has {inputs:,} inputs and {findings or 'no'} findings.",
        "",
        "| target | inputs | findings | most memory, MiB | what became of them |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, figures in report.items():
        outcomes = list(figures["outcomes"].items())
        told = ", ".join(f"{count:,} {label}" for label, count in outcomes[:MOST_OUTCOMES])
        rest = sum(count for _, count in outcomes[MOST_OUTCOMES:])
        told += f", {rest:,} others" if rest else ""
        lines.append(f"| `{name}` | {figures['inputs']:,} | {figures['findings']} | {figures['peak_mib']} | {told} |")
    return "\n".join(lines)
