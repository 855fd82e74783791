"""Commands `shadow run`, `shadow report` and `shadow remove`: a model that scores beside the live one, unseen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from kafka.errors import KafkaError

from foreshock.comparison_tables import Segments, deciles_table, segments_tables
from foreshock.options import (
    TIME,
    TIMES,
    AsJson,
    Report,
    event_progress,
    interruptible,
    kafka_failure,
    kafka_of,
    shadow_name,
    takes_settings,
    utc,
)
from foreshock.tables import Column, Table, facts_table
from foreshock.terminal import console, errors, fail, print_json
from stream.kafka.topic_reader import TopicUnreadable
from stream.settings import Settings
from stream.shadow.names import fits

shadow_app = typer.Typer(help="A model that scores all events beside the live one, unseen.", no_args_is_help=True)


Name = Annotated[str, typer.Argument(metavar="NAME", help="Names the shadow and its topics.", parser=shadow_name)]


@shadow_app.command("run")
@takes_settings(
    "bootstrap_servers",
    "topic_prefix",
    "application_id",
    "bundle",
    "state_dir",
    "resident_users",
    "stack_dir",
    "log_format",
)
def run(*, settings: Settings, name: Name) -> None:
    """Score all events with another bundle, beside the live workers.

    A worker with states, changelog, consumer group and output topics of its own: `scores.shadow.NAME` and
    `alerts.shadow.NAME`, which it makes where they are missing. It begins at the first events that the topics have,
    catches up, and goes on until stopped. Live outputs, states and the database are not touched. Start several to share
    the work, up to one for each partition. Another policy can be tried likewise, by its settings. A name belongs to one
    bundle: for another, choose another name, or `shadow remove` this one first.

        foreshock shadow run may --bundle challenger-bundle
    """
    from foreshock.services import admitting, may_lead, run_worker
    from stream.kafka.provisioning import ProvisioningError
    from stream.least_rights import shadow_rights
    from stream.scoring.order_journal import UnreadableOrder
    from stream.shadow.run import as_partitioned, followed, prepare_topics, shadow_settings

    if not fits(settings.application_id, name):
        raise typer.BadParameter("is too long beside application_id, for names of topics", param_hint="NAME")
    kafka = admitting(settings, shadow_rights(settings, name), shadow_settings(settings, name).application_id)
    try:
        settings = as_partitioned(kafka, settings)
        created = prepare_topics(kafka, settings, name)
        own = shadow_settings(settings, name)
        following = followed(
            kafka, settings, own.application_id, takes_over=may_lead(kafka, own, settings.application_id)
        )
    except (ProvisioningError, TopicUnreadable, UnreadableOrder) as error:
        fail(str(error))
    except KafkaError as error:
        fail(kafka_failure(error, kafka))
    if created:
        console.print(f"created {', '.join(created)}")
    run_worker(own, kafka, following=following, outputs=settings.topics.shadow_outputs(name))


@shadow_app.command("report")
@takes_settings("bootstrap_servers", "topic_prefix", "stack_dir")
def report(
    *,
    settings: Settings,
    name: Name,
    from_: Annotated[
        dt.datetime | None,
        typer.Option("--from", formats=TIMES, metavar=TIME, help="First event time, UTC.", show_default="the first"),
    ] = None,
    to: Annotated[
        dt.datetime | None,
        typer.Option(formats=TIMES, metavar=TIME, help="End in event time, UTC, left out.", show_default="the last"),
    ] = None,
    segments: Segments = None,
    as_json: AsJson = False,
    report_file: Report = None,
) -> None:
    """Compare a shadow with what was published live.

    By event: how far scores shift, by decile of the live score and by product; which levels change; which alerts are
    gained, lost, earlier or later, and by how many days. Only events that both have scored are compared. Needs Kafka;
    the shadow may go on running.

        foreshock shadow report may --from 2026-05-01 --report may.json
    """
    from stream.comparison.pairing import TooFarApart
    from stream.published_outputs import Scope, compare_outputs
    from stream.shadow.report import shadow_report

    kafka = kafka_of(settings)
    try:
        shown_on = errors if as_json else console
        again = "nothing of it is kept, and the same command compares anew"
        with interruptible(again), event_progress(shown_on) as progress:
            task = progress.add_task("comparing", total=None)
            topics = settings.topics
            found = compare_outputs(
                kafka,
                topics.live_outputs(settings.application_id),
                topics.shadow_outputs(name),
                topics.of_kind("profiles"),
                Scope(_utc(from_), _utc(to)),
                None,
                lambda done, total: progress.update(task, completed=done, total=total),
                segments or (),
            )
    except (TopicUnreadable, TooFarApart) as error:
        fail(str(error))
    except KafkaError as error:
        fail(kafka_failure(error, kafka))
    figures = shadow_report(name, found)
    content = msgspec.json.format(msgspec.json.encode(figures), indent=2)
    _write(report_file, content)
    if as_json:
        print_json(figures)
        return
    console.print(facts_table(_facts(figures), title=f"shadow {name}"))
    for table in (
        _levels(figures),
        deciles_table(figures["scores"]["deciles"], "shadow"),
        *segments_tables(figures, "shadow"),
    ):
        console.print()
        console.print(table)


@shadow_app.command("remove")
@takes_settings("bootstrap_servers", "topic_prefix", "application_id", "stack_dir")
def remove(*, settings: Settings, name: Name, as_json: AsJson = False) -> None:
    """Delete a shadow's topics and consumer group.

    Its workers must be stopped. Afterwards the name may be used for another bundle. A `state_dir` of its workers is
    theirs to delete.

        foreshock shadow remove may
    """
    from stream.kafka.provisioning import ProvisioningError
    from stream.shadow.run import ShadowError, remove_shadow

    try:
        removed = remove_shadow(kafka_of(settings), settings, name)
    except (ProvisioningError, ShadowError) as error:
        fail(str(error))
    if as_json:
        print_json({"deleted": removed})
        return
    console.print(f"deleted {', '.join(removed)}" if removed else f"there is nothing of a shadow {name}")


def _utc(at: dt.datetime | None) -> dt.datetime | None:
    return None if at is None else utc(at)


def _write(path: Path | None, content: bytes) -> None:
    if path is None:
        return
    try:
        path.write_bytes(content + b"\n")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}")


def _facts(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    scores, alerts = figures["scores"], figures["alerts"]
    yield "live model", ", ".join(figures["live_models"]) or "none"
    yield "shadow's model", ", ".join(figures["shadow_models"]) or "none"
    yield "scores compared", f"{scores['compared']:,}, of which {scores['identical']:,} are the same"
    yield "shift", f"mean {scores['mean_absolute_shift']:.4f}, largest {scores['largest_shift']:.4f} (absolute)"
    yield "population stability index", f"{scores['population_stability']:.4f}"
    yield "level changed", f"{scores['level_changed']:,}"
    yield "taken in another order", f"{scores['order_differs']:,} events"
    for what, count in figures["not_compared"].items():
        yield f"not compared: {_NOT_COMPARED[what]}", f"{count:,}"
    yield "alerts opened, live / shadow", f"{alerts['live']:,} / {alerts['shadow']:,}"
    yield "at the same event", f"{alerts['same']:,}"
    for shift in ("earlier", "later"):
        median = alerts[f"median_days_{shift}"]
        yield f"{shift} in the shadow", f"{alerts[shift]:,}" + (f", median {median:.1f} days" if median else "")
    yield "gained / lost", f"{alerts['gained']:,} / {alerts['lost']:,}{_examples(alerts['examples'])}"


_NOT_COMPARED = {
    "only_live": "scored live and not in the shadow",
    "only_other": "scored in the shadow and not live",
    "live_before": "scored live, before the shadow's first",
    "other_before": "scored in the shadow, before the first live one",
    "live_after": "not yet scored in the shadow",
    "other_after": "not yet scored live",
    "repeated": "published a second time",
    "of_forgotten_users": "of users who were forgotten after it",
}


def _examples(examples: list[dict[str, Any]]) -> str:
    users = [f"{one['user_id']} {one['shift']}" for one in examples if one["shift"] in ("gained", "lost")][:5]
    return f" ({', '.join(users)})" if users else ""


def _levels(figures: dict[str, Any]) -> Table:
    levels = figures["scores"]["levels"]
    table = Table("live level", *(Column(f"shadow {level}", numeric=True) for level in levels))
    for level, counts in levels.items():
        table.add_row(level, *(f"{count:,}" for count in counts.values()))
    return table
