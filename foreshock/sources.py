"""Options that name a data set, and the data set that they come to."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any

import typer

from foreshock.terminal import fail
from model.datasets.dataset import SOURCES, Dataset, DatasetError, Source
from model.datasets.sources import open_dataset

DATA_PANEL = "Data"
"""Heading in the help of the options that name a data set."""


def data_option(text: str, **options: Any) -> Any:
    """A Typer option that stands below the heading of the data options."""
    return typer.Option(help=text, rich_help_panel=DATA_PANEL, **options)


SOURCE_NAMES = f"{', '.join(SOURCES[:-1])} or {SOURCES[-1]}"

SourceOption = Annotated[Source, data_option(f"Where the borrowers come from: {SOURCE_NAMES}.", metavar="SOURCE")]
PathOption = Annotated[
    Path | None, data_option("File or folder of a real source (docs/data.md), or mapping file (docs/own-data.md).")
]
UsersOption = Annotated[int, data_option("Simulated borrowers.", min=10)]
MonthsOption = Annotated[int, data_option("Simulated months.", min=1)]


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
