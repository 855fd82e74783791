"""Commands that train many models to learn about training: `tune` and `ablate`. They load PyTorch only when called."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from model.datasets import DatasetError
from stream.cli.learn import MonthsOption, PathOption, SourceOption, UsersOption, open_source
from stream.cli.options import console, fail


def ablate(
    report: Annotated[Path, typer.Option(help="JSON file of the figures; a stopped run goes on from it.")],
    page: Annotated[Path | None, typer.Option(help="Also write the figures as this Markdown page.")] = None,
    source: SourceOption = "simulator",
    path: PathOption = None,
    users: UsersOption = 1_500,
    months: MonthsOption = 18,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed of simulation and training; repeatable, 1 and 2.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each training.")] = 4,
) -> None:
    """Train with and without each choice about inputs and augmentation, and write what it is worth."""
    try:
        from model.ablation import ablate as run_ablations
        from model.ablation import page as page_of
        from model.preparation import TrainingError
    except ImportError as error:
        fail(f"{error}; training needs PyTorch: pip install -c constraints.txt '.[train]'")
    simulated = {"users": users, "months": months} if source == "simulator" else {"path": str(path)}
    try:
        found = run_ablations(
            lambda number: open_source(source, path, users, months, number),
            seed or [1, 2],
            report,
            epochs=epochs,
            command=shlex.join(["foreshock", *sys.argv[1:]]),
            settings={"source": source, **simulated},
        )
    except (DatasetError, TrainingError, ValueError) as error:
        fail(str(error))
    text = page_of(found)
    if page is not None:
        page.write_text(text, encoding="utf-8")
    console.print(text, markup=False, highlight=False, soft_wrap=True)
