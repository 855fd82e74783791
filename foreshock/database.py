"""Command `db upgrade`."""

from __future__ import annotations

from typing import Annotated

import typer

from foreshock.options import database_of, takes_settings
from foreshock.terminal import console, fail
from stream.database import migration
from stream.database.errors import DatabaseError
from stream.settings import Settings

database_app = typer.Typer(help="The database schema.", no_args_is_help=True)


@database_app.command("upgrade")
@takes_settings("database_url", "stack_dir")
def upgrade(
    *,
    settings: Settings,
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="Revision to go to.")] = "head",
) -> None:
    """Bring the database schema up to date; safe to run again.

    Needs PostgreSQL.

        foreshock db upgrade --database-url postgresql://user@host/foreshock
    """
    database = database_of(settings)
    try:
        migration.upgrade(database, revision)
    except DatabaseError as error:
        fail(str(error))
    console.print(f"the schema is at {migration.current(database)}")
