"""Commands `archive export`, `archive check`, `archive import` and `archive forget`."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from kafka.errors import KafkaError

from foreshock.options import (
    TIME,
    TIMES,
    AsJson,
    Yes,
    confirmed,
    event_progress,
    interruptible,
    kafka_failure,
    kafka_of,
    takes_settings,
    utc_ms,
)
from foreshock.people import AsIs, UserArgument, known_as, print_erased
from foreshock.tables import Column, Table
from foreshock.terminal import console, errors, fail
from stream.event_archive.archive import Archive, Description
from stream.event_archive.check import check as checked
from stream.event_archive.export import ExportRange, PartitionReport
from stream.event_archive.export import export as exported
from stream.event_archive.manifest import ArchiveError
from stream.event_archive.parquet import require_pyarrow
from stream.event_archive.publishing import OrderFollower, import_records, target_of
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import ProvisioningError, topic_states
from stream.kafka.topic_reader import TopicUnreadable
from stream.people.archived import erase_in_archive
from stream.settings import Settings
from stream.topics import Topics

archive_app = typer.Typer(help="Keep topics in Parquet files, and publish them again.")

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the archive.")]
TopicNames = Annotated[
    str | None, typer.Option("--topics", help="Only these topics: full names, separated by commas.", show_default=False)
]
From = Annotated[
    dt.datetime | None,
    typer.Option("--from", formats=TIMES, metavar=TIME, help="Begin a new archive with the first record of this time."),
]
To = Annotated[
    dt.datetime | None,
    typer.Option("--to", formats=TIMES, metavar=TIME, help="End before the first record of this time."),
]
SETTINGS = ("bootstrap_servers", "topic_prefix", "application_id", "stack_dir")


@archive_app.command("export")
@takes_settings(*SETTINGS)
def export(
    *,
    settings: Settings,
    folder: Folder,
    topics: TopicNames = None,
    from_: From = None,
    to: To = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on behind records that left the topic unread.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write new records of topics to Parquet files.

    The first export begins with the first record, each later one where the one before ended; so does the same command
    after an interruption. Without --topics these are the four inputs and the workers' order journal, where there is
    one. Times are those of records. Needs Kafka and pyarrow.

        foreshock archive export /archive --config production.toml
        foreshock archive export /archive --topics repayments --to 2024-01-01
    """
    kafka = kafka_of(settings)
    with _failures(kafka), interruptible("what is exported is in the archive, and the same command goes on behind it"):
        reports = _export_into(
            settings, kafka, folder, _named(topics), ExportRange(_ms(from_), _ms(to), accept_loss), as_json=as_json
        )
    if as_json:
        _print_json({"partitions": reports})
        return
    table = Table(
        "topic", Column("partition", True), Column("exported", True), Column("records", True), Column("offsets", True),
        Column("bytes per record", True),
    )  # fmt: skip
    for report in reports:
        size = f"{report.size_bytes / report.records:.1f}" if report.records else "–"
        table.add_row(
            report.topic, str(report.partition), f"{report.exported:,}", f"{report.records:,}",
            f"{report.start_offset:,} to {report.next_offset:,}", size,
        )  # fmt: skip
    console.print(table)
    unread = sum(report.unread_records for report in reports)
    if unread:
        console.print(f"{unread:,} records were in batches too large to be unpacked; one record stands for each batch")
    console.print(f"exported {sum(report.exported for report in reports):,} records into {folder}")


@archive_app.command("check")
@takes_settings()
def check(*, settings: Settings, folder: Folder, as_json: AsJson = False) -> None:  # noqa: ARG001
    """Compare the files of an archive with its manifests.

    Reads every file: SHA-256, number of records, order of offsets, days. Needs pyarrow, no Kafka. Exit code 1 if
    something is wrong.

        foreshock archive check /archive
    """
    with _failures(), interruptible("it has changed nothing"), _progress("checking", as_json=as_json) as on_progress:
        found = list(checked(Archive.open(folder), on_progress))
    faults = [fault for partition in found for fault in partition.faults]
    if as_json:
        _print_json({"partitions": found})
        raise typer.Exit(1 if faults else 0)
    table = Table(
        "topic", Column("partition", True), Column("files", True), Column("records", True), Column("offsets", True),
        Column("without record", True), Column("lost", True),
    )  # fmt: skip
    for partition in found:
        table.add_row(
            partition.topic, str(partition.partition), f"{partition.files:,}", f"{partition.records:,}",
            f"{partition.start_offset:,} to {partition.next_offset:,}", f"{partition.without_record:,}",
            f"{partition.lost_offsets:,}",
        )  # fmt: skip
    console.print(table)
    left = sum(partition.leftovers for partition in found)
    if left:
        console.print(f"{left:,} files of an interrupted command are in no manifest; the next export removes them")
    if faults:
        fail("\n".join(faults))
    console.print(f"{folder} is whole: {sum(partition.records for partition in found):,} records")


