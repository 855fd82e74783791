"""Credit limits of contracts, from the transactions and profiles that state one.

Arrays over many borrowers at once; a borrower's result does not depend on the others. Does no I/O and knows no clock;
repayments, which make and end contracts, are `events.repayments`.

The rule, per contract (an event without a `contract_id` speaks of the borrower's unnamed contract):

- An event sets the limit that it states, if the contract is known and has not ended. Only repayments make a contract
  known: what is stated before the first of them is not kept.
- Of several statements the one of the latest event time holds, and of those of one moment the one that was taken last.
  So an event that arrives late replaces no newer limit.
- `opened` begins the contract anew: its limit is not known, and what was stated before that moment counts no more.
- A contract that ends keeps its last limit. One that has to make room for another takes its limit with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.contracts import COUNTED, ID_BYTES, Floats, Ints, Records, id_words, used_places
from events.types import Kind

STATES_LIMITS: frozenset[Kind] = frozenset({"transactions", "profiles"})
"""The kinds of events that may state a limit."""


class LimitColumns(NamedTuple):
    """Limits that transactions or profiles state, columns `[k]`; `contract_id` is uint64 `[k, 5]` from `id_words`."""

    contract_id: NDArray[np.uint64]
    credit_limit: Floats
    occurred_ms: Ints

    def at(self, which: slice) -> LimitColumns:
        """A part of them."""
        return LimitColumns(self.contract_id[which], self.credit_limit[which], self.occurred_ms[which])


class StatedLimits(NamedTuple):
    """`columns` of those of `n` events that state a limit, and their `position` among the events, int64 `[k]`.

    `before` int64 `[n + 1]`: how many of the events before each place state one.
    """

    columns: LimitColumns
    position: Ints
    before: Ints

    @classmethod
    def of(cls, events: Sequence[Any], credit_limit: Floats, occurred_ms: Ints) -> StatedLimits:
        """Of transactions or profiles; `credit_limit` are their `credit_limits`, `occurred_ms` int64 `[n]` their
        times."""
        states = ~np.isnan(credit_limit)
        before = np.zeros(len(states) + 1, dtype=np.int64)
        states.cumsum(out=before[1:])
        position = states.nonzero()[0]
        ids = [events[number].contract_id for number in position.tolist()]
        return cls(LimitColumns(id_words(ids), credit_limit[position], occurred_ms[position]), position, before)

    @classmethod
    def joined(cls, parts: Sequence[StatedLimits]) -> StatedLimits | None:
        """Of events one part after another; None where they state no limit."""
        if not any(len(part.position) for part in parts):
            return None
        starts = np.cumsum([0, *(len(part.before) - 1 for part in parts)]).tolist()
        counts = np.cumsum([0, *(len(part.position) for part in parts)])
        return cls(
            LimitColumns._make(map(np.concatenate, zip(*(part.columns for part in parts), strict=True))),
            np.concatenate([part.position + start for part, start in zip(parts, starts, strict=False)]),
            np.concatenate(
                [*(part.before[:-1] + count for part, count in zip(parts, counts, strict=False)), counts[-1:]]
            ),
        )

    def within(self, where: slice) -> slice:
        """Which of the `k` are among the events of a slice."""
        return slice(int(self.before[where.start]), int(self.before[where.stop]))


def credit_limits(events: Sequence[Any]) -> Floats:
    """The credit limits of transactions or profiles, float64 `[n]`, NaN where none is stated."""
    return np.array([event.credit_limit for event in events], dtype=np.float64)


def apply_limits(standing: Records, row: Ints, columns: LimitColumns) -> Ints:
    """Take what events of different borrowers state into `standing`, in place.

    `row` int64 `[k]` are the borrowers' positions in `standing`; returns those of whom a contract has another limit
    now.
    """
    phase = standing["phase"][row]
    places = used_places(phase)
    # Ids compared as texts: a borrower's contracts have different ones, so at most one place of each row is found.
    same = _texts(standing["contract_id"])[:, :places][row] == _texts(columns.contract_id)[:, None]
    number, place = (same & COUNTED.take(phase[:, :places])).nonzero()
    row, limit_ms, credit_limit = row[number], columns.occurred_ms[number], columns.credit_limit[number]
    late = limit_ms < standing["limit_ms"][row, place]
    if late.any():
        row, place, limit_ms, credit_limit = (values[~late] for values in (row, place, limit_ms, credit_limit))
    at = (row, place)
    standing["limit_ms"][at] = limit_ms
    other = standing["credit_limit"][at] != credit_limit
    if other.any():
        standing["credit_limit"][at] = credit_limit
    changed: Ints = row[other]
    return changed


def _texts(ids: NDArray[np.uint64]) -> NDArray[np.bytes_]:
    """Ids `[..., 5]` from `id_words` as the texts `[...]` that they are."""
    return ids.view(f"S{ID_BYTES}")[..., 0]
