"""The `evaluate` command."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from foreshock.options import AsJson, Report, takes_settings
from foreshock.sources import MonthsOption, PathOption, SourceOption, UsersOption, data_option, open_source
from foreshock.tables import facts_table
from foreshock.terminal import console, fail, print_json
from model.bundle import Bundle, BundleError
from model.datasets.dataset import DatasetError
from stream.settings import Settings


@takes_settings("bundle")
def evaluate(
    *,
    settings: Settings,
    source: SourceOption = "simulator",
    path: PathOption = None,
    users: UsersOption = 1_000,
    months: MonthsOption = 24,
    seed: Annotated[int, data_option("Seed of the simulation; give another than in training.")] = 1_001,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Score a source with a bundle and compare with the truth.

    Needs a bundle, no PyTorch and no servers. Of a real source, only the held-out clients are judged.

        foreshock evaluate --bundle my-bundle --report metrics.json
    """
    from model.evaluation.evaluate import evaluate as run_evaluation

    try:
        loaded = Bundle.load(settings.bundle, settings.bundle_public_key)
        dataset = open_source(source, path, users, months, seed)
        metrics = run_evaluation(loaded, dataset, held_out_only=source != "simulator")
    except (BundleError, DatasetError, ValueError) as error:
        fail(str(error))
    if as_json:
        print_json(metrics)
    else:
        show_metrics(metrics)
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(metrics), indent=2) + b"\n")


def show_metrics(metrics: Any) -> None:
    """Print nested figures, one a line."""
    rows = ((name, f"{value:.4f}" if isinstance(value, float) else str(value)) for name, value in _flat(metrics))
    console.print(facts_table(rows))


def _flat(metrics: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(metrics, dict):
        return [(prefix.rstrip("."), metrics)]
    return [row for name, value in metrics.items() for row in _flat(value, f"{prefix}{name}.")]