@archive_app.command("import")
@takes_settings(*SETTINGS)
def import_(
    *,
    settings: Settings,
    folder: Folder,
    topics: TopicNames = None,
    keep_offsets: Annotated[
        bool, typer.Option("--keep-offsets", help="Give records the offsets that they had; for new topics.")
    ] = False,
    append: Annotated[bool, typer.Option("--append", help="Publish behind what topics hold already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Publish an archive's records into topics that exist.

    In the same order by partition, with keys, values, headers and times. Topics have the archive's names, under
    --topic-prefix and --application-id. Without --keep-offsets, offsets change where the archive has gaps; the order
    journal, which names them, is left out then. The same command goes on after an interruption, and compares what it
    finds. Needs Kafka and pyarrow.

        foreshock archive import /archive --topic-prefix again.
    """
    if append and keep_offsets:
        fail("--append and --keep-offsets exclude each other", code=2)
    kafka, named = kafka_of(settings), _named(topics)
    with _failures(kafka), interruptible("the same command goes on behind what is published"):
        archive = Archive.open(folder)
        of = archive.description
        manifests = archive.manifests()
        before = Topics(of.topic_prefix)
        journal = OrderFollower(before.order(of.application_id), before.inputs)
        held = sorted({manifest.topic for manifest in manifests})
        stays = keep_offsets or (not append and journal.stays_valid(manifests))
        left_out = named is None and journal.topic in held and not stays
        chosen = [topic for topic in held if not (left_out and topic == journal.topic)] if named is None else named
        names = {topic: target_of(topic, of, settings.topics, settings.application_id) for topic in chosen}
        with archive.locked(), _progress("importing", as_json=as_json) as on_progress:
            reports = list(
                import_records(
                    kafka, archive, names, time.time_ns() // 1_000_000, follower=journal, appends=append,
                    keeps_offsets=keep_offsets, on_progress=on_progress,
                )
            )  # fmt: skip
    if as_json:
        _print_json({"partitions": reports, "left_out": [journal.topic] if left_out else []})
        return
    table = Table(
        "topic", Column("partition", True), Column("there before", True), Column("published", True),
        Column("offsets archived", True), Column("offsets now", True),
    )  # fmt: skip
    for report in reports:
        (was, until), (begins, ends) = report.from_offsets, report.to_offsets
        table.add_row(
            report.topic, str(report.partition), f"{report.already:,}", f"{report.published:,}",
            f"{was:,} to {until:,}", f"{begins:,} to {ends:,}",
        )  # fmt: skip
    console.print(table)
    lost = sum(report.lost_offsets for report in reports)
    if lost:
        console.print(f"{lost:,} offsets had left their topics before they were archived, and are missing")
    if left_out:
        console.print(f"left out {journal.topic}: it names offsets of the inputs, and theirs have changed")
    records = sum(report.already + report.published for report in reports)
    console.print(f"{records:,} records of {folder} are in the topics, as many as it holds of them")


@archive_app.command("forget")
@takes_settings(*SETTINGS)
def forget(
    *,
    settings: Settings,
    folder: Folder,
    user: UserArgument,
    as_is: AsIs = False,
    without_kafka: Annotated[
        bool, typer.Option("--without-kafka", help="Do not export first: the topics are no more.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erase a user's records in an archive.

    Exports what the topics have beyond it first, since a later export would bring the user back. Then their records
    lose value and headers, and stay as tombstones. Files that hold none are not touched. So does `foreshock forget
    --archive FOLDER`. Needs Kafka and pyarrow.

        foreshock archive forget /archive customer-4711 --config production.toml
    """
    name = known_as(settings, user, as_is)
    confirmed(f"Erase {name!r} in {folder} for good?", yes=yes)
    kafka = None if without_kafka else kafka_of(settings)
    stays = interruptible("the user is not erased yet; the same command goes on with it")
    with _failures(kafka), stays, _progress("erasing", as_json=as_json) as on_progress:
        erased = erase_in_archive(kafka, folder, name, on_progress)
    if as_json:
        _print_json({"partitions": erased})
        return
    print_erased(erased, folder)


def _export_into(
    settings: Settings,
    kafka: KafkaConnection,
    folder: Path,
    named: Sequence[str] | None,
    wanted: ExportRange,
    *,
    as_json: bool,
) -> list[PartitionReport]:
    """Export topics, by default the inputs and the order journal. Raises as `stream.event_archive.export.export`."""
    require_pyarrow()
    topics = named
    if topics is None:
        journal = settings.topics.order(settings.application_id)
        topics = [*settings.topics.inputs, *topic_states(kafka, lambda name: name == journal)]
    archive = Archive.make(folder, Description(settings.topic_prefix, settings.application_id))
    with archive.locked(), _progress("exporting", as_json=as_json) as on_progress:
        return list(exported(kafka, archive, topics, wanted, on_progress))


@contextmanager
def _failures(kafka: KafkaConnection | None = None) -> Iterator[None]:
    try:
        yield
    except (ArchiveError, TopicUnreadable, ProvisioningError) as error:
        fail(str(error))
    except KafkaError as error:
        fail(str(error) if kafka is None else kafka_failure(error, kafka))


@contextmanager
def _progress(what: str, *, as_json: bool = False) -> Iterator[Callable[[int, int], None]]:
    """What to call with what is done and all of it."""
    with event_progress(errors if as_json else console) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _named(topics: str | None) -> list[str] | None:
    if topics is None:
        return None
    found = list(dict.fromkeys(name.strip() for name in topics.split(",") if name.strip()))
    if not found:
        fail("--topics names no topic", code=2)
    return found


def _ms(at: dt.datetime | None) -> int | None:
    return None if at is None else utc_ms(at)


def _print_json(document: Any) -> None:
    console.print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode(), soft_wrap=True)
