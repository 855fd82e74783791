"""Browsers that are signed in. The cookie is random and kept as a hash, the token against foreign forms as it is.

Commits nothing: the caller's transaction does. What a cookie is called and which flags it has is said here, too.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from desk.access.accounts import ListedAccount, find
from desk.access.principals import Principal
from stream.database.access_tables import Account, DeskSession

SEEN_EVERY = dt.timedelta(minutes=1)

SECURE_COOKIE = "__Host-foreshock"
"""Browsers send a cookie of this name only by HTTPS, and take it only from the very host."""

LOOPBACK_COOKIE = "foreshock"
"""On this machine without TLS, where a secure cookie would not be kept."""


@dataclass(frozen=True)
class Lifetime:
    """How long a session lasts from its beginning, and without being used."""

    most: dt.timedelta
    idle: dt.timedelta


@dataclass(frozen=True)
class Session:
    """A browser that is signed in, and what its forms must hold."""

    account: ListedAccount
    csrf_token: str

    @property
    def principal(self) -> Principal:
        """Who is signed in."""
        return self.account.principal


def cookie_name(*, secure: bool) -> str:
    """Name of the cookie that holds a session."""
    return SECURE_COOKIE if secure else LOOPBACK_COOKIE


def open_session(connection: Connection, account: str, lifetime: Lifetime, now: dt.datetime) -> str:
    """Sign a browser in; returns the value of its cookie. Every sign-in has a session of its own."""
    secret = secrets.token_urlsafe(32)
    connection.execute(
        insert(DeskSession).values(
            session_sha256=_digest(secret),
            account=account,
            csrf_token=secrets.token_urlsafe(24),
            created_at=now,
            last_seen_at=now,
            expires_at=now + lifetime.most,
        )
    )
    return secret


def find_session(connection: Connection, cookie: str, lifetime: Lifetime, now: dt.datetime) -> Session | None:
    """The session of a cookie, None where it has ended or its account is disabled. Notes that it was seen."""
    digest = _digest(cookie)
    row = connection.execute(
        select(DeskSession.account, DeskSession.csrf_token, DeskSession.last_seen_at)
        .join(Account, Account.name == DeskSession.account)
        .where(
            DeskSession.session_sha256 == digest,
            DeskSession.expires_at > now,
            DeskSession.last_seen_at > now - lifetime.idle,
            Account.active,
        )
    ).one_or_none()
    if row is None:
        return None
    if now - row.last_seen_at >= SEEN_EVERY:
        connection.execute(update(DeskSession).where(DeskSession.session_sha256 == digest).values(last_seen_at=now))
    account = find(connection, row.account)
    return None if account is None else Session(account, row.csrf_token)


def close_session(connection: Connection, cookie: str) -> None:
    """Sign a browser out."""
    connection.execute(delete(DeskSession).where(DeskSession.session_sha256 == _digest(cookie)))


def is_own_form(session: Session, offered: str | None) -> bool:
    """Whether what a form or a header holds is the session's token."""
    return offered is not None and hmac.compare_digest(offered.encode(), session.csrf_token.encode())


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
