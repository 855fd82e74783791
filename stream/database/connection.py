"""One way to reach PostgreSQL: the same address, time zone and patience for the sink, the migration and the queries."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import Engine, NullPool, create_engine

from stream.database.errors import DatabaseError, translated

CONNECT_TIMEOUT_S = 5
# A peer that vanished without a word is noticed after about 10 + 3·5 s; the system's own default is two hours.
_PATIENCE: dict[str, int] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}

Connection = psycopg.Connection[tuple[object, ...]]


def connection_string(url: str, application_name: str = "foreshock") -> str:
    """libpq connection string of `url` with our timeouts; whatever the address itself sets has the last word.

    Takes `postgresql://…`, `postgres://…`, SQLAlchemy's `postgresql+psycopg://…` and libpq's `key=value` form. Raises
    `DatabaseError` when it is none of these.
    """
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
    parameters: dict[str, Any] = {"application_name": application_name, **_PATIENCE, **given}
    return make_conninfo(**parameters)


def address_of(url: str) -> str:
    """`host:port/name` of an address, for messages: no user, no password."""
    given = conninfo_to_dict(connection_string(url))
    host = given.get("host") or given.get("hostaddr") or "localhost"
    return f"{host}:{given.get('port') or 5432}/{given.get('dbname') or given.get('user') or ''}"


def connect(url: str, application_name: str = "foreshock") -> Connection:
    """A new connection in UTC, each statement its own transaction unless inside `connection.transaction()`.

    Raises `DatabaseUnavailable` when the server cannot be reached or refuses (libpq gives no code for a refusal, so a
    wrong password looks like an outage; the server's own words are in the message), `DatabaseError` for a malformed
    address.
    """
    text = connection_string(url, application_name)
    with translated(address_of(url)):
        connection = psycopg.connect(text, autocommit=True)
        try:
            connection.execute("SET TIME ZONE 'UTC'")
        except BaseException:
            connection.close()
            raise
    return connection


def open_engine(url: str, application_name: str = "foreshock") -> Engine:
    """SQLAlchemy engine on `connect`, raising what it raises; keeps no connection open between uses."""

    def connect_for_engine() -> Connection:
        connection = connect(url, application_name)
        connection.autocommit = False
        return connection

    return create_engine("postgresql+psycopg://", creator=connect_for_engine, poolclass=NullPool)
