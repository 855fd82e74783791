"""Commands of operations: the embedded stack, topics, the database, the doctor, generated documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreshock.options import console, database_of, fail, kafka_of, takes_settings
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseError
from stream.doctor import examine
from stream.embedded import stack
from stream.embedded.server import EmbeddedError
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import Finding, ProvisioningError, check_topics, create_topics
from stream.settings import Settings

topics_app = typer.Typer(help="Create and check the topics.", no_args_is_help=True)
database_app = typer.Typer(help="The database schema.", no_args_is_help=True)
docs_app = typer.Typer(help="Documents that are generated from the code.", no_args_is_help=True)

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


@takes_settings("stack_dir", "partitions")
def up(*, settings: Settings) -> None:
    """Start an embedded Kafka and PostgreSQL that stay, with topics and tables made; the other commands find them."""
    try:
        with console.status("starting Kafka and PostgreSQL …") as status:
            address = stack.up(settings.stack_dir, progress=lambda server, doing: status.update(f"{server}: {doing} …"))
            status.update("creating topics and tables …")
            create_topics(address.kafka, settings)
            migration.upgrade(address.database)
    except (EmbeddedError, ProvisioningError, DatabaseError) as error:
        fail(str(error))
    console.print(f"Kafka       {address.bootstrap_servers}", highlight=False)
    console.print(f"PostgreSQL  {address.database_url}", highlight=False)
    console.print("`foreshock worker`, `foreshock sink` and `foreshock simulate` use them; `foreshock down` stops them")


@takes_settings("stack_dir")
def down(*, settings: Settings) -> None:
    """Stop the embedded stack that `up` started. Its data stays in the stack's folder."""
    try:
        stopped = stack.down(settings.stack_dir)
    except EmbeddedError as error:
        fail(str(error))
    console.print("stopped" if stopped else f"nothing runs in {settings.stack_dir}")


@topics_app.command("create")
@takes_settings("bootstrap_servers", "topic_prefix", "application_id", "partitions", "stack_dir")
def create(*, settings: Settings) -> None:
    """Create the topics that are missing: inputs, outputs and the changelog. Leaves existing ones as they are."""
    kafka = kafka_of(settings)
    try:
        created = create_topics(kafka, settings)
    except ProvisioningError as error:
        fail(str(error))
    console.print(f"created {', '.join(created)}" if created else "all topics exist already")


@topics_app.command("check")
@takes_settings("bootstrap_servers", "topic_prefix", "application_id", "partitions", "stack_dir")
def check(*, settings: Settings) -> None:
    """Say what is wrong with the topics, and what to do. Exit code 1 if anything is."""
    kafka = kafka_of(settings)
    try:
        findings = check_topics(kafka, settings)
    except ProvisioningError as error:
        fail(str(error))
    for finding in findings:
        _print(finding)
    raise typer.Exit(1 if any(finding.level == "error" for finding in findings) else 0)


@database_app.command("upgrade")
@takes_settings("database_url", "stack_dir")
def upgrade(
    *,
    settings: Settings,
    revision: Annotated[str, typer.Argument(help="Revision to go to.")] = "head",
) -> None:
    """Bring the schema up to date. Safe to run again."""
    database = database_of(settings)
    try:
        migration.upgrade(database, revision)
    except DatabaseError as error:
        fail(str(error))
    console.print(f"the schema is at {migration.current(database)}")


@takes_settings(
    "bootstrap_servers", "database_url", "topic_prefix", "application_id", "partitions", "bundle", "stack_dir"
)
def doctor(*, settings: Settings) -> None:
    """Say what is wrong with broker, topics, users, database or bundle, and what to do. Exit code 1 if anything is."""
    running = stack.running(settings.stack_dir)
    kafka = KafkaConnection.from_settings(settings) or (None if running is None else running.kafka)
    database = DatabaseConnection.from_settings(settings) or (None if running is None else running.database)
    failed = False
    for finding in examine(settings, kafka, database):
        _print(finding)
        failed |= finding.level == "error"
    raise typer.Exit(1 if failed else 0)


@docs_app.command("write")
def write(
    context: typer.Context,
    folder: Annotated[Path, typer.Option(help="The docs folder of the source tree.")] = Path("docs"),
) -> None:
    """Write the JSON Schemas, the command reference and the settings reference from the code, and the tables of
    models.md from the reports beside it."""
    from foreshock.reference_pages import write_reference
    from model.comparison.page import PageError

    try:
        for path in write_reference(folder, context.find_root().command):
            console.print(str(path), highlight=False)
    except PageError as error:
        fail(str(error))


def _print(finding: Finding) -> None:
    console.print(
        f"[{_COLOURS[finding.level]}]{finding.level:<8}[/]{finding.subject}: {finding.message}", highlight=False
    )
    if finding.remedy:
        console.print(f"        → {finding.remedy}", highlight=False)
