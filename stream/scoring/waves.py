"""Waves: a batch divided so that each wave holds at most one event of a user, in the user's order. Pure.

A wave is one vectorised call of the model; waves are processed one after another, which keeps each user's events in
order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Block(NamedTuple):
    """A wave's events of one kind: their places in the batch, and among the batch's events of that kind."""

    kind_no: int
    where: slice
    of_kind: slice


class Wave(NamedTuple):
    """A wave's place in a batch that is ordered by waves, and its blocks, one after another."""

    where: slice
    blocks: list[Block]


def waves(numbers: NDArray[np.int64], kind_no: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[Wave]]:
    """The order by wave and kind, int64 `[n]`, and the waves of a batch in that order, first wave first.

    `numbers` are from `events.waves.wave_numbers`. Within a wave's block of one kind the events stand as they came.
    """
    order = np.lexsort((kind_no, numbers))
    wave, kind = numbers[order], kind_no[order]
    starts = np.flatnonzero(_begins((wave[1:] != wave[:-1]) | (kind[1:] != kind[:-1]), len(order)))
    taken: dict[int, int] = {}
    found: list[Wave] = []
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=False):
        number = int(kind[start])
        before = taken.get(number, 0)
        taken[number] = before + stop - start
        block = Block(number, slice(start, stop), slice(before, taken[number]))
        if len(found) == wave[start]:
            found.append(Wave(block.where, [block]))
        else:
            latest = found[-1]
            found[-1] = Wave(slice(latest.where.start, stop), [*latest.blocks, block])
    return order, found


def _begins(differs: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Which of `size` items begin a run; `differs`: whether each but the first differs from the item before."""
    begins = np.ones(size, dtype=np.bool_)
    begins[1:] = differs
    return begins
