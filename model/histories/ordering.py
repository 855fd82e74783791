"""Puts the columns of events, which came in order of time, in order of user; block of users by block.

Needs numpy alone. What the columns are is said by `model.histories.sequences`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.calendar import Calendar
from events.columns import time_columns
from events.types import KINDS, Kind
from model.histories.backing import Arrays, Backing, joined

REPAYMENTS = KINDS.index("repayments")


class Ordered(NamedTuple):
    """Fields as those of `model.histories.sequences.Sequences`, of some users; the starts begin at 0."""

    numeric: dict[Kind, NDArray[np.float32]]
    categorical: dict[Kind, NDArray[np.int64]]
    starts: dict[Kind, NDArray[np.int64]]
    merged_starts: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    times_ms: NDArray[np.int64]
    latest: NDArray[np.int32]
    days_past_due: NDArray[np.float32]
    written_off: NDArray[np.bool_]
    contract_place: NDArray[np.uint8]


def ordered(parts: Mapping[Kind, list[Arrays]], first_user: int, users: int, calendar: Calendar) -> Ordered:
    """Users `first_user` and the `users - 1` after it, of whom `parts` has the pieces by kind, at least one each.

    A piece has inputs without the time columns, codes, times, users, order of arrival, and of repayments what
    `events.contract_histories.Followed` has behind its inputs.
    """
    numeric, categorical, starts = {}, {}, {}
    merged_user, merged_order, merged_kind, merged_times = [], [], [], []
    for position, kind in enumerate(KINDS):
        values, codes, times, owner, order, *followed = joined(parts[kind])
        by_user = np.argsort(owner, kind="stable")
        if kind == "repayments":
            since_day, written_off, contract_place = (part[by_user] for part in followed)
        values, codes, times, owner, order = (part[by_user] for part in (values, codes, times, owner, order))
        owner = owner - first_user
        numeric[kind] = np.concatenate([values, time_columns(times, _previous_ms(owner, times))], axis=1)
        categorical[kind] = codes
        starts[kind] = np.searchsorted(owner, np.arange(users + 1))
        merged_user.append(owner)
        merged_order.append(order)
        merged_times.append(times)
        merged_kind.append(np.full(len(owner), position, dtype=np.uint8))
    owner, order = np.concatenate(merged_user), np.concatenate(merged_order)
    arrival = np.lexsort((order, owner))
    kinds = np.concatenate(merged_kind)[arrival]
    owner = owner[arrival]
    merged_starts = np.searchsorted(owner, np.arange(users + 1))
    times_ms, latest = np.concatenate(merged_times)[arrival], _arrived(kinds, merged_starts)
    repaid = latest[:, REPAYMENTS] > 0
    row = (starts["repayments"][owner] + latest[:, REPAYMENTS] - 1)[repaid]
    days_past_due = np.full(len(kinds), np.nan, dtype=np.float32)
    today = calendar.days_of(running_ms(owner, times_ms)[repaid])
    days_past_due[repaid] = np.maximum(today - since_day[row], 0.0)
    lost = np.zeros(len(kinds), dtype=np.bool_)
    lost[repaid] = written_off[row]
    return Ordered(
        numeric=numeric,
        categorical=categorical,
        starts=starts,
        merged_starts=merged_starts,
        kinds=kinds,
        times_ms=times_ms,
        latest=latest,
        days_past_due=days_past_due,
        written_off=lost,
        contract_place=contract_place,
    )


def assembled(blocks: Iterable[Ordered], users: int, events: Mapping[Kind, int], backing: Backing) -> Ordered:
    """Blocks one after another, in arrays of `backing`. `events` is how many there are of each kind, in all."""
    whole: Ordered | None = None
    done, begun = 0, dict.fromkeys(KINDS, 0)
    for block in blocks:
        if whole is None:
            whole = _room(block, users, events, backing)
        there = len(block.merged_starts) - 1
        before = sum(begun.values())
        whole.merged_starts[done + 1 : done + there + 1] = block.merged_starts[1:] + before
        _write(whole, block, slice(before, before + len(block.kinds)), begun["repayments"])
        for kind in KINDS:
            rows = slice(begun[kind], begun[kind] + len(block.numeric[kind]))
            whole.numeric[kind][rows], whole.categorical[kind][rows] = block.numeric[kind], block.categorical[kind]
            whole.starts[kind][done + 1 : done + there + 1] = block.starts[kind][1:] + begun[kind]
            begun[kind] = rows.stop
        done += there
    if whole is None:
        raise ValueError("there is no block to assemble; give one, of no users where there are none")
    return whole


def _room(like: Ordered, users: int, events: Mapping[Kind, int], backing: Backing) -> Ordered:
    total = sum(events.values())

    def of_all(array: NDArray[Any]) -> NDArray[Any]:
        return backing.zeros((total, *array.shape[1:]), array.dtype)

    def of_kind(arrays: Mapping[Kind, NDArray[Any]]) -> dict[Kind, NDArray[Any]]:
        return {kind: backing.zeros((events[kind], *arrays[kind].shape[1:]), arrays[kind].dtype) for kind in KINDS}

    return Ordered(
        numeric=of_kind(like.numeric),
        categorical=of_kind(like.categorical),
        starts={kind: np.zeros(users + 1, dtype=np.int64) for kind in KINDS},
        merged_starts=np.zeros(users + 1, dtype=np.int64),
        kinds=of_all(like.kinds),
        times_ms=of_all(like.times_ms),
        latest=of_all(like.latest),
        days_past_due=of_all(like.days_past_due),
        written_off=of_all(like.written_off),
        contract_place=backing.zeros((events["repayments"],), like.contract_place.dtype),
    )


def _write(whole: Ordered, block: Ordered, rows: slice, first_repayment: int) -> None:
    for name in ("kinds", "times_ms", "latest", "days_past_due", "written_off"):
        getattr(whole, name)[rows] = getattr(block, name)
    whole.contract_place[first_repayment : first_repayment + len(block.contract_place)] = block.contract_place


def _previous_ms(owner: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Latest time among the user's earlier events of the kind, -1 for the first; rows sorted by user."""
    previous = np.full(len(times), -1, dtype=np.int64)
    same_user = owner[1:] == owner[:-1]
    previous[1:][same_user] = running_ms(owner, times)[:-1][same_user]
    return previous


def running_ms(owner: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Latest time among the user's events so far, each row's own included; rows sorted by user."""
    if not len(times):
        return times
    earliest = times.min()
    span = times.max() - earliest + 1
    running: NDArray[np.int64] = np.maximum.accumulate(owner * span + (times - earliest)) - owner * span + earliest
    return running


def _arrived(kinds: NDArray[np.uint8], merged_starts: NDArray[np.int64]) -> NDArray[np.int32]:
    counts = np.zeros((len(kinds) + 1, len(KINDS)), dtype=np.int32)
    np.cumsum(kinds[:, None] == np.arange(len(KINDS)), axis=0, out=counts[1:])
    lengths = np.diff(merged_starts)
    return counts[1:] - np.repeat(counts[merged_starts[:-1]], lengths, axis=0)
