"""Upgrades and downgrades a database's schema and tells its revision. The steps are in the package `migrations`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseError, translated

SCRIPTS = Path(__file__).resolve().parents[2] / "migrations"
_LOCK_KEY = 0x666F_7265_0002
"""Advisory lock under which one migration runs at a time."""


def head() -> str:
    """The revision that this release needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None  # there is at least the first one
    return revision


def current(database: DatabaseConnection) -> str | None:
    """The revision a database is at; None for one that was never upgraded. Raises `DatabaseUnavailable`."""
    with _transaction(database) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(database: DatabaseConnection, revision: str = "head") -> None:
    """Bring the schema up to `revision`, in one transaction: all or nothing. Safe to run twice or at once.

    Raises `DatabaseUnavailable`, or `DatabaseError` when the database is at a revision that this release does not know.
    """
    _migrate(database, lambda config: command.upgrade(config, revision))


def downgrade(database: DatabaseConnection, revision: str) -> None:
    """Take the schema back to `revision` (`"base"` for none), in one transaction. Drops what later revisions made, with
    its data. Raises as `upgrade` does."""
    _migrate(database, lambda config: command.downgrade(config, revision))


def _migrate(database: DatabaseConnection, run: Callable[[Config], None]) -> None:
    with _transaction(database) as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        config = _config()
        config.attributes["connection"] = connection
        try:
            run(config)
        except CommandError as error:
            raise DatabaseError(
                f"database {database.address}: {error}; "
                "use the release that made its schema or newer, or start with an empty database"
            ) from error


@contextmanager
def _transaction(database: DatabaseConnection) -> Iterator[Connection]:
    with translated(database.address):
        try:
            with database.open_engine("foreshock-db").begin() as connection:
                yield connection
        except DBAPIError as error:
            if error.orig is None:
                raise
            raise error.orig from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config
