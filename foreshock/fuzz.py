"""The `fuzz` command: inputs by the million for everything that reads what others may have written."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from foreshock.options import AsJson
from foreshock.terminal import console, errors, fail, print_json, styled

if TYPE_CHECKING:
    from bench.fuzzing.run import Outcome


class TargetName(StrEnum):
    """A target of `bench.fuzzing.targets`, or all of them."""

    ALL = "all"
    EVENTS = "events"
    PRODUCTS = "products"
    OUTPUTS = "outputs"
    PUBLISHED = "published"
    BATCHES = "batches"
    CHANGELOG = "changelog"
    ROWS = "rows"
    ORDER_JOURNAL = "order-journal"
    OFFSETS = "offsets"
    ARCHIVE_MANIFESTS = "archive-manifests"
    ARCHIVE_FILES = "archive-files"
    MANIFESTS = "manifests"
    GRAPHS = "graphs"
    DOCUMENTS = "documents"
    SIGNATURES = "signatures"
    SETTINGS = "settings"


def fuzz(
    target: Annotated[TargetName, typer.Argument(metavar="TARGET", help="What to fuzz.")] = TargetName.ALL,
    inputs: Annotated[int, typer.Option(min=1, help="Inputs of each target.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the mutations.")] = 1,
    guided: Annotated[
        bool, typer.Option("--guided", help="Look for inputs that reach new code; needs the extra `fuzz` (Atheris).")
    ] = False,
    findings: Annotated[Path, typer.Option(help="Folder for inputs that did what none may do.")] = Path("findings"),
    report: Annotated[
        Path | None, typer.Option("--report", help="Add the figures to those in this JSON file, if there is one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fuzz everything that reads what others may have written.

    Events, outputs, changelogs, journals, archives, bundles and settings: good inputs are mutated, and each must have
    one of the documented outcomes. Another exception, a crash, a hang, more memory than a bound or a wrong value is a
    finding: its input is kept, and the exit code is 1. Needs no servers.

        foreshock fuzz events --inputs 1000000
    """
    from bench.fuzzing.report import added
    from bench.fuzzing.targets import TARGETS

    names = list(TARGETS) if target is TargetName.ALL else [target.value]
    if guided:
        raise typer.Exit(max(_guided(name, inputs, seed, findings) for name in names))
    outcomes = [_mutated(name, inputs, seed, findings, as_json=as_json) for name in names]
    if as_json:
        print_json(added({}, outcomes, seed))
    if report is not None:
        before = msgspec.json.decode(report.read_bytes()) if report.exists() else {}
        report.write_bytes(msgspec.json.format(msgspec.json.encode(added(before, outcomes, seed)), indent=1) + b"\n")
    raise typer.Exit(1 if any(outcome.findings for outcome in outcomes) else 0)


def _mutated(name: str, inputs: int, seed: int, folder: Path, *, as_json: bool) -> Outcome:
    from bench.fuzzing.run import fuzz as run

    shown_on = errors if as_json else console
    with shown_on.status(f"fuzzing {name} …") as status:
        outcome = run(name, inputs, seed, lambda tried: status.update(styled(f"fuzzing {name}: {tried:,} inputs")))
    shown_on.print(
        f"{name}: {outcome.inputs:,} inputs in {outcome.seconds:.0f} s, {len(outcome.findings)} findings, "
        f"at most {outcome.peak_mib:.0f} MiB; "
        + ", ".join(f"{count:,} {label}" for label, count in outcome.outcomes.most_common(6))
    )
    for finding in outcome.findings:
        shown_on.print(f"{finding.kind}: {finding.message.strip()}")
        shown_on.print(f"the input is in {finding.store(folder)}")
    return outcome


def _guided(name: str, inputs: int, seed: int, folder: Path) -> int:
    if importlib.util.find_spec("atheris") is None:
        fail("--guided needs the package atheris: pip install -c constraints.txt '.[fuzz]'")
    folder.mkdir(parents=True, exist_ok=True)
    console.print(f"{name}: {inputs:,} inputs, guided by coverage")
    command = [sys.executable, "-m", "bench.fuzzing.guided", name, str(inputs), str(seed), str(folder)]
    return 1 if subprocess.run(command, check=False).returncode else 0
