"""Errors of the database by what the caller should do about them. Connects to nothing.

| error | meaning | what the caller does |
| --- | --- | --- |
| `DatabaseUnavailable` | lost, refused, starting, full, deadlocked | try the same batch again later |
| `DatabaseEncodingError` | its encoding lacks characters | stop; someone makes another database |
| `DatabaseForbidden` | the role lacks a right | stop; someone grants it (`foreshock db roles`) |
| `DatabaseOutdated` | a table, column or function is missing | stop; someone runs `foreshock db upgrade` |
| other `psycopg.Error`s about a value (`refusals.is_refusal`) | a record that others wrote | leave it out and tell |
| any other `psycopg.Error` | a fault of this program | stop and show it |
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as sql_errors


class DatabaseError(RuntimeError):
    """A problem with the database that an operator can solve; the message says how."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot take the work now; the same work may succeed later, and repeating it is safe."""


class DatabaseForbidden(DatabaseError):
    """The role that is connected may not do this; the message names the object."""


class DatabaseOutdated(DatabaseError):
    """The database lacks a table or column that this release needs, or has none of them yet."""


class DatabaseEncodingError(DatabaseError):
    """The database is made in an encoding that lacks most characters."""


TRANSIENT_CLASSES: frozenset[str] = frozenset({"08", "40", "53", "57", "58"})
"""SQLSTATE classes that pass by themselves or with an operator's help: connection exception, transaction rollback
(deadlock, serialization failure), insufficient resources, operator intervention (shutdown, start), system error."""

TRANSIENT_STATES: frozenset[str] = frozenset({"25006", "25P03", "25P04", "55P03"})
"""Single SQLSTATEs of the same nature: a read-only server after a failover; timeouts of idling, transaction, lock."""

_MISSING = (
    sql_errors.UndefinedTable,
    sql_errors.UndefinedColumn,
    sql_errors.UndefinedObject,
    sql_errors.UndefinedFunction,
    sql_errors.InvalidSchemaName,
)


def is_transient(error: psycopg.Error) -> bool:
    """Whether the same statements may succeed on a later try.

    An `OperationalError` or `InterfaceError` without SQLSTATE comes from the client library: the server could not be
    reached or went away.
    """
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate[:2] in TRANSIENT_CLASSES or error.sqlstate in TRANSIENT_STATES


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Turn errors of psycopg into `DatabaseUnavailable` and the like where they are that; others pass through.

    `address` names the database in messages and must hold no password.
    """
    try:
        yield
    except _MISSING as error:
        raise DatabaseOutdated(
            f"database {address} does not fit this release: {_said(error)}; run `foreshock db upgrade`"
        ) from error
    except sql_errors.InsufficientPrivilege as error:
        raise DatabaseForbidden(
            f"database {address} does not allow it: {_said(error)}; connect as the role that is for this, and run the "
            "script of `foreshock db roles` again after each upgrade"
        ) from error
    except psycopg.Error as error:
        if not is_transient(error):
            raise
        raise DatabaseUnavailable(f"database {address} is not available: {_said(error)}") from error


_HINTS = {
    "certificate verify failed": "set sslrootcert in database_url to the PEM file of the authority that signed the "
    "server's certificate",
    "does not match host name": "connect by a name that is in the server's certificate (database_url)",
    "alert certificate required": "the server wants a client certificate: set sslcert and sslkey in database_url",
    "alert unknown ca": "the server does not trust the authority of the client certificate (sslcert in database_url)",
    "alert certificate expired": "the client certificate (sslcert in database_url) has expired",
    "key values mismatch": "sslkey in database_url is not the key of sslcert",
    "server does not support SSL": "the server has no TLS, which sslmode in database_url asks for",
    "password authentication failed": "check the user in database_url, and database_password",
    "no password supplied": "set database_password, or passfile in database_url to a file that only you may read and "
    "that names this host, port, database and user",
}
"""What to look at, by the words of libpq or of the server; both are in English unless told otherwise."""


def _said(error: psycopg.Error) -> str:
    """The words of the server or of libpq, with what to look at."""
    # Of the server's answer the message alone: what it adds, of a line of COPY for instance, repeats values.
    said = " ".join((error.diag.message_primary or str(error)).split()) or type(error).__name__
    return said + "".join(f"; {hint}" for words, hint in _HINTS.items() if words in said)
