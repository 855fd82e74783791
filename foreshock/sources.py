"""Options that name a data set, and the data set that they come to."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any

import typer

from foreshock.options import fail
from model.datasets.dataset import Dataset, DatasetError, Source
from model.datasets.sources import open_dataset

SourceOption = Annotated[Source, typer.Option(help="Where the borrowers come from.")]


PathOption = Annotated[
    Path | None,
    typer.Option(help="File or folder of a real source (docs/data.md), or mapping file (docs/own-data.md)."),
]


UsersOption = Annotated[int, typer.Option(min=10, help="Simulated borrowers.")]


MonthsOption = Annotated[int, typer.Option(min=1, help="Simulated months.")]


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
