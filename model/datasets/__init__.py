"""Data sets: every source of borrowers' events with the truth about them, behind one protocol.

Events are what a consumer of the topics may see. The truth (`Outcome`) is handed out apart from them and must never
become a field of an event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

from events.types import Event

Source: TypeAlias = Literal["simulator", "taiwan", "auto-loans", "berka", "files"]
"""Names of the sources, as `--source` takes them."""

SOURCES: tuple[Source, ...] = get_args(Source)

HELD_OUT_SHARE = 0.2
"""Share of clients that no training, calibration or threshold may see."""


class DatasetError(ValueError):
    """A source cannot be read; the message names the file, what is wrong with it and what to do."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The truth about one user, kept apart from their events.

    `onset_ms` is the start of the first day of serious delinquency (60 or more days past due, or the source's own
    definition), in milliseconds since 1970-01-01 UTC; None if it was never seen. `observed_until_ms` is the censoring
    time: nothing is known after it. `label` is the source's own verdict (1 is bad) where it publishes one. `scenario`
    is the simulator's latent story, for reports only.
    """

    user_id: str
    onset_ms: int | None
    observed_until_ms: int
    label: int | None = None
    scenario: str | None = None


class Dataset(Protocol):
    """A source of events and of the truth about its users."""

    @property
    def name(self) -> str:
        """The source's name: one of `SOURCES`, or what a mapping file calls its tables."""
        ...

    @property
    def headline_horizon_days(self) -> int:
        """The horizon whose probability answers this source's own question."""
        ...

    def events(self) -> Iterator[Event]:
        """All events in order of event time over all users. Each call starts anew and yields the same events."""
        ...

    def outcomes(self) -> dict[str, Outcome]:
        """The truth by user id; available without iterating the events."""
        ...

    def held_out(self, user_id: str) -> bool:
        """Whether this client is in the test share, a deterministic 20 % of the clients."""
        ...


def in_held_out_share(user_id: str) -> bool:
    """A split by client that depends on the user id alone: the same on every machine, run and order of the data."""
    digest = hashlib.sha256(b"foreshock held-out split\x1f" + user_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64


def open_dataset(source: Source, path: Path | None = None, **options: Any) -> Dataset:
    """The data set of a source.

    `path` is the file or folder of the real sources, the mapping file of "files", and must be None for the
    simulator. `options` are the simulator's
    (`users`, `months`, `seed`, `start`) and are refused elsewhere. Raises `DatasetError` for an unknown source, a
    missing path or an option that the source does not have.
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
