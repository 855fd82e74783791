"""Drafts: a block's events of one kind and week as columns, and how columns become event types.

Times are whole seconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.types import Event
from model.datasets.simulator.portfolio import Flags, Floats, Ints

DAY_S = 86_400
_UTC = dt.UTC


class Draft(NamedTuple):
    """Events of one type, in no particular order: `user` is the row in the block `[n]`, the rest are its columns."""

    event_type: type[Event]
    user: Ints
    time_s: Ints
    fields: dict[str, Sequence[Any]]

    def where(self, kept: Flags) -> Draft:
        """The draft without the other rows."""
        if kept.all():
            return self
        rows = np.flatnonzero(kept)
        chosen = rows.tolist()
        fields = {name: [values[row] for row in chosen] for name, values in self.fields.items()}
        return Draft(self.event_type, self.user[rows], self.time_s[rows], fields)

    def events(self, user_ids: Sequence[str], prefix: str) -> list[Event]:
        """The typed events; ids are `prefix` and the position in the draft."""
        rows = self.user.tolist()
        fixed = [
            [prefix + position for position in _positions(len(rows))],
            list(map(user_ids.__getitem__, rows)),
            [_moment(second, _UTC) for second in self.time_s.tolist()],
        ]
        names = ("event_id", "user_id", "occurred_at", *self.fields)
        return _typed(self.event_type, names, [*fixed, *self.fields.values()])


_POSITIONS: list[str] = []


def _positions(count: int) -> list[str]:
    """`-0`, `-1`, … in hexadecimal."""
    _POSITIONS.extend(f"-{position:x}" for position in range(len(_POSITIONS), count))
    return _POSITIONS[:count]


_moment = dt.datetime.fromtimestamp
_BUILDERS: dict[tuple[type[Event], tuple[str, ...]], Any] = {}


def _typed(event_type: type[Event], names: tuple[str, ...], columns: list[Sequence[Any]]) -> list[Event]:
    """A list of structs from columns. The call with its keywords is compiled once per set of fields: twice as fast as `**`."""
    builder = _BUILDERS.get((event_type, names))
    if builder is None:
        arguments = ", ".join(f"{name}={name}" for name in names)
        source = f"lambda columns: [event_type({arguments}) for {', '.join(names)} in zip(*columns, strict=True)]"
        builder = _BUILDERS[event_type, names] = eval(source, {"event_type": event_type})
    built: list[Event] = builder(columns)
    return built


def money(values: Floats) -> list[Any]:
    """Amounts in whole cents."""
    cents: list[Any] = np.round(values, 2).tolist()
    return cents


def with_gaps(values: NDArray[Any], missing: Flags) -> list[Any]:
    """Values as Python objects, None where missing."""
    listed: list[Any] = values.tolist()
    for position in np.flatnonzero(missing).tolist():
        listed[position] = None
    return listed


def named(codes: Ints, names: Sequence[str]) -> list[Any]:
    """Names of codes."""
    return list(map(names.__getitem__, codes.tolist()))
