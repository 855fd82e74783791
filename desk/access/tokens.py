"""Tokens of services: random, shown once, kept as hashes, with an expiry, a role and a scope.

    fsk_<token_id>_<secret>

`token_id` finds the row and is no secret; `secret` has 256 random bits, so a plain SHA-256 of it cannot be searched.
Commits nothing: the caller's transaction does.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from desk.access.principals import Principal
from desk.access.refusals import NotSignedIn
from stream.database.access_tables import AccessToken
from stream.desk_roles import DeskRole

PREFIX = "fsk"
"""Tokens begin with it, so that a scanner for leaked secrets can find them."""

LONGEST_DAYS = 366
_FORM = re.compile(rf"{PREFIX}_([0-9a-z]{{12}})_([0-9A-Za-z_-]{{43}})")
_USED_EVERY = dt.timedelta(hours=1)

# Made once: every request needs it.
_VALID = select(
    AccessToken.secret_sha256, AccessToken.name, AccessToken.role, AccessToken.products, AccessToken.last_used_at
).where(
    AccessToken.token_id == bindparam("wanted"),
    AccessToken.revoked_at.is_(None),
    AccessToken.expires_at > bindparam("at"),
)

_UNKNOWN = "the token is not known, has expired or was revoked; `foreshock token create` makes another"


class TokenError(ValueError):
    """A token that cannot be made or found; the message says why."""


@dataclass(frozen=True)
class ListedToken:
    """A token as it stands, without its secret."""

    token_id: str
    name: str
    role: DeskRole
    products: tuple[str, ...] | None
    created_at: dt.datetime
    created_by: str
    expires_at: dt.datetime
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None

    def state(self, now: dt.datetime) -> str:
        """`valid`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "valid" if now < self.expires_at else "expired"


def create(
    connection: Connection,
    name: str,
    role: DeskRole,
    *,
    products: Collection[str] | None,
    days: float,
    by: str,
    now: dt.datetime,
) -> tuple[ListedToken, str]:
    """Make a token for `days`; returns it as it is listed, and its text, which is nowhere afterwards.

    Raises `TokenError`.
    """
    if not name.strip():
        raise TokenError("a token needs a name; say which service it is for")
    if not 0 < days <= LONGEST_DAYS:
        raise TokenError(f"a token lasts at most {LONGEST_DAYS} days; got {days:g}")
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    expires_at = now + dt.timedelta(days=days)
    seen = None if products is None else sorted(set(products))
    connection.execute(
        insert(AccessToken).values(
            token_id=token_id,
            secret_sha256=_digest(secret),
            name=name.strip(),
            role=role,
            products=seen,
            created_at=now,
            created_by=by,
            expires_at=expires_at,
        )
    )
    return find(connection, token_id), f"{PREFIX}_{token_id}_{secret}"


def find(connection: Connection, token_id: str) -> ListedToken:
    """The token of this id. Raises `TokenError`."""
    found = next((token for token in listed(connection) if token.token_id == token_id), None)
    if found is None:
        raise TokenError(f"no token has the id {token_id!r}; `foreshock token list` shows them")
    return found


def listed(connection: Connection) -> list[ListedToken]:
    """Every token, oldest first."""
    names = tuple(ListedToken.__dataclass_fields__)
    rows = connection.execute(
        select(*(getattr(AccessToken, name) for name in names)).order_by(AccessToken.created_at, AccessToken.token_id)
    )
    found = (dict(row) for row in rows.mappings())
    return [
        ListedToken(**(row | {"products": None if row["products"] is None else tuple(row["products"])}))
        for row in found
    ]


def revoke(connection: Connection, token_id: str, *, by: str, now: dt.datetime) -> ListedToken:
    """End a token at once; one that was revoked stays as it is. Raises `TokenError`."""
    connection.execute(
        update(AccessToken)
        .where(AccessToken.token_id == token_id, AccessToken.revoked_at.is_(None))
        .values(revoked_at=now, revoked_by=by)
    )
    return find(connection, token_id)


class OfferedToken(NamedTuple):
    """What a request offers as a token: which one, and the hash of its secret. It may be anybody's invention."""

    token_id: str
    secret_sha256: bytes


def offered_token(text: str) -> OfferedToken | None:
    """None for what is not even written as a token."""
    form = _FORM.fullmatch(text)
    return None if form is None else OfferedToken(form[1], _digest(form[2]))


def principal_of(connection: Connection, text: str, now: dt.datetime) -> Principal:
    """Who a token stands for. Raises `NotSignedIn`, in the same words whatever is wrong with it."""
    offered = offered_token(text)
    if offered is None:
        raise NotSignedIn(_UNKNOWN)
    token_id = offered.token_id
    row = connection.execute(_VALID, {"wanted": token_id, "at": now}).one_or_none()
    kept = b"" if row is None else bytes(row.secret_sha256)
    if not hmac.compare_digest(kept, offered.secret_sha256) or row is None:
        raise NotSignedIn(_UNKNOWN)
    if row.last_used_at is None or now - row.last_used_at >= _USED_EVERY:
        _note_use(connection, token_id, now)
    return Principal(
        row.name, "token", row.role, None if row.products is None else frozenset(row.products), token_id=token_id
    )


def _note_use(connection: Connection, token_id: str, now: dt.datetime) -> None:
    connection.execute(
        update(AccessToken)
        .where(
            AccessToken.token_id == token_id,
            or_(AccessToken.last_used_at.is_(None), AccessToken.last_used_at <= now - _USED_EVERY),
        )
        .values(last_used_at=now)
    )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
