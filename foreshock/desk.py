"""Command `desk`: the collectors' pages and the API."""

from __future__ import annotations

import functools

import typer

from foreshock.options import database_of, kafka_of, require_desk, takes_settings
from foreshock.services import telling
from foreshock.terminal import console, errors, fail
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseError
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings


@takes_settings(
    "bootstrap_servers",
    "database_url",
    "topic_prefix",
    "stack_dir",
    "bundle",
    "desk_host",
    "desk_port",
    "desk_workers",
    "desk_public_url",
    "desk_tls_certfile",
    "desk_tls_keyfile",
    "desk_behind_proxy",
    "application_id",
    "metrics_port",
    "log_format",
)
def desk(*, settings: Settings) -> None:
    """Serve the desk: the collectors' pages, and the API.

    Needs the `desk` extra, and a database that a sink fills; with Kafka, what is done about alerts is published. Served
    to this machine alone unless `--host` says otherwise; that needs TLS, or a proxy in front that speaks it. The first
    account is made by `foreshock account create`. With `--metrics-port`, health and metrics of all its processes are at
    a port of their own.

        foreshock desk --workers 2
    """
    require_desk()
    from desk import serving
    from desk.app import create_app
    from desk.figures import DeskFigures
    from desk.telemetry import DeskCollector, DeskHealth, Endpoint
    from stream.database.probe import DatabaseProbe

    database = database_of(settings)
    try:
        serving.require_safe(settings)
        _require_current(database)
        listening = serving.listen(settings)
    except (DatabaseError, serving.CannotServe) as error:
        fail(str(error))
    console.print(f"the desk is at {serving.address_of(settings, listening)}")
    kafka = _kafka(settings)
    if kafka is None:
        errors.print("no --bootstrap-servers given: actions are kept, and published by a desk that has it")
    app = functools.partial(create_app, kafka=kafka, with_clerk=True)
    figures, probe = DeskFigures(settings.desk_workers), DatabaseProbe(database)
    health = DeskHealth(figures, probe, settings.stall_timeout_s)
    server = telling(settings, health, lambda: DeskCollector(settings.application_id, figures, health, probe))
    endpoint = None if server is None else Endpoint(server, probe)
    raise typer.Exit(serving.serve(settings, database, listening, app, figures=figures, endpoint=endpoint))


def _kafka(settings: Settings) -> KafkaConnection | None:
    """The user's own, else that of the embedded stack where the database is that, too; None for none."""
    found = KafkaConnection.from_settings(settings)
    if found is not None or settings.database_url is not None:
        return found
    return kafka_of(settings)


def _require_current(database: DatabaseConnection) -> None:
    """End the command where the tables are of another release, or nobody could sign in."""
    found, needed = migration.current(database), migration.head()
    if found != needed:
        fail(
            f"{database} is at revision {found or 'none'}, the desk needs {needed}: "
            "run `foreshock db upgrade`, and `foreshock db roles` where parts have roles"
        )
