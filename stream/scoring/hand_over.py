"""Alerts that go over with a partition, into the rows of the application that takes it over. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.alerts.carry_over import carry_over, is_alerted
from stream.alerts.state_machine import initial_state
from stream.scoring.order_journal import HandOver
from stream.state.slab import Slab
from stream.structured import put_records, take_records

ROWS = 4_096
"""So many users' rows are changed at a time."""


def take_alerts(slab: Slab, partition: int, told: HandOver) -> NDArray[np.int64]:
    """Let the alerts of a partition go on as `told`; returns the numbers of the rows that may have changed, int64."""
    own = slab.keys_where(partition, "alert", is_alerted)
    keys = list(dict.fromkeys((*told.keys, *own)))
    former = initial_state(len(keys))
    put_records(former, slice(len(told.keys)), told.alerts)
    touched = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(keys), ROWS):
        part = slice(start, start + ROWS)
        located = slab.locate(partition, keys[part])
        rows = slab.gather(located)
        rows["alert"] = carry_over(rows["alert"], take_records(former, part))
        slab.scatter(located, rows)
        touched.append(located)
    return np.concatenate(touched)
