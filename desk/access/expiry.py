"""Removes what has had its time: sessions, sign-ins under way, answers kept for repeats, counted windows, old audit."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Connection, delete

from desk.access.limits import forget_windows
from stream.database.access_tables import DeskSession, IdempotentRequest, OidcSignIn, PersonalDataRead

ANSWERS_KEPT = dt.timedelta(hours=24)
"""For so long a request with an `Idempotency-Key` may be sent again."""

WINDOWS_KEPT = dt.timedelta(minutes=5)


def remove_expired(connection: Connection, now: dt.datetime, idle: dt.timedelta, audit_days: int | None = None) -> int:
    """Delete what is of no use any more; returns how many rows. Sessions end `idle` after they were seen last.

    Of the audit, what is older than `audit_days`; nothing where that is None.
    """
    gone = [
        delete(DeskSession).where((DeskSession.expires_at <= now) | (DeskSession.last_seen_at <= now - idle)),
        delete(OidcSignIn).where(OidcSignIn.expires_at <= now),
        delete(IdempotentRequest).where(IdempotentRequest.created_at <= now - ANSWERS_KEPT),
    ]
    if audit_days is not None:
        gone.append(delete(PersonalDataRead).where(PersonalDataRead.read_at < now - dt.timedelta(days=audit_days)))
    rows = sum(connection.execute(statement).rowcount for statement in gone)
    forget_windows(connection, now - WINDOWS_KEPT)
    return rows
