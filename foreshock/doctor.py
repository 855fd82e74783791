"""The `doctor` command, and how a finding is printed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Never

import typer

from foreshock.options import AsJson, takes_settings
from foreshock.terminal import console, print_json, styled
from stream.database.connection import DatabaseConnection
from stream.doctor import examine
from stream.embedded import stack
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import Finding
from stream.settings import Settings

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


@takes_settings(
    "bootstrap_servers", "database_url", "topic_prefix", "application_id", "partitions", "bundle", "stack_dir"
)
def doctor(*, settings: Settings, as_json: AsJson = False) -> None:
    """Say what is wrong with servers, topics, users or bundle.

    Checks the broker, the topics, whether users appear on two partitions, the database and the model bundle, and says
    what to do about each finding. Changes nothing. Exit code 1 if there is an error.
    """
    running = stack.running(settings.stack_dir)
    kafka = KafkaConnection.from_settings(settings) or (None if running is None else running.kafka)
    database = DatabaseConnection.from_settings(settings) or (None if running is None else running.database)
    tell_findings(examine(settings, kafka, database), as_json=as_json)


def tell_findings(findings: Iterable[Finding], *, as_json: bool) -> Never:
    """Print findings as they are made, or all at once as JSON, and end the command: exit code 1 if one is an error."""
    told: list[Finding] = []
    for finding in findings:
        told.append(finding)
        if not as_json:
            print_finding(finding)
    if as_json:
        print_json(told)
    raise typer.Exit(1 if any(finding.level == "error" for finding in told) else 0)


def print_finding(finding: Finding) -> None:
    """Print what was found and what to do about it."""
    level = styled(f"{finding.level:<8}", _COLOURS[finding.level])
    console.print(level, styled(f"{finding.subject}: {finding.message}"), sep="")
    if finding.remedy:
        console.print(styled(f"        → {finding.remedy}"))
