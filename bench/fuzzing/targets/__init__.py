"""What is fuzzed, by what is read. No engine here: `bench.fuzzing.run` calls targets with mutated inputs,
`bench.fuzzing.guided` with those that a coverage-guided engine makes."""

from __future__ import annotations

from bench.fuzzing.target import Target
from bench.fuzzing.targets import archives, bundles, changelog, events, journals, outputs, settings

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (events, outputs, changelog, journals, archives, bundles, settings)
    for target in module.TARGETS
}
"""Every target by its name."""
