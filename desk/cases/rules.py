"""What a lender's settings say about cases. Pure."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from events.calendar import UTC, Calendar, date_of, day_number
from stream.outputs import moment_of
from stream.settings import Settings


@dataclass(frozen=True)
class CaseRules:
    """`four_eyes`: a second person confirms that a HIGH alert was a false alarm. `daily_cap`: most cases that somebody
    is given in a day, None for without limit, unless their account has its own. `auto_assign`: cases are given out by
    the desk. Days are those of `calendar`, the lender's."""

    four_eyes: bool = False
    daily_cap: int | None = None
    auto_assign: bool = False
    calendar: Calendar = UTC

    @classmethod
    def from_settings(cls, settings: Settings) -> CaseRules:
        """The rules of a deployment."""
        return cls(
            settings.desk_four_eyes,
            settings.desk_daily_cap,
            settings.desk_auto_assign,
            settings.portfolio_rules().calendar,
        )

    def today(self, now: dt.datetime) -> dt.date:
        """The lender's date at a moment."""
        return date_of(self.calendar.day_of(round(now.timestamp() * 1000)))

    def start_of(self, day: dt.date) -> dt.datetime:
        """When a date begins for the lender."""
        return moment_of(self.calendar.start_ms(day_number(day)))

    def start_of_today(self, now: dt.datetime) -> dt.datetime:
        """When the lender's date at a moment began."""
        return self.start_of(self.today(now))

    def end_of(self, day: dt.date) -> dt.datetime:
        """When the day after a date begins for the lender."""
        return self.start_of(day + dt.timedelta(days=1))
