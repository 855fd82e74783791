"""Commands that train many models to learn about training: `tune` and `ablate`. They load PyTorch only when called."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from foreshock.options import AsJson
from foreshock.sources import MonthsOption, PathOption, SourceOption, UsersOption, data_option, open_source
from foreshock.terminal import console, fail, print_json, tell
from model.datasets.dataset import DatasetError, Source


def tune(
    study: Annotated[Path, typer.Option(help="SQLite file of the study; an existing one is continued.")],
    report: Annotated[Path, typer.Option(help="JSON file for the best options and all trials.")],
    source: SourceOption = "simulator",
    path: PathOption = None,
    users: UsersOption = 1_500,
    months: MonthsOption = 18,
    seed: Annotated[int, data_option("Seed of the simulation, the trainings and the search.")] = 1,
    trials: Annotated[int, typer.Option(min=1, help="Stop when the study has this many finished trials.")] = 20,
    minutes: Annotated[float, typer.Option(min=0.1, help="Stop after this many minutes.")] = 30.0,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs of a trial.")] = 6,
    as_json: AsJson = False,
) -> None:
    """Search for good options of `train`.

    Needs the `train` extra (Optuna). Every trial is judged on the validation part alone. A study that exists is
    continued.

        foreshock tune --study study.db --report tuning.json --minutes 60
    """
    try:
        import optuna  # noqa: F401

        from model.training.preparation import TrainingError
        from model.training.tune import tune as run_search
    except ImportError as error:
        fail(f"{error}; tuning needs PyTorch and Optuna: pip install -c constraints.txt '.[train]'")
    data = {"source": source, **_data_options(source, path, users, months)}
    arguments = [text for name, value in data.items() for text in (f"--{name}", str(value))]
    try:
        found = run_search(
            open_source(source, path, users, months, seed),
            study,
            trials=trials,
            minutes=minutes,
            epochs=epochs,
            seed=seed,
            settings=data,
            train_arguments=[*arguments, "--seed", str(seed)],
        )
    except (DatasetError, TrainingError, ValueError) as error:
        fail(str(error))
    report.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    tell(as_json, found, f"{len(found.trials)} trials; validation AUC {found.validation_auc:.4f} with", found.command)


def ablate(
    report: Annotated[Path, typer.Option(help="JSON file of the figures; a stopped run goes on from it.")],
    page: Annotated[Path | None, typer.Option(help="Also write the figures as this Markdown page.")] = None,
    choices: Annotated[
        Literal["inputs", "contracts"],
        typer.Option(help="Which choices: inputs (and augmentation), or contracts (inputs, and a state for each)."),
    ] = "inputs",
    source: SourceOption = "simulator",
    path: PathOption = None,
    users: UsersOption = 1_500,
    months: MonthsOption = 18,
    seed: Annotated[
        list[int] | None,
        data_option("Seed of the simulation and of the training; may be given several times (1 and 2 if not given)."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each training.")] = 4,
    as_json: AsJson = False,
) -> None:
    """Measure what each choice about inputs or contracts gains.

    Trains with and without each choice. Needs the `train` extra (PyTorch). A stopped run goes on from its report.

        foreshock ablate --report docs/ablations.json --page docs/ablations.md
    """
    try:
        from model.training.ablation import ablate as run_ablations
        from model.training.ablation import page as page_of
        from model.training.preparation import TrainingError
    except ImportError as error:
        fail(f"{error}; training needs PyTorch: pip install -c constraints.txt '.[train]'")
    try:
        found = run_ablations(
            lambda number: open_source(source, path, users, months, number),
            seed or [1, 2],
            report,
            epochs=epochs,
            command=shlex.join(["foreshock", *sys.argv[1:]]),
            settings={"source": source, **_data_options(source, path, users, months)},
            choices=choices,
        )
    except (DatasetError, TrainingError, ValueError) as error:
        fail(str(error))
    text = page_of(found)
    if page is not None:
        page.write_text(text, encoding="utf-8")
    if as_json:
        print_json(found)
    else:
        console.print(text, soft_wrap=True)


def _data_options(source: Source, path: Path | None, users: int, months: int) -> dict[str, Any]:
    """What names the data, as options of `train` name it."""
    return {"users": users, "months": months} if source == "simulator" else {"path": str(path)}
