"""How many requests a caller may make a minute, counted for all processes together in PostgreSQL.

A process takes a share of the minute's requests at once and gives it out without asking again, so that most requests
cost nothing. Shares count when they are taken: callers get at most the limit, and at least all but one share for each
process, or as many as requests of theirs came at once when there was none.
"""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, func
from sqlalchemy.dialects.postgresql import insert

from desk.access.refusals import TooManyRequests
from stream.database.access_tables import RequestCount

WINDOW_S = 60
SHARES = 100
"""Into so many shares the limit is cut."""

_KEPT_CALLERS = 10_000


@dataclass
class _Share:
    """What this process may still give out to a caller in a window."""

    window: dt.datetime
    left: int


class RequestLimits:
    """Counts the requests of callers, whatever they are called."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shares: dict[str, _Share] = {}
        self._lock = threading.Lock()

    def take(self, caller: str, limit: int, now: dt.datetime) -> None:
        """Count a request. Raises `TooManyRequests`."""
        if self.take_at_hand(caller, now):
            return
        window = _window(now)
        size = max(1, limit // SHARES)
        with self._engine.begin() as connection:
            taken = self._add(connection, caller, window, size)
        granted = size - max(0, taken - limit)
        if granted > 0:
            self._keep(caller, window, granted - 1)
        elif not self.take_at_hand(caller, now):  # of what another thread was given
            raise TooManyRequests(limit, max(1, WINDOW_S - now.second))

    def _keep(self, caller: str, window: dt.datetime, left: int) -> None:
        """Add to the share of a caller: several threads may have asked at once, and each was given one."""
        with self._lock:
            if len(self._shares) >= _KEPT_CALLERS:
                self._shares.clear()
            share = self._shares.get(caller)
            if share is None or share.window < window:
                self._shares[caller] = _Share(window, left)
            elif share.window == window:
                share.left += left

    def take_at_hand(self, caller: str, now: dt.datetime) -> bool:
        """Count a request of the share that this process has; False, with nothing counted, where it has none left."""
        window = _window(now)
        with self._lock:
            share = self._shares.get(caller)
            if share is None or share.window != window or share.left <= 0:
                return False
            share.left -= 1
            return True

    def give_back(self, caller: str, now: dt.datetime) -> None:
        """Undo `take_at_hand`: the request is to be counted by who goes on with it."""
        with self._lock:
            share = self._shares.get(caller)
            if share is not None and share.window == _window(now):
                share.left += 1

    @staticmethod
    def _add(connection: Connection, caller: str, window: dt.datetime, size: int) -> int:
        """Take `size` of a window; returns how many were taken then, at most a share above the limit by each try."""
        add = insert(RequestCount).values(caller=caller, window_start=window, taken=size)
        statement = add.on_conflict_do_update(
            index_elements=[RequestCount.caller, RequestCount.window_start],
            # Not beyond what an integer holds, however often somebody tries.
            set_={"taken": func.least(RequestCount.taken + add.excluded.taken, 2**30)},
        ).returning(RequestCount.taken)
        return int(connection.execute(statement).scalar_one())


def _window(now: dt.datetime) -> dt.datetime:
    return now.replace(second=0, microsecond=0)


def forget_windows(connection: Connection, before: dt.datetime) -> None:
    """Delete what was counted in windows before a moment."""
    connection.execute(delete(RequestCount).where(RequestCount.window_start < before))
