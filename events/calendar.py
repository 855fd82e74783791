"""The lender's calendar: which day a moment falls on, and when a day ends, in the lender's time zone. Pure.

Days past due are a difference of days of this calendar, so that a change to summer time adds or removes none.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000
LAST_DAY = 65_535
"""Last day of the calendar, counted from 1970-01-01 (in 2149)."""

_EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()


class CalendarError(ValueError):
    """There is no such time zone; the message names it."""


def day_number(date: dt.date) -> int:
    """Days from 1970-01-01 to `date`."""
    return date.toordinal() - _EPOCH_ORDINAL


def date_of(day: int) -> dt.date:
    """The date of a day number."""
    return dt.date.fromordinal(_EPOCH_ORDINAL + day)


class Calendar:
    """Days of one time zone, by its name in the IANA database. Raises `CalendarError` for an unknown name."""

    def __init__(self, time_zone: str = "UTC") -> None:
        self.time_zone = time_zone
        self._starts_ms = None if time_zone == "UTC" else _starts_ms(time_zone)

    def days_of(self, times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """The day of each moment, int64 `[n]`; `times_ms` are milliseconds since 1970-01-01 UTC."""
        if self._starts_ms is None:
            return times_ms // DAY_MS
        return np.searchsorted(self._starts_ms, times_ms, side="right") - 1

    def day_of(self, time_ms: int) -> int:
        """The day of one moment."""
        if self._starts_ms is None:
            return time_ms // DAY_MS
        return int(np.searchsorted(self._starts_ms, time_ms, side="right")) - 1

    def start_ms(self, day: int) -> int:
        """When a day begins, milliseconds since 1970-01-01 UTC. `day` may be one more than `LAST_DAY`."""
        return day * DAY_MS if self._starts_ms is None else int(self._starts_ms[day])

    def starts_ms(self, days: NDArray[np.int64]) -> NDArray[np.int64]:
        """`start_ms` of each day, int64 `[n]`."""
        return days * DAY_MS if self._starts_ms is None else self._starts_ms[days]

    def last_day_ended(self, time_ms: int) -> int:
        """The latest day that was over at this moment."""
        return self.day_of(time_ms) - 1


UTC = Calendar()


@lru_cache(maxsize=8)
def _starts_ms(time_zone: str) -> NDArray[np.int64]:
    """When each day begins, int64 `[LAST_DAY + 2]`. Where clocks go forward at midnight, the day begins after that."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CalendarError(
            f"{time_zone!r} is not a time zone of the IANA database; expected a name such as Europe/Madrid or UTC"
        ) from None
    midnight = dt.time(0, tzinfo=zone)
    starts = [round(dt.datetime.combine(date_of(day), midnight).timestamp()) * 1000 for day in range(LAST_DAY + 2)]
    return np.array(starts, dtype=np.int64)
