"""Asks the database now and then whether it is there and at the revision that this release needs, in a thread of its
own.

For the sink's readiness and metrics: without anything to write it would not notice that the database is away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseError, DatabaseUnavailable

ASK_EVERY_S = 10.0

LATE_AFTER = 3
"""An answer that is older than so many rounds is none: whoever asks may be waiting for a server that does not reply."""


def current_revision(database: DatabaseConnection) -> str | None:
    """As `stream.database.migration.current`; a sink that nobody watches does not load Alembic."""
    from stream.database import migration

    return migration.current(database)


def needed_revision() -> str:
    """As `stream.database.migration.head`."""
    from stream.database import migration

    return migration.head()


class DatabaseProbe:
    """What the last look at a database found, as plain figures for any thread."""

    def __init__(
        self,
        database: DatabaseConnection,
        *,
        every_s: float = ASK_EVERY_S,
        current: Callable[[DatabaseConnection], str | None] = current_revision,
        head: Callable[[], str] = needed_revision,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._every_s = every_s
        self._current = current
        self._head = head
        self._monotonic = monotonic
        self._answered_s = monotonic()
        self._asked = self._answered = False
        self._error: str | None = None
        self.is_current = False
        """Whether the database was at this release's revision when it last answered."""

    def start(self) -> None:
        """Look until the process ends."""
        threading.Thread(target=self._look_on, name="database probe", daemon=True).start()

    def _look_on(self) -> None:
        while True:
            self.look()
            time.sleep(self._every_s)

    def look(self) -> None:
        """Ask once; takes as long as connecting may."""
        try:
            needed, revision = self._head(), self._current(self._database)
        except (DatabaseUnavailable, DatabaseError) as error:
            self._answered, self._error = False, str(error)
        except Exception as error:  # of a server that is no longer what it was; the next look may find another
            self._answered, self._error = False, f"{type(error).__name__} while its revision was asked for"
        else:
            self._answered = True
            self.is_current = revision == needed
            self._answered_s = self._monotonic()
            self._error = None if self.is_current else _other(revision, needed)
        self._asked = True

    @property
    def unreachable_s(self) -> float:
        """Seconds since the database last answered; 0 while it answers."""
        silent_s = self._monotonic() - self._answered_s
        return 0.0 if self._answered and silent_s < LATE_AFTER * self._every_s else silent_s

    @property
    def problem(self) -> str | None:
        """Why the sink cannot write now; None when it can."""
        if not self._asked:
            return "the database was not asked yet"
        if self._error is None and (silent_s := self.unreachable_s) > 0:
            return f"the database has not answered for {silent_s:.0f} s"
        return self._error


def _other(revision: str | None, needed: str) -> str:
    found = "was never upgraded" if revision is None else f"is at revision {revision}"
    return f"the database {found}, this release needs {needed}: run `foreshock db upgrade`"
