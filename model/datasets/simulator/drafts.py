"""Drafts: a block's events of one kind and week as columns, on their way to typed events.

Times are whole seconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.types import Event
from model.datasets.simulator.columns import Flags, Floats, Ints
from model.datasets.simulator.portfolio import Traits
from model.datasets.simulator.terms import HOME_CURRENCY, OTHER_CURRENCY, contract_ids

DAY_S = 86_400
_CURRENCIES = (HOME_CURRENCY, OTHER_CURRENCY)


class Draft(NamedTuple):
    """Events of one kind, in no particular order.

    `user` is the row in the block and `time_s` the time, both `[n]`; `fields` are the other columns, which `typed`
    takes after event id, user id and time. `drafted` are the places in the whole draft, None if all are there: an id
    must not depend on which rows are left out.
    """

    user: Ints
    time_s: Ints
    fields: tuple[list[Any], ...]
    typed: Callable[[Iterable[tuple[Any, ...]]], list[Event]]
    drafted: Ints | None = None

    def where(self, kept: Flags) -> Draft:
        """The draft without the other rows."""
        if kept.all():
            return self
        rows = np.flatnonzero(kept)
        drafted = rows if self.drafted is None else self.drafted[rows]
        chosen = rows.tolist()
        fields = tuple([values[row] for row in chosen] for values in self.fields)
        return Draft(self.user[rows], self.time_s[rows], fields, self.typed, drafted)

    def events(self, user_ids: Sequence[str], prefix: str) -> list[Event]:
        """The typed events; ids are `prefix` and the place in the whole draft."""
        rows = self.user.tolist()
        if self.drafted is None:
            ids = [prefix + place for place in _PLACES[: len(rows)]]
            ids += [f"{prefix}-{place:x}" for place in range(len(_PLACES), len(rows))]
        else:
            ids = [f"{prefix}-{place:x}" for place in self.drafted.tolist()]
        times = [_moment(second, dt.UTC) for second in self.time_s.tolist()]
        return self.typed(zip(ids, map(user_ids.__getitem__, rows), times, *self.fields, strict=True))


_PLACES = tuple(f"-{place:x}" for place in range(4096))
_moment = dt.datetime.fromtimestamp


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


def labelled(codes: Ints, labels: tuple[str, ...], missing: Flags) -> list[str | None]:
    """Labels of codes, None where missing."""
    listed: list[str | None] = _with_none(labels)[np.where(missing, len(labels), codes)].tolist()
    return listed


@lru_cache
def _with_none(labels: tuple[str, ...]) -> NDArray[np.object_]:
    return np.array([*labels, None], dtype=object)


def named_contracts(
    traits: Traits, place: Ints, user: Ints, generation: Ints, known: Flags
) -> tuple[list[str | None], list[str | None]]:
    """Contract ids and currencies of events of borrowers `user` about the contracts at `place`; None where no contract
    is known, or where the lender states no currency."""
    ids: list[str | None] = [None] * len(user)
    rows = np.flatnonzero(known)
    place, user = place[rows], user[rows]
    for row, name in zip(rows.tolist(), contract_ids(traits.terms, place, user, generation[place, user]), strict=True):
        ids[row] = name
    currencies = np.full(len(ids), len(_CURRENCIES))
    currencies[rows] = np.where(traits.states_currency[user], traits.terms.foreign[place, user], len(_CURRENCIES))
    return ids, _with_none(_CURRENCIES)[currencies].tolist()
