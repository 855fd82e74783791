"""The protocol of a data set: events, and apart from them the truth about their users."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

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

    `default_date_ms` is the start of the first day of serious delinquency (60 or more days past due, or the source's
    own definition), in milliseconds since 1970-01-01 UTC; None if it was never seen. `observation_end_ms` is the
    censoring time: nothing is known after it. `label` is the source's own label (1 is bad) where it publishes one.
    `scenario` is the simulator's latent story, for reports only.
    """

    user_id: str
    default_date_ms: int | None
    observation_end_ms: int
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
        """The horizon, in days, at which this source is judged."""
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
