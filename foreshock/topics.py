"""Commands `topics create` and `topics check`."""

from __future__ import annotations

import typer

from foreshock.doctor import print_finding
from foreshock.options import kafka_of, takes_settings
from foreshock.terminal import console, fail
from stream.kafka.provisioning import ProvisioningError, check_topics, create_topics
from stream.settings import Settings

topics_app = typer.Typer(help="Create and check the topics.", no_args_is_help=True)


@topics_app.command("create")
@takes_settings("bootstrap_servers", "topic_prefix", "application_id", "partitions", "stack_dir")
def create(*, settings: Settings) -> None:
    """Create the topics that are missing.

    These are inputs, outputs and the workers' changelog. Needs Kafka. Topics that exist stay as they are;
    `foreshock topics check` judges them.

        foreshock topics create --bootstrap-servers kafka:9092 --partitions 32
    """
    kafka = kafka_of(settings)
    try:
        created = create_topics(kafka, settings)
    except ProvisioningError as error:
        fail(str(error))
    console.print(f"created {', '.join(created)}" if created else "all topics exist already")


@topics_app.command("check")
@takes_settings("bootstrap_servers", "topic_prefix", "application_id", "partitions", "stack_dir")
def check(*, settings: Settings) -> None:
    """Say what is wrong with the topics, and what to do.

    Needs Kafka. Changes nothing. Exit code 1 if there is an error.
    """
    kafka = kafka_of(settings)
    try:
        findings = check_topics(kafka, settings)
    except ProvisioningError as error:
        fail(str(error))
    for finding in findings:
        print_finding(finding)
    raise typer.Exit(1 if any(finding.level == "error" for finding in findings) else 0)
