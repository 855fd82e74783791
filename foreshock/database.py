"""Commands `db upgrade` and `db roles`."""

from __future__ import annotations

from typing import Annotated

import typer

from foreshock.options import AsJson, database_of, takes_settings
from foreshock.terminal import console, fail, tell
from stream.database import migration
from stream.database.errors import DatabaseError
from stream.database.roles import roles_script
from stream.settings import Settings

database_app = typer.Typer(help="The database schema and its roles.", no_args_is_help=True)


@database_app.command("upgrade")
@takes_settings("database_url", "stack_dir")
def upgrade(
    *,
    settings: Settings,
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="Revision to go to.")] = "head",
    as_json: AsJson = False,
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
    reached = migration.current(database)
    tell(as_json, {"revision": reached}, f"the schema is at {reached}")


@database_app.command("roles")
def roles(
    *,
    schema: Annotated[str, typer.Option(help="Schema of the tables; made if it is missing.")] = "public",
    prefix: Annotated[str, typer.Option(help="What the names of the roles begin with.")] = "foreshock",
) -> None:
    """Print SQL that makes a role with the least rights for each part.

    Connects to nothing. An administrator of the database runs what it prints, before the first `foreshock db upgrade`
    and again after each. The roles are foreshock_owner (upgrades), foreshock_sink, foreshock_replay,
    foreshock_models, foreshock_people (`forget`, `export`) and foreshock_reader (reports).

        foreshock db roles | psql --set ON_ERROR_STOP=1 postgresql://admin@host/db
    """
    console.out(roles_script(schema, prefix), end="", highlight=False)
