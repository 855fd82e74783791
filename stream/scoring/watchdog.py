"""The due-date watchdog: the `missed` events of instalments that no event has paid, and the event time that decides
when.

Pure: it neither reads a clock nor publishes. A `missed` event that is published twice, after a crash for instance, has
the same id both times, and is scored once.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Sequence

import numpy as np

from events.columns import DAY_MS
from events.instalments import missed_event
from events.types import Repayment
from stream.state.row import NO_TIME
from stream.state.slab import Slab

_EPOCH = dt.date(1970, 1, 1)

WATERMARK_EVENTS = 33
"""A partition's watermark is the median time of so many last events, so that one misdated event does not move it."""


def missed_now(slab: Slab, partition: int, clock_ms: int, grace_days: float) -> list[Repayment]:
    """The `missed` events of a partition whose deadlines `clock_ms` has reached, in the order of their deadlines."""
    until_ms = clock_ms - DAY_MS - round(grace_days * DAY_MS)
    keys, slots = slab.owing(partition, until_ms)
    if not keys:
        return []
    overdue = (slots["due_ms"] != NO_TIME) & (slots["due_ms"] <= until_ms)
    events = [
        missed_event(
            keys[user].decode(),
            int(slots["instalment_no"][user, slot]),
            _EPOCH + dt.timedelta(milliseconds=int(slots["due_ms"][user, slot])),
            None if np.isnan(slots["amount_due"][user, slot]) else float(slots["amount_due"][user, slot]),
            grace_days,
        )
        for user, slot in np.argwhere(overdue)
    ]
    return sorted(events, key=lambda event: (event.occurred_at, event.user_id))


class Watermark:
    """The watermark of a partition: how far its event time has come."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=WATERMARK_EVENTS)
        self._clock_ms = NO_TIME

    @property
    def clock_ms(self) -> int:
        """Event time in milliseconds, never going back; -1 until `WATERMARK_EVENTS` events were seen."""
        return self._clock_ms

    def observe(self, occurred_ms: Sequence[int]) -> None:
        """Take into account the times of events, in their order."""
        self._recent.extend(occurred_ms)
        if len(self._recent) == WATERMARK_EVENTS:
            self._clock_ms = max(self._clock_ms, sorted(self._recent)[WATERMARK_EVENTS // 2])
