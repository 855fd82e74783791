"""Command `desk`: the collectors' pages and the API."""

from __future__ import annotations

import typer

from foreshock.options import database_of, takes_settings
from foreshock.terminal import console, fail
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseError
from stream.settings import Settings


@takes_settings(
    "database_url",
    "stack_dir",
    "bundle",
    "desk_host",
    "desk_port",
    "desk_workers",
    "desk_public_url",
    "desk_tls_certfile",
    "desk_tls_keyfile",
    "desk_behind_proxy",
    "log_format",
)
def desk(*, settings: Settings) -> None:
    """Serve the desk: the collectors' pages, and the API.

    Needs the `desk` extra, and a database that a sink fills. Served to this machine alone unless `--host` says
    otherwise; that needs TLS, or a proxy in front that speaks it. The first account is made by `foreshock account
    create`.

        foreshock desk --workers 2
    """
    try:
        from desk import serving
    except ImportError as error:
        fail(f"{error}: the desk is extra, install it with pip install -c constraints.txt '.[desk]'")
    database = database_of(settings)
    try:
        serving.require_safe(settings)
        _require_current(database)
        listening = serving.listen(settings)
    except (DatabaseError, serving.CannotServe) as error:
        fail(str(error))
    console.print(f"the desk is at {serving.address_of(settings, listening)}")
    raise typer.Exit(serving.serve(settings, database, listening))


def _require_current(database: DatabaseConnection) -> None:
    """End the command where the tables are of another release, or nobody could sign in."""
    found, needed = migration.current(database), migration.head()
    if found != needed:
        fail(
            f"{database} is at revision {found or 'none'}, the desk needs {needed}: "
            "run `foreshock db upgrade`, and `foreshock db roles` where parts have roles"
        )
