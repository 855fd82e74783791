"""The time as the desk takes it: an argument, so that tests set it. Waits for nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], dt.datetime]
"""Returns the present moment, with a time zone."""


def system_clock() -> dt.datetime:
    """The present moment in UTC, by this machine's clock."""
    return dt.datetime.now(dt.UTC)
