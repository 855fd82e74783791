"""What happens to cases by time and by itself: snoozes end, promises are kept or broken, priorities follow new scores,
cases are given out, and what was done is published.

One process of all desks does it at a time, the one that holds an advisory lock of the database; when it ends, however,
another takes over. Each chore is a transaction of its own and may be done again: what ends in the middle loses nothing.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import DBAPIError

from desk.cases.actions import act_by_itself
from desk.cases.assignment import GIVEN_AT_ONCE, auto_assign
from desk.cases.life import Act
from desk.cases.priority import renew
from desk.cases.promises import DECIDED_AT_ONCE, decide_promises
from desk.cases.rules import CaseRules
from desk.clock import Clock
from desk.outbox import PUBLISHED_AT_ONCE, NotPublished, Outbox, Send
from stream.case_records import FORESHOCK
from stream.database.case_tables import Case
from stream.database.errors import DatabaseError

LOCK_KEY = 0x666F_7265_0003
"""Advisory lock of the one clerk that works."""

TURN_S = 1.0
"""Pause between two turns; an action is published within about so long."""

RENEW_EVERY_S = 60.0
WOKEN_AT_ONCE = 500
LONGEST_PAUSE_S = 30.0

logger = logging.getLogger("foreshock.desk.clerk")

Tidy = Callable[[Connection, dt.datetime], int]


@dataclass(frozen=True)
class Chores:
    """How many of each were done in one turn."""

    woken: int = 0
    decided: int = 0
    renewed: int = 0
    assigned: int = 0
    published: int = 0


def wake_due(connection: Connection, now: dt.datetime, rules: CaseRules, *, most: int = WOKEN_AT_ONCE) -> int:
    """Wake up to `most` cases whose time has come; returns how many. Those that somebody acts on just now wait."""
    due = connection.execute(
        select(Case.alert_id)
        .where(Case.status == "snoozed", Case.snoozed_until <= now)
        .order_by(Case.snoozed_until)
        .limit(most)
        .with_for_update(skip_locked=True)
    ).scalars()
    done = [act_by_itself(connection, alert_id, Act("wake", FORESHOCK), now, rules) for alert_id in sorted(due)]
    return len(done)


class Clerk:
    """Does the chores, turn by turn.

    `send` None leaves actions unpublished, where there is no Kafka. `tidy` removes what has had its time.
    `on_turn` is told of each turn that was done to its end.
    """

    def __init__(
        self,
        engine: Engine,
        rules: CaseRules,
        send: Send | None,
        clock: Clock,
        *,
        tidy: Tidy = lambda _connection, _now: 0,
        on_turn: Callable[[Chores], None] = lambda _done: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._rules = rules
        self._outbox = None if send is None else Outbox(send)
        self._clock = clock
        self._tidy = tidy
        self._on_turn = on_turn
        self._monotonic = monotonic
        self._renewed_s: float | None = None
        self._lock: Connection | None = None

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop. What fails is logged and tried again, after pauses that grow."""
        pause_s = TURN_S
        try:
            while not stop.is_set():
                try:
                    if self.leads():
                        self._on_turn(self.turn())
                    pause_s = TURN_S
                except (DatabaseError, DBAPIError, NotPublished) as error:
                    logger.warning(
                        "%s; trying again in %.0f s", _first_line(error), pause_s, extra={"pause_s": pause_s}
                    )
                    pause_s = self._rest(stop, pause_s)
                except Exception:  # a fault of ours: what else there is to do must not wait for it for ever
                    logger.exception("a turn failed; trying again in %.0f s", pause_s, extra={"pause_s": pause_s})
                    pause_s = self._rest(stop, pause_s)
                stop.wait(TURN_S)
        finally:
            self.stop()

    def _rest(self, stop: threading.Event, pause_s: float) -> float:
        """Let another clerk try, and wait; returns how long to wait the next time."""
        self.stop()
        stop.wait(pause_s)
        return min(2 * pause_s, LONGEST_PAUSE_S)

    def leads(self) -> bool:
        """Whether this is the clerk that works; tries to become it. The lock goes with its connection."""
        if self._lock is None:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}).scalar_one():
                connection.close()
                return False
            self._lock = connection
        self._lock.execute(text("SELECT 1"))
        return True

    def turn(self) -> Chores:
        """Do every chore that is due, to its end. Raises `NotPublished` after the others are done."""
        now = self._clock()
        woken = self._to_the_end(lambda connection: wake_due(connection, now, self._rules), WOKEN_AT_ONCE)
        decided = self._decide(now)
        renewed = self._renew(now)
        assigned = 0
        if self._rules.auto_assign:
            assigned = self._to_the_end(lambda connection: auto_assign(connection, now, self._rules), GIVEN_AT_ONCE)
        published, outbox = 0, self._outbox
        if outbox is not None:
            published = self._to_the_end(lambda connection: outbox.publish(connection, now), PUBLISHED_AT_ONCE)
        return Chores(woken, decided, renewed, assigned, published)

    def _decide(self, now: dt.datetime) -> int:
        decided = 0
        while True:
            with self._engine.begin() as connection:
                looked, changed = decide_promises(connection, now, self._rules)
            decided += changed
            if looked < DECIDED_AT_ONCE:
                return decided

    def _renew(self, now: dt.datetime) -> int:
        """A whole pass, not more often than needed: it looks at every open case. What has had its time goes, too."""
        if self._renewed_s is not None and self._monotonic() - self._renewed_s < RENEW_EVERY_S:
            return 0
        self._renewed_s = self._monotonic()
        with self._engine.begin() as connection:
            self._tidy(connection, now)
        return self._to_the_end(renew, 1)

    def _to_the_end(self, chore: Callable[[Connection], int], most: int) -> int:
        """Do a chore until there is less to do than it does at once; returns how many were done."""
        total = 0
        while True:
            with self._engine.begin() as connection:
                done = chore(connection)
            total += done
            if done < most:
                return total

    def stop(self) -> None:
        """Let another clerk work."""
        connection, self._lock = self._lock, None
        if connection is not None:
            with suppress(DBAPIError, DatabaseError):
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK_KEY})
            with suppress(DBAPIError, DatabaseError):
                # Where unlocking failed, a pool would keep the session, and with it the lock.
                connection.invalidate()
                connection.close()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
