"""Calendar: the place of a week among the months, and the days of its bills and due dates. Independent of borrowers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from model.datasets.simulator.columns import Ints

NOTICE_DAYS = 6
"""Days from the bill to the due date."""


@dataclass(frozen=True)
class Calendar:
    """The place of a week among the months. Days count from 1970-01-01, months from 1970-01."""

    first_day: int
    offset_of_dom: Ints  # [32] day offset in this week of a day of month, -1 if not in it
    month_of_dom: Ints  # [32] month of that day
    month_start: Ints  # day on which a month starts, by month; index 0 is `month_base`
    month_base: int
    year_phase: float  # 0 on 1 January, 1 a year later

    @classmethod
    @lru_cache(maxsize=1024)
    def of_week(cls, first_day: int) -> Calendar:
        """The calendar of the week that begins on a day. Every block of borrowers asks for the same weeks."""
        days = (first_day + np.arange(7)).astype("datetime64[D]")
        months = days.astype("datetime64[M]")
        dom = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
        offset = np.full(32, -1, dtype=np.int64)
        offset[dom] = np.arange(7)
        month = np.zeros(32, dtype=np.int64)
        month[dom] = months.astype(np.int64)
        base = int(months[0].astype(np.int64)) - 24
        starts = np.arange(base, base + 30).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        year = days[0].astype("datetime64[Y]").astype("datetime64[D]")
        return cls(first_day, offset, month, starts, base, float((days[0] - year).astype(np.int64)) / 365.25)

    def bill_day(self, months: Ints, bill_dom: Ints) -> Ints:
        """Day of the bill of a month."""
        return self.month_start[np.clip(months - self.month_base, 0, len(self.month_start) - 1)] + bill_dom - 1

    def due_day(self, months: Ints, bill_dom: Ints) -> Ints:
        """Due date, as a day, of the bill of a month."""
        return self.bill_day(months, bill_dom) + NOTICE_DAYS
