"""How to reach PostgreSQL: one frozen value that opens connections and engines, for the sink, migrations and queries.

Every connection has the same time zone, the same timeouts and UTF-8, whatever the environment says. TLS is what the
address says (`sslmode`, `sslrootcert`, `sslcert`, `sslkey`). Runs no query of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from stream.database.errors import DatabaseEncodingError, DatabaseError, DatabaseUnavailable, translated
from stream.database.tls import refused_certificate
from stream.settings import Settings, SettingsError, on_this_machine

if TYPE_CHECKING:
    from sqlalchemy import Engine

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

UNLOOKED_S = 5.0
"""A kept connection that was used within this time is taken to be alive."""

UNCHECKED_ENCODING = "SQL_ASCII"
"""A database of this encoding keeps the bytes that it is given, ours in UTF-8, and knows no characters."""

_REFUSED_CERTIFICATE = "certificate verify failed"
"""What libpq says of a server's certificate that does not pass, whatever the reason."""

_IN_UTC = "SET TIME ZONE 'UTC'"
_ENCRYPTED = ("require", "verify-ca", "verify-full")

Connection = psycopg.Connection[tuple[object, ...]]
AsyncConnection = psycopg.AsyncConnection[tuple[object, ...]]


@dataclass(frozen=True)
class DatabaseConnection:
    """How to reach a database. `url` may hold a password; `address`, which is also `str()` of it, never does.

    `password` is for a `url` without one.

    `url` is `postgresql://…`, `postgres://…`, SQLAlchemy's `postgresql+psycopg://…` or libpq's `key=value` form. What
    is none of these is refused with `DatabaseError` by all that uses it.
    """

    url: str = field(repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """From `database_url` and `database_password`; None when `database_url` is not set.

        Raises `SettingsError` naming the setting: when the address is not PostgreSQL's, when there are two passwords,
        and where rows would cross a network without TLS although `insecure` does not say so.
        """
        if settings.database_url is None:
            return None
        connection = cls(settings.database_url)
        try:
            given = conninfo_to_dict(connection.connection_string())
        except DatabaseError as error:
            raise SettingsError(str(error)) from None
        away = _host_without_tls(given)
        if away is not None and not settings.insecure:
            raise SettingsError(
                f"database_url: would send borrowers' data to {away} without encryption; add sslmode=verify-full and "
                "sslrootcert=FILE to it, or, where everybody on the network may read and change them, set insecure to "
                "true (--insecure)"
            )
        if settings.database_password is None:
            return connection
        if given.get("password"):
            raise SettingsError("database_password: database_url holds a password, too; remove it there")
        return replace(connection, password=settings.database_password.get_secret_value())

    @cached_property
    def address(self) -> str:
        """`host:port/name` for messages: no user, no password. Raises `DatabaseError`."""
        given = conninfo_to_dict(self.connection_string())
        host = given.get("host") or given.get("hostaddr") or "localhost"
        return f"{host}:{given.get('port') or 5432}/{given.get('dbname') or given.get('user') or ''}"

    def __str__(self) -> str:
        return self.address

    def connection_string(self, application_name: str = "foreshock") -> str:
        """libpq connection string with our timeouts; parameters that the URL itself sets override them, but for the
        encoding.

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
        parameters["client_encoding"] = "UTF8"
        if self.password is not None:
            parameters["password"] = self.password
        return make_conninfo(**parameters)

    def connect(self, application_name: str = "foreshock") -> Connection:
        """A new connection in UTC, each statement its own transaction unless inside `connection.transaction()`.

        Raises `DatabaseUnavailable` when the server cannot be reached or refuses (libpq gives no code for a refusal, so
        a wrong password looks like an outage; the server's own words are in the message), `DatabaseError` for a
        malformed URL, `DatabaseEncodingError` for a database that cannot hold every character.
        """
        text = self.connection_string(application_name)
        with translated(self.address):
            try:
                connection = psycopg.connect(text, autocommit=True)
            except psycopg.OperationalError as error:
                why = refused_certificate(conninfo_to_dict(text)) if _REFUSED_CERTIFICATE in str(error) else None
                if why is None:
                    raise
                raise DatabaseUnavailable(f"database {self.address} is not available: {why}") from error
            try:
                self._require_unicode(connection)
                connection.execute(_IN_UTC)
            except BaseException:
                connection.close()
                raise
        return connection

    async def connect_async(self, application_name: str = "foreshock") -> AsyncConnection:
        """As `connect`, for an event loop. What is wrong with a server's certificate only `connect` says."""
        with translated(self.address):
            connection = await psycopg.AsyncConnection.connect(
                self.connection_string(application_name), autocommit=True
            )
            try:
                self._require_unicode(connection)
                await connection.execute(_IN_UTC)
            except BaseException:
                await connection.close()
                raise
        return connection

    def _require_unicode(self, connection: Connection | AsyncConnection) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding not in (None, "UTF8", UNCHECKED_ENCODING):
            raise DatabaseEncodingError(
                f"database {self.address} has the encoding {encoding}, which cannot hold every user_id; "
                "make one that can: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
            )

    def open_engine(
        self, application_name: str = "foreshock", *, kept: int = 0, statement_timeout_s: float | None = None
    ) -> Engine:
        """SQLAlchemy engine on `connect`, raising what it raises.

        Keeps up to `kept` connections open between uses, which are then also the most at once; none where it is 0. A
        statement that takes longer than `statement_timeout_s` ends.
        """
        from sqlalchemy import NullPool, QueuePool, create_engine, event

        def connect_for_engine() -> Connection:
            connection = self.connect(application_name)
            if statement_timeout_s is not None:
                connection.execute(f"SET statement_timeout = {round(statement_timeout_s * 1000)}".encode())
            connection.autocommit = False
            return connection

        url = "postgresql+psycopg://"
        if not kept:
            return create_engine(url, creator=connect_for_engine, poolclass=NullPool)
        engine = create_engine(
            url,
            creator=connect_for_engine,
            poolclass=QueuePool,
            pool_size=kept,
            max_overflow=0,
            pool_timeout=CONNECT_TIMEOUT_S,
            hide_parameters=True,  # errors would name users
        )
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", _require_alive)
        return engine


def _note_use(_connection: Any, record: Any) -> None:
    record.info["used_s"] = time.monotonic()


def _require_alive(connection: Any, record: Any, _proxy: Any) -> None:
    """Look at a kept connection that was not used for a while: of a server that was started again, none is alive."""
    from sqlalchemy.exc import DisconnectionError

    if time.monotonic() - record.info.get("used_s", time.monotonic()) < UNLOOKED_S:
        return
    try:
        connection.execute("")
        connection.rollback()
    except psycopg.Error as error:
        raise DisconnectionError(str(error)) from error


def _host_without_tls(given: Mapping[str, Any]) -> str | None:
    """The first host on another machine to which these parameters may connect without TLS; None when there is none.

    libpq's own default, `prefer`, falls back to plain text. Sockets in the file system are on this machine. What a
    connection service file says is not known here.
    """
    if (given.get("sslmode") or os.environ.get("PGSSLMODE")) in _ENCRYPTED or given.get("service"):
        return None
    hosts = given.get("hostaddr") or given.get("host") or os.environ.get("PGHOST") or ""
    return next(
        (host for host in str(hosts).split(",") if host[:1] not in ("", "/", "@") and not on_this_machine(host)), None
    )
