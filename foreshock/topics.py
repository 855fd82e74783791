"""Commands `topics create` and `topics check`."""

from __future__ import annotations

import typer

from foreshock.doctor import tell_findings
from foreshock.options import AsJson, kafka_of, takes_settings
from foreshock.terminal import console, fail, print_json
from stream.kafka.provisioning import ProvisioningError, check_topics, create_topics
from stream.settings import Settings

topics_app = typer.Typer(help="Create and check the topics.", no_args_is_help=True)


@topics_app.command("create")
@takes_settings("bootstrap_servers", "topic_prefix", "application_id", "partitions", "stack_dir")
def create(*, settings: Settings, as_json: AsJson = False) -> None:
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
    if as_json:
        print_json({"created": created})
        return
    console.print(f"created {', '.join(created)}" if created else "all topics exist already")


@topics_app.command("check")
@takes_settings("bootstrap_servers", "topic_prefix", "application_id", "partitions", "stack_dir")
def check(*, settings: Settings, as_json: AsJson = False) -> None:
    """Say what is wrong with the topics, and what to do.

    Needs Kafka. Changes nothing. Exit code 1 if there is an error.
    """
    kafka = kafka_of(settings)
    try:
        findings = check_topics(kafka, settings)
    except ProvisioningError as error:
        fail(str(error))
    tell_findings(findings, as_json=as_json)
