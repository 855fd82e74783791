"""Commands of the model: `train` and `evaluate`. They load PyTorch only when called."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import typer
from rich.progress import Progress
from rich.table import Table

from foreshock.options import Report, console, fail, takes_settings
from foreshock.sources import MonthsOption, PathOption, SourceOption, UsersOption, open_source
from model.architectures import ARCHITECTURES, DEFAULT, Family
from model.bundle import Bundle, BundleError
from model.datasets.dataset import Dataset, DatasetError
from model.training.curves import CURVES_FILE
from model.training.input_rules import Alignment, InputRules, Missing
from stream.settings import Settings, load_settings

Device: TypeAlias = Literal["auto", "cpu", "cuda"]


def train(
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")],
    source: SourceOption = "simulator",
    path: PathOption = None,
    users: UsersOption = 4_000,
    months: MonthsOption = 24,
    seed: Annotated[int, typer.Option(help="Seed of the simulation and of the training.")] = 1,
    architecture: Annotated[Family, typer.Option(help="Family of the network, see docs/model.md.")] = DEFAULT,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs; early stopping may end sooner.")] = 20,
    weight_decay: Annotated[float, typer.Option(min=0, help="L2 penalty; see docs/model.md before changing it.")] = 0.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of PyTorch.")] = 1,
    protected_input: Annotated[
        list[str] | None, typer.Option(help="Also take this protected profile field (age_band, sex) as an input.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="Train this bundle further instead of a new model.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-6, max=1, help="Of Adam.", show_default="0.001; 0.0003 with --from")
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Of the fusion.", show_default="the architecture's")
    ] = None,
    batch_users: Annotated[
        int | None, typer.Option(min=1, help="Users per step.", show_default="8 to 64, by the size of the data")
    ] = None,
    jitter: Annotated[float, typer.Option(min=0, help="Noise on the logarithm of amounts, in training only.")] = 0.0,
    time_warp: Annotated[float, typer.Option(min=0, help="Noise on the pace of histories, in training only.")] = 0.0,
    unseen_rate: Annotated[float, typer.Option(min=0, max=0.9, help="Categories shown as unseen in training.")] = 0.01,
    blank_rate: Annotated[float, typer.Option(min=0, max=0.9, help="Kinds of a user blanked in training.")] = 0.1,
    winsor_tail: Annotated[float, typer.Option(min=0, max=0.4, help="Share clipped at either end.")] = 0.0005,
    missing: Annotated[Missing, typer.Option(help="How a missing value is shown to the model.")] = "flag",
    alignment: Annotated[Alignment, typer.Option(help="Events in time, or in their order alone.")] = "time",
    device: Annotated[Device, typer.Option(help="Where to compute; auto takes a GPU if there is one.")] = "auto",
    max_users: Annotated[int | None, typer.Option(min=1, help="Read only the first so many users.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew though there is a checkpoint.")] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard logs.")] = None,
) -> None:
    """Train a model and write its bundle. Needs the `train` extra (PyTorch).

    After every epoch a checkpoint and the learning curves are written to OUT.checkpoint; the same command goes on from
    there after an interruption.
    """
    try:
        from model.training.augmentation import Augmentation
        from model.training.checkpoint import CheckpointError
        from model.training.export import ExportError
        from model.training.preparation import TrainingError
        from model.training.train import train as run_training
    except ImportError as error:
        fail(f"{error}; training needs PyTorch: pip install -c constraints.txt '.[train]'")
    dataset = open_source(source, path, users, months, seed)
    command = shlex.join(["foreshock", *sys.argv[1:]])
    try:
        rules = InputRules(winsor_tail, missing, alignment)
        metrics = run_training(
            dataset,
            out,
            seed=seed,
            epochs=epochs,
            weight_decay=weight_decay,
            threads=threads,
            command=command,
            architecture=ARCHITECTURES[architecture],
            protected_inputs=protected_input or (),
            start=start,
            learning_rate=learning_rate,
            dropout=dropout,
            batch_users=batch_users,
            augmentation=Augmentation(jitter, time_warp, unseen_rate, blank_rate),
            rules=None if rules == InputRules() else rules,
            device=device,
            max_users=max_users,
            restart=restart,
            tensorboard=tensorboard,
            finish=lambda bundle, bars: _with_effects(bundle, dataset, bars),
        )
    except (BundleError, CheckpointError, DatasetError, TrainingError, ExportError, ValueError) as error:
        fail(str(error))
    _show({name: value for name, value in metrics.items() if name not in ("history", "options")})
    console.print(f"bundle {Bundle.load(out).fingerprint_hex} is in {out}, its learning curves in {out / CURVES_FILE}")


def _with_effects(bundle: Bundle, dataset: Dataset, bars: Progress) -> Bundle:
    """The bundle with what its reasons weigh."""
    from reports.faithfulness import calibrate_bundle

    calibrate_bundle(load_settings(bundle=bundle.path), dataset, bars)
    return Bundle.load(bundle.path)


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
    from model.evaluation.evaluate import evaluate as run_evaluation

    try:
        loaded = Bundle.load(settings.bundle)
        dataset = open_source(source, path, users, months, seed)
        metrics = run_evaluation(loaded, dataset, held_out_only=source != "simulator")
    except (BundleError, DatasetError, ValueError) as error:
        fail(str(error))
    _show(metrics)
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(metrics), indent=2) + b"\n")


def _show(metrics: Any) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _flat(metrics):
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console.print(table)


def _flat(metrics: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(metrics, dict):
        return [(prefix.rstrip("."), metrics)]
    return [row for name, value in metrics.items() for row in _flat(value, f"{prefix}{name}.")]
