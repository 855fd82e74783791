"""Opens a data set by the name of its source. Each source is loaded only when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.datasets.dataset import SOURCES, Dataset, DatasetError, Source


def open_dataset(source: Source, path: Path | None = None, **options: Any) -> Dataset:
    """The data set of a source.

    `path` is the file or folder of the real sources, the mapping file of "files", and must be None for the
    simulator. `options` are the simulator's (`users`, `months`, `seed`, `start`) and are refused elsewhere. Raises
    `DatasetError` for an unknown source, a missing path or an option that the source does not have.
    """
    if source == "simulator":
        from model.datasets.simulator import SIMULATOR_OPTIONS, Simulator

        if path is not None:
            raise DatasetError(f"source simulator reads no file, but --path {path} was given; leave --path out")
        _refuse_options(source, set(options) - set(SIMULATOR_OPTIONS))
        return Simulator(**options)
    if source not in SOURCES:
        raise DatasetError(f"unknown source {source!r}; choose one of {', '.join(SOURCES)}")
    _refuse_options(source, set(options))
    if path is None:
        raise DatasetError(f"source {source} reads a file or folder of yours; name it with --path (see docs/data.md)")
    if source == "taiwan":
        from model.datasets.taiwan import Taiwan

        return Taiwan(path)
    if source == "auto-loans":
        from model.datasets.auto_loans import AutoLoans

        return AutoLoans(path)
    if source == "files":
        from model.datasets.files import Files

        return Files(path)
    from model.datasets.berka import Berka

    return Berka(path)


def _refuse_options(source: Source, unknown: set[str]) -> None:
    if unknown:
        raise DatasetError(f"source {source} has no option {', '.join(sorted(unknown))}; leave it out")
