"""The due-date watchdog: the `missed` events of instalments that no event has paid, and the event time that decides
when.

Pure: it neither reads a clock nor publishes. A `missed` event that is published twice, after a crash for instance, has
the same id both times, and is scored once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from events.calendar import DAY_MS, UTC, Calendar
from events.contracts import NO_DAY
from events.instalments import instalment_at, missed_event
from events.types import Repayment
from stream.state.row import NO_TIME
from stream.state.slab import Slab

WATERMARK_EVENTS = 33
"""A partition's watermark is the median time of so many last events, so that one misdated event does not move it."""


def missed_now(
    slab: Slab, partition: int, clock_ms: int, grace_days: float, calendar: Calendar = UTC
) -> list[Repayment]:
    """The `missed` events of a partition whose deadlines `clock_ms` has reached, in the order of their deadlines."""
    until_day = calendar.last_day_ended(clock_ms - round(grace_days * DAY_MS))
    keys, rows = slab.owing(partition, until_day)
    events = []
    for key, row in zip(keys, rows, strict=True):
        ledger = row["ledger"]
        due_day = ledger["due_day"]
        for slot in np.flatnonzero((due_day != NO_DAY) & (due_day <= until_day) & (ledger["missed"] == 0)).tolist():
            events.append(
                missed_event(key.decode(), instalment_at(row["standing"], ledger, slot), grace_days, calendar)
            )
    return sorted(events, key=lambda event: (event.occurred_at, event.user_id, event.contract_id or ""))


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
