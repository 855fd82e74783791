"""Turns: the order in which events of many users are taken so that each user's stay in order. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def wave_numbers(user: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each event, how many earlier events of the same user there are among these, int64 `[n]`.

    Events of one number are of different users, so they may be taken at once.
    """
    order = np.argsort(user, kind="stable")
    in_order = user[order]
    places = np.arange(len(user))
    begins = np.ones(len(user), dtype=np.bool_)
    begins[1:] = in_order[1:] != in_order[:-1]
    numbers = np.empty(len(user), dtype=np.int64)
    numbers[order] = places - np.maximum.accumulate(places * begins)
    return numbers
