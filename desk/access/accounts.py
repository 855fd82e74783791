"""Accounts of people: made, changed, disabled, and signed in to by a password. Commits nothing, but for `sign_in`.

A sign-in is counted as failed before the password is looked at, in a transaction of its own, so that tries at the same
time cannot outrun the lock.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, case, delete, func, insert, literal, or_, select, update

from desk.access.passwords import is_password
from desk.access.principals import Principal
from desk.access.refusals import SignInRefused
from stream.case_records import FORESHOCK
from stream.database.access_tables import Account, DeskSession
from stream.desk_roles import DeskRole

FREE_TRIES = 5
"""Failed sign-ins in a row after which an account is locked, first for `FIRST_LOCK_S`, then twice as long each time."""

FIRST_LOCK_S = 60
LONGEST_LOCK_S = 3600

_NAME = re.compile(r"[^\s:/@\x00-\x1f-][^\s:/\x00-\x1f]{0,127}")
_REFUSED = "name and password do not match, or the account is disabled, or locked for a while after failed tries"


class AccountError(ValueError):
    """An account that cannot be made, found or changed; the message says why."""


@dataclass(frozen=True)
class ListedAccount:
    """An account as it stands. `signs_in_by` names the ways: `password`, `oidc`."""

    name: str
    display_name: str
    role: DeskRole
    products: tuple[str, ...] | None
    daily_cap: int | None
    language: str | None
    active: bool
    locked_until: dt.datetime | None
    created_at: dt.datetime
    created_by: str
    signs_in_by: tuple[str, ...]

    @property
    def principal(self) -> Principal:
        """Who the account stands for."""
        return Principal(self.name, "account", self.role, None if self.products is None else frozenset(self.products))


_LISTED = select(
    Account.name,
    Account.display_name,
    Account.role,
    Account.products,
    Account.daily_cap,
    Account.language,
    Account.active,
    Account.locked_until,
    Account.created_at,
    Account.created_by,
    Account.password_hash.is_not(None).label("password"),
    Account.oidc_subject.is_not(None).label("oidc"),
)


def create(
    connection: Connection,
    name: str,
    role: DeskRole,
    *,
    password_hash: str | None,
    by: str,
    now: dt.datetime,
    display_name: str | None = None,
    products: Collection[str] | None = None,
    daily_cap: int | None = None,
    language: str | None = None,
    oidc: tuple[str, str] | None = None,
) -> ListedAccount:
    """Make an account; `oidc` is its issuer and subject at the identity provider.

    Raises `AccountError` for a name that is taken or cannot be one.
    """
    if _NAME.fullmatch(name) is None:
        raise AccountError(
            f"{name!r} cannot be a name: at most 128 characters, no blank, colon or slash, and no dash or @ at its "
            "beginning"
        )
    if name.casefold() == FORESHOCK:
        # What is done under it would count as done by itself: as nobody's touch, and nobody's verdict.
        raise AccountError(f"{name!r} cannot be a name: what Foreshock does by itself stands under it; choose another")
    if find(connection, name) is not None:
        raise AccountError(f"there is an account {name}; `foreshock account list` shows them")
    connection.execute(
        insert(Account).values(
            name=name,
            display_name=display_name or name,
            role=role,
            products=None if products is None else sorted(set(products)),
            password_hash=password_hash,
            oidc_issuer=None if oidc is None else oidc[0],
            oidc_subject=None if oidc is None else oidc[1],
            daily_cap=daily_cap,
            language=language,
            created_at=now,
            created_by=by,
        )
    )
    return _require(connection, name)


def find(connection: Connection, name: str) -> ListedAccount | None:
    """The account of this name, disabled or not."""
    return next(iter(_rows(connection, _LISTED.where(Account.name == name))), None)


def listed(connection: Connection) -> list[ListedAccount]:
    """Every account, by name."""
    return _rows(connection, _LISTED.order_by(Account.name))


def set_active(connection: Connection, name: str, *, active: bool) -> ListedAccount:
    """Let an account in again, or no longer: its sessions end at once. Raises `AccountError`."""
    _require(connection, name)
    connection.execute(update(Account).where(Account.name == name).values(active=active))
    if not active:
        end_sessions(connection, name)
    return _require(connection, name)


def set_password(connection: Connection, name: str, password_hash: str) -> ListedAccount:
    """Give an account a password, take its lock away and end its sessions. Raises `AccountError`."""
    _require(connection, name)
    connection.execute(
        update(Account)
        .where(Account.name == name)
        .values(password_hash=password_hash, failed_sign_ins=0, locked_until=None)
    )
    end_sessions(connection, name)
    return _require(connection, name)


def set_language(connection: Connection, name: str, language: str) -> None:
    """The language in which an account sees the pages."""
    connection.execute(update(Account).where(Account.name == name).values(language=language))


def end_sessions(connection: Connection, name: str) -> int:
    """Sign an account out everywhere; returns from how many browsers."""
    return connection.execute(delete(DeskSession).where(DeskSession.account == name)).rowcount


def sign_in(engine: Engine, name: str, password: str, now: dt.datetime) -> ListedAccount:
    """The account whose name and password these are. Raises `SignInRefused`, in the same words whatever is wrong."""
    name = name.replace("\x00", "")
    failed = Account.failed_sign_ins + 1
    lock_s = func.least(
        literal(LONGEST_LOCK_S), literal(FIRST_LOCK_S) * func.power(2, func.least(failed - FREE_TRIES, 20))
    )
    count = (
        update(Account)
        .where(Account.name == name, Account.active, or_(Account.locked_until.is_(None), Account.locked_until <= now))
        .values(
            failed_sign_ins=failed,
            locked_until=case(
                (failed >= FREE_TRIES, literal(now) + func.make_interval(0, 0, 0, 0, 0, 0, lock_s)), else_=None
            ),
        )
        .returning(Account.password_hash)
    )
    with engine.begin() as connection:
        row = connection.execute(count).one_or_none()
    if not is_password(None if row is None else row.password_hash, password):
        raise SignInRefused(_REFUSED)
    with engine.begin() as connection:
        connection.execute(update(Account).where(Account.name == name).values(failed_sign_ins=0, locked_until=None))
        return _require(connection, name)


def _require(connection: Connection, name: str) -> ListedAccount:
    found = find(connection, name)
    if found is None:
        raise AccountError(f"there is no account {name!r}; `foreshock account list` shows them")
    return found


def _rows(connection: Connection, query: object) -> list[ListedAccount]:
    found = []
    for row in connection.execute(query).mappings():  # type: ignore[call-overload]
        values = dict(row)
        ways = tuple(way for way in ("password", "oidc") if values.pop(way))
        values["products"] = None if values["products"] is None else tuple(values["products"])
        found.append(ListedAccount(**values, signs_in_by=ways))
    return found
