"""Commands `retention plan` and `retention apply`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from kafka.errors import KafkaError

from foreshock.doctor import print_finding
from foreshock.options import AsJson, Yes, confirmed, interruptible, kafka_failure, kafka_of, takes_settings
from foreshock.tables import Column, Table, bytes_text
from foreshock.terminal import console, errors, fail, print_json, styled
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import DAY_MS, UNLIMITED, ConfigChange, ProvisioningError, change_configs
from stream.retention.plan import PlannedChange, PlannedTopic, RetentionPlan
from stream.retention.plan import plan as make_plan
from stream.retention.rules import Kept
from stream.settings import Settings

retention_app = typer.Typer(help="How long topics keep records.", no_args_is_help=True)


@retention_app.command("plan")
@takes_settings("bootstrap_servers", "topic_prefix", "application_id", "stack_dir")
def plan(*, settings: Settings, as_json: AsJson = False) -> None:
    """Show what topics keep, what they hold, and what should change.

    For each topic: how long it keeps records, its size and growth, when its first records go, and settings that are not
    as `input_retention_days` and the like say. Warns before a replay, a rebuild or a reader misses something; `doctor`
    does by the same rules. Needs Kafka. Changes nothing.

        foreshock retention plan --config production.toml
    """
    kafka = kafka_of(settings)
    with _failures(kafka):
        found = make_plan(kafka, settings, _now_ms())
    if as_json:
        print_json(_as_json(found))
        return
    _show(found)


@retention_app.command("apply")
@takes_settings("bootstrap_servers", "topic_prefix", "application_id", "stack_dir")
def apply(*, settings: Settings, yes: Yes = False, as_json: AsJson = False) -> None:
    """Make the changes that `retention plan` shows.

    Asks before it does. A change that would delete what a worker or the sink has still to read is withheld. Needs
    Kafka, and the right to change settings of topics.

        foreshock retention apply --config production.toml
    """
    kafka = kafka_of(settings)
    shown_on = errors if as_json else console
    with _failures(kafka), interruptible("changes that it has told of are made, and the same command makes the others"):
        found = make_plan(kafka, settings, _now_ms())
        changes = found.changes
        if not as_json:
            for topic in found.topics:
                _show_changes(topic)
        if changes:
            confirmed(f"Make {len(changes)} changes?", yes=yes)
            change_configs(kafka, changes, lambda change: shown_on.print(f"changed {_words(change)}"))
    if as_json:
        print_json({"changed": changes, "withheld": [_change_json(each) for each in _withheld(found)]})
    elif not changes:
        console.print("nothing to change")


def _show(found: RetentionPlan) -> None:
    table = Table(
        "topic",
        "keeps",
        Column("offsets", numeric=True),
        Column("size", numeric=True),
        Column("a day", numeric=True),
        Column("first goes in", numeric=True),
    )
    for topic in found.topics:
        size = topic.size
        table.add_row(
            topic.name,
            _kept(topic.kept),
            f"{size.records:,}",
            bytes_text(size.size_bytes),
            bytes_text(size.bytes_per_day),
            "" if topic.first_goes_days is None else f"{topic.first_goes_days:,.1f} days",
        )
    console.print(table)
    if found.offsets_retention_ms is not None:
        console.print(
            f"brokers forget how far a group has read {found.offsets_retention_ms / DAY_MS:.1f} days after its last "
            "member left"
        )
    if found.free_bytes is not None:
        full = "" if found.full_days is None else f", full in {found.full_days:,.0f} days at today's rate"
        console.print(f"free on the brokers' disks: {bytes_text(found.free_bytes)}{full}")
    for finding in found.findings:
        print_finding(finding)
    for advice in found.advice:
        console.print(styled(f"hint    {advice}"))
    for topic in found.topics:
        _show_changes(topic)
    count = len(found.changes)
    console.print(f"{count} changes: `foreshock retention apply`" if count else "nothing to change")


def _show_changes(topic: PlannedTopic) -> None:
    for planned in topic.changes:
        deletes = f", which deletes about {planned.deletes:,} records" if planned.deletes else ""
        withheld = f"; withheld: {planned.withheld}" if planned.withheld else ""
        console.print(f"change {_words(planned.change)}{deletes}{withheld}")


def _words(change: ConfigChange) -> str:
    return f"{change.topic}: {change.key} {_value(change, change.found)} → {_value(change, change.wanted)}"


def _value(change: ConfigChange, value: str) -> str:
    if change.key.startswith("retention.") and value == UNLIMITED:
        return "without limit"
    return f"{int(value) / DAY_MS:.1f} days" if change.key.endswith(".ms") else value


def _kept(kept: Kept | None) -> str:
    if kept is None:
        return "(not to be seen)"
    parts = ["the last of each key"] if kept.compacted else []
    if kept.ms is not None:
        parts.append(f"{kept.ms / DAY_MS:,.1f} days")
    elif not kept.compacted:
        parts.append("without limit")
    if kept.bytes_per_partition is not None:
        parts.append(f"{bytes_text(kept.bytes_per_partition)} per partition")
    return ", at most ".join(parts)


def _as_json(found: RetentionPlan) -> dict[str, Any]:
    return {
        "topics": [
            {
                "topic": topic.name,
                "kept": topic.kept,
                "size": topic.size,
                "bytes_per_day": topic.size.bytes_per_day,
                "first_goes_days": topic.first_goes_days,
                "changes": [_change_json(planned) for planned in topic.changes],
            }
            for topic in found.topics
        ],
        "offsets_retention_ms": found.offsets_retention_ms,
        "free_bytes": found.free_bytes,
        "full_days": found.full_days,
        "advice": found.advice,
        "findings": found.findings,
    }


def _change_json(planned: PlannedChange) -> dict[str, Any]:
    change = planned.change
    return {
        "topic": change.topic,
        "key": change.key,
        "found": change.found,
        "wanted": change.wanted,
        "deletes": planned.deletes,
        "withheld": planned.withheld,
    }


def _withheld(found: RetentionPlan) -> Iterator[PlannedChange]:
    return (planned for topic in found.topics for planned in topic.changes if planned.withheld)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def _failures(kafka: KafkaConnection) -> Iterator[None]:
    try:
        yield
    except ProvisioningError as error:
        fail(str(error))
    except KafkaError as error:
        fail(kafka_failure(error, kafka))
