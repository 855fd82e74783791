"""Tokens that this process has found valid of late, and whom they stand for.

It lets nobody in. Whoever finds a token here knows what to ask the database for at once, in a statement that looks at
the token again and answers only if it is still what is remembered: once it is revoked, it is of no use.
"""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import dataclass

from desk.access.principals import Principal
from desk.access.tokens import OfferedToken

REMEMBERED = dt.timedelta(minutes=5)
"""Then it is verified by itself again, which also notes that it is used."""

MOST = 10_000


@dataclass(frozen=True)
class _Known:
    principal: Principal
    until: dt.datetime


class RememberedTokens:
    """For any thread."""

    def __init__(self) -> None:
        self._known: dict[OfferedToken, _Known] = {}
        self._lock = threading.Lock()

    def remember(self, offered: OfferedToken, principal: Principal, now: dt.datetime) -> None:
        """A token was found valid."""
        with self._lock:
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[offered] = _Known(principal, now + REMEMBERED)

    def find(self, offered: OfferedToken, now: dt.datetime) -> Principal | None:
        """Whom a token stood for when it was last verified; None where that is long ago, or never was."""
        known = self._known.get(offered)
        return known.principal if known is not None and now < known.until else None

    def forget(self, offered: OfferedToken) -> None:
        """A token was found to be valid no longer."""
        with self._lock:
            self._known.pop(offered, None)
