"""Days of the lender's calendar are whole days of a time zone, also where clocks are put forward."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from events.calendar import Calendar, CalendarError, date_of, day_number
from events.dates import EARLIEST_DATE, LATEST_DATE


def test_days_and_dates() -> None:
    assert date_of(day_number(LATEST_DATE)) == LATEST_DATE
    assert day_number(EARLIEST_DATE) == 0


def test_the_lenders_days_follow_summer_time() -> None:
    madrid = Calendar("Europe/Madrid")
    day = day_number(dt.date(2024, 3, 31))  # 23 hours long
    assert madrid.start_ms(day + 1) - madrid.start_ms(day) == 23 * 3_600_000
    moments = np.array([madrid.start_ms(day) - 1, madrid.start_ms(day), madrid.start_ms(day + 1) - 1])
    assert madrid.days_of(moments).tolist() == [day - 1, day, day]
    assert [madrid.day_of(int(moment)) for moment in moments] == [day - 1, day, day]
    with pytest.raises(CalendarError, match="Nowhere/Land"):
        Calendar("Nowhere/Land")
