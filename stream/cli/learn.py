"""Commands of the model: `train` and `evaluate`. They load PyTorch only when called."""

from __future__ import annotations

import datetime as dt
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from model.bundle import Bundle, BundleError
from model.datasets import Dataset, DatasetError, Source, open_dataset
from stream.cli.options import Report, console, fail, takes_settings
from stream.settings import Settings

SourceOption = Annotated[Source, typer.Option(help="Where the borrowers come from.")]
PathOption = Annotated[Path | None, typer.Option(help="File or folder of a real source, see docs/data.md.")]
UsersOption = Annotated[int, typer.Option(min=10, help="Simulated borrowers.")]
MonthsOption = Annotated[int, typer.Option(min=1, help="Simulated months.")]


def train(
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")],
    source: SourceOption = "simulator",
    path: PathOption = None,
    users: UsersOption = 4_000,
    months: MonthsOption = 24,
    seed: Annotated[int, typer.Option(help="Seed of the simulation and of the training.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs; early stopping may end sooner.")] = 20,
    weight_decay: Annotated[float, typer.Option(min=0, help="L2 penalty; see docs/model.md before changing it.")] = 0.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of PyTorch.")] = 1,
    protected_input: Annotated[
        list[str] | None, typer.Option(help="Also take this protected profile field (age_band, sex) as an input.")
    ] = None,
) -> None:
    """Train a model and write its bundle. Needs the `train` extra (PyTorch)."""
    try:
        from model.export import ExportError
        from model.train import TrainingError
        from model.train import train as run_training
    except ImportError as error:
        fail(f"{error}; training needs PyTorch: pip install -c constraints.txt '.[train]'")
    dataset = open_source(source, path, users, months, seed)
    command = shlex.join(["foreshock", *sys.argv[1:]])
    try:
        metrics = run_training(
            dataset,
            out,
            seed=seed,
            epochs=epochs,
            weight_decay=weight_decay,
            threads=threads,
            command=command,
            protected_inputs=protected_input or (),
        )
    except (DatasetError, TrainingError, ExportError, ValueError) as error:
        fail(str(error))
    _show(metrics)
    console.print(f"bundle {Bundle.load(out).fingerprint_hex} is in {out}")


@takes_settings("bundle")
def evaluate(
    *,
    settings: Settings,
    source: SourceOption = "simulator",
    path: PathOption = None,
    users: UsersOption = 1_000,
    months: MonthsOption = 24,
    seed: Annotated[int, typer.Option(help="Seed of the simulation; take another than the training's.")] = 1_001,
    report: Report = None,
) -> None:
    """Score a source's events with a bundle and measure the scores against the truth. Needs no PyTorch."""
    from model.evaluate import evaluate as run_evaluation

    try:
        loaded = Bundle.load(settings.bundle)
        dataset = open_source(source, path, users, months, seed)
        metrics = run_evaluation(loaded, dataset, held_out_only=source != "simulator")
    except (BundleError, DatasetError, ValueError) as error:
        fail(str(error))
    _show(metrics)
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(metrics), indent=2) + b"\n")


def open_source(
    source: Source, path: Path | None, users: int, months: int, seed: int, start: dt.date | None = None
) -> Dataset:
    """The data set that the options name; ends the command with what is wrong with them."""
    options: dict[str, Any] = {"users": users, "months": months, "seed": seed} if source == "simulator" else {}
    if start is not None:
        options["start"] = start
    try:
        return open_dataset(source, path, **options)
    except DatasetError as error:
        fail(str(error))


def _show(metrics: Any) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _flat(metrics):
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console.print(table)


def _flat(metrics: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(metrics, dict):
        return [(prefix.rstrip("."), metrics)]
    return [row for name, value in metrics.items() for row in _flat(value, f"{prefix}{name}.")]
