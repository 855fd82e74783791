"""How to reach PostgreSQL: one frozen value that opens connections and engines, for the sink, migrations and queries.

Every connection has the same time zone and the same timeouts. Runs no query of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import Engine, NullPool, create_engine

from stream.database.errors import DatabaseError, translated
from stream.settings import Settings

CONNECT_TIMEOUT_S = 5
# A server that vanished without closing the connection is noticed after about 10 + 3·5 s; the system's default is two
# hours.
_TIMEOUTS: dict[str, int] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True)
class DatabaseConnection:
    """How to reach a database. `url` may hold a password; `address`, which is also `str()` of it, never does.

    `url` is `postgresql://…`, `postgres://…`, SQLAlchemy's `postgresql+psycopg://…` or libpq's `key=value` form. What
    is none of these is refused with `DatabaseError` by all that uses it.
    """

    url: str = field(repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """From `database_url`; None when it is not set."""
        return None if settings.database_url is None else cls(settings.database_url)

    @property
    def address(self) -> str:
        """`host:port/name` for messages: no user, no password. Raises `DatabaseError`."""
        given = conninfo_to_dict(self.connection_string())
        host = given.get("host") or given.get("hostaddr") or "localhost"
        return f"{host}:{given.get('port') or 5432}/{given.get('dbname') or given.get('user') or ''}"

    def __str__(self) -> str:
        return self.address

    def connection_string(self, application_name: str = "foreshock") -> str:
        """libpq connection string with our timeouts; parameters that the URL itself sets override them.

        Raises `DatabaseError` when the URL is none of PostgreSQL's.
        """
        url = self.url
        scheme, separator, rest = url.partition("://")
        if separator and "+" in scheme:
            url = f"{scheme.partition('+')[0]}://{rest}"
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # libpq's own message repeats the text, and with it the password.
            raise DatabaseError(
                "database_url: not an address of PostgreSQL; expected postgresql://user:password@host:port/name"
            ) from None
        parameters: dict[str, Any] = {"application_name": application_name, **_TIMEOUTS, **given}
        return make_conninfo(**parameters)

    def connect(self, application_name: str = "foreshock") -> Connection:
        """A new connection in UTC, each statement its own transaction unless inside `connection.transaction()`.

        Raises `DatabaseUnavailable` when the server cannot be reached or refuses (libpq gives no code for a refusal, so
        a wrong password looks like an outage; the server's own words are in the message), `DatabaseError` for a
        malformed URL.
        """
        text = self.connection_string(application_name)
        with translated(self.address):
            connection = psycopg.connect(text, autocommit=True)
            try:
                connection.execute("SET TIME ZONE 'UTC'")
            except BaseException:
                connection.close()
                raise
        return connection

    def open_engine(self, application_name: str = "foreshock") -> Engine:
        """SQLAlchemy engine on `connect`, raising what it raises; keeps no connection open between uses."""

        def connect_for_engine() -> Connection:
            connection = self.connect(application_name)
            connection.autocommit = False
            return connection

        return create_engine("postgresql+psycopg://", creator=connect_for_engine, poolclass=NullPool)
