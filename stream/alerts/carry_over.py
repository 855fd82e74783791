"""Alerts at a hand-over: what of a user's alert a new model takes from the one before it. Pure.

A case worker has the alert that the former model opened. It goes on under the new one: with the event that opened it,
on which its `alert_id` depends, its level, and the cooldown where it was closed. What the new model knows of the user,
the baseline and how often a score called for an alert, is its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from events.types import KINDS
from stream.alerts.state_machine import LOW
from stream.outputs import LEVELS
from stream.structured import copy_records

CARRIED = ("level", "cooldown_until_ms", "opened_ms", "opened_offset", "opened_partition", "opened_topic")
"""Fields of `ALERT_STATE` that the model before is asked for."""


def is_alerted(state: NDArray[np.void]) -> NDArray[np.bool_]:
    """Whether users `[n]` have or had an alert: of all others, `CARRIED` is as in a new user's state."""
    alerted: NDArray[np.bool_] = (state["opened_ms"] >= 0) | (state["level"] != LOW) | (state["cooldown_until_ms"] >= 0)
    return alerted


def is_sound(state: NDArray[np.void]) -> NDArray[np.bool_]:
    """Whether states `[n]` that come from elsewhere can be such: bytes of another layout are none, most likely."""
    sound: NDArray[np.bool_] = (
        (state["level"] < len(LEVELS)) & (state["opened_topic"] < len(KINDS)) & (state["reserved"] == 0)
    )
    return sound


def carry_over(own: NDArray[np.void], former: NDArray[np.void]) -> NDArray[np.void]:
    """ALERT_STATE `[n]` with which a model goes on whose own is `own`, where `former` was in force until now.

    The calm of the new model's own alert counts where both have one open; else calm begins anew.
    """
    after = copy_records(own)
    for name in CARRIED:
        after[name] = former[name]
    both = (own["level"] != LOW) & (former["level"] != LOW)
    after["calm_since_ms"] = np.where(both, own["calm_since_ms"], -1)
    return after
