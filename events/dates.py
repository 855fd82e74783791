"""Which dates events may carry: one definition of the bounds for what serving refuses and what training reads.

Dates outside them are errors, or marks for "none" and "never" (0001-01-01, 1900-01-01, 9999-12-31). Pure: the clock is
an argument.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal, TypeAlias

from events.calendar import DAY_MS, LAST_DAY

EARLIEST_MS = 0
"""Earliest event time, in milliseconds since 1970-01-01 UTC."""

FUTURE_TOLERANCE_MS = DAY_MS
"""How far ahead of the clock an event may be dated."""

EARLIEST_DATE = dt.date(1970, 1, 1)
LATEST_DATE = EARLIEST_DATE + dt.timedelta(days=LAST_DAY)
"""Bounds of dates that may lie ahead, such as due dates: 1970-01-01 to 2149-06-06, the days of the calendar's table."""

OutsideTime: TypeAlias = Literal["before_1970", "in_the_future"]


def time_outside(occurred_ms: int, now_ms: int) -> OutsideTime | None:
    """Which bound an event time breaks, None if none. Both are milliseconds since 1970-01-01 UTC."""
    if occurred_ms < EARLIEST_MS:
        return "before_1970"
    return "in_the_future" if occurred_ms > now_ms + FUTURE_TOLERANCE_MS else None


def date_outside(date: dt.date) -> bool:
    """Whether a date that may lie ahead is outside the bounds of such dates."""
    return not EARLIEST_DATE <= date <= LATEST_DATE
