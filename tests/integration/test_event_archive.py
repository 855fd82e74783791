"""Topics are archived, read from the archive and published again on a real broker, also by commands that are killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition
from typer.testing import CliRunner

from foreshock import app
from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.event_archive.archive import Archive, Description
from stream.event_archive.export import ExportRange, PartitionReport, export, store
from stream.event_archive.manifest import ArchiveError, Manifest
from stream.event_archive.publishing import import_records
from stream.event_archive.reader import ArchiveReader
from stream.kafka.clients import open_admin, open_consumer, open_producer
from stream.kafka.provisioning import TopicSpecification, create_topics
from stream.kafka.record import RawRecord, Record
from stream.kafka.topic_reader import TopicReader

Deploy = Callable[..., Any]
DAY_MS = 86_400_000
FIRST_MS = 19_800 * DAY_MS
USER = "u0000003"


def content(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    return [
        (record.partition, record.timestamp, record.key, record.value, [tuple(each) for each in record.headers or ()])
        for record in records
    ]


def with_offsets(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    return [(record.offset, *one) for record, one in zip(records, content(records), strict=True)]


def send(deployment: Any, topic: str, numbers: range, **options: Any) -> None:
    """Records of several days, not in their order, with and without key, value and headers, on both partitions."""
    producer = open_producer(deployment.kafka, **options)
    if "transactional_id" in options:
        producer.init_transactions()
    for number in numbers:
        if "transactional_id" in options and number % 10 == 0:
            producer.begin_transaction()
        producer.send(
            topic,
            key=None if number % 9 == 6 and "profiles" not in topic else b"user-%d" % (number % 5),
            value=None if number % 9 == 7 else b"value %d \xff\x00" % number,
            headers=[("trace", b"%d" % number), ("trace", b"")] if number % 4 == 0 else [],
            timestamp_ms=FIRST_MS + number % 3 * DAY_MS + number,
            partition=number % 2,
        )
        if "transactional_id" in options and number % 10 == 9:
            if number % 20 == 9:
                producer.commit_transaction()
            else:
                producer.flush()  # or what is aborted was never sent, and leaves no gap
                producer.abort_transaction()
    producer.flush()
    producer.close()
    # A commit is confirmed before the marks in the topic end it for readers.
    consumer = open_consumer(deployment.kafka)
    everything = sum(consumer.end_offsets([TopicPartition(topic, partition) for partition in (0, 1)]).values())
    consumer.close()
    deployment.wait(lambda: deployment.size(topic) >= everything, "ending transactions")


def delete_before(deployment: Any, tp: TopicPartition, offset: int) -> None:
    """As retention does."""
    admin = open_admin(deployment.kafka)
    admin.delete_records({tp: offset})
    admin.close()


def run(
    deployment: Any, archive: Path, topics: Sequence[str], wanted: ExportRange | None = None
) -> list[PartitionReport]:
    made = Archive.make(archive, Description(deployment.topics.prefix, deployment.settings.application_id))
    with made.locked():
        return list(export(deployment.kafka, made, topics, wanted or ExportRange()))


def command(deployment: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str, code: int = 0, **settings: Any) -> Any:
    """What a command prints."""
    given = {**deployment.options, "bootstrap_servers": deployment.kafka.bootstrap_servers, **settings}
    for name, value in given.items():
        monkeypatch.setenv(f"FORESHOCK_{name.upper()}", str(value))
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.output


def archived(archive: Path, topic: str, partitions: int = 2, **options: Any) -> list[Record]:
    with ArchiveReader(archive, **options) as reader:
        return [record for partition in range(partitions) for record in reader.each(topic, partition)]


def test_records_are_kept_read_and_published_again(
    deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed, aborted and last of all the end of a transaction; exported twice, with more in between."""
    deployment = deploy(partitions=2)
    topics, folder = deployment.topics, tmp_path / "archive"
    repayments, profiles = topics.of_kind("repayments"), topics.of_kind("profiles")
    send(deployment, repayments, range(1_000))
    send(deployment, repayments, range(1_000, 1_040), transactional_id=f"{topics.prefix}t")
    send(deployment, profiles, range(100))
    first = command(deployment, monkeypatch, "archive", "export", str(folder), "--json")["partitions"]
    assert sum(each["exported"] for each in first if each["topic"] == repayments) == 1_020
    assert {each["topic"] for each in first} >= set(topics.inputs)
    send(deployment, repayments, range(1_040, 1_100), transactional_id=f"{topics.prefix}t")
    send(deployment, repayments, range(1_100, 1_150))
    held = deployment.records(repayments)
    assert with_offsets(archived(folder, repayments, connection=deployment.kafka)) == with_offsets(held), "handed over"
    with ArchiveReader(folder, deployment.kafka) as reader:
        assert reader.size([repayments]) == deployment.size(repayments)
        for start in (0, 300, held[-1].offset - 1, held[-1].offset + 5):
            found = [record for record in held if record.partition == 1 and record.offset >= start]
            assert with_offsets(list(reader.each(repayments, 1, start))) == with_offsets(found)
        assert [record for batch, _ in reader.records(topics.inputs, 1) for record in batch.get(profiles, [])]

    said = command(deployment, monkeypatch, "archive", "export", str(folder))
    assert "exported 80 records" in said
    assert "exported 0 records" in command(deployment, monkeypatch, "archive", "export", str(folder))
    assert with_offsets(archived(folder, repayments)) == with_offsets(held)
    checked = command(deployment, monkeypatch, "archive", "check", str(folder), "--json")["partitions"]
    assert [each["faults"] for each in checked] == [[]] * len(checked)
    assert sum(each["without_record"] for each in checked) == deployment.size(*topics.inputs) - len(held) - 100

    again = deploy(partitions=2, topic_prefix=f"{topics.prefix}again.")
    report = command(again, monkeypatch, "archive", "import", str(folder), "--json")
    assert sum(each["published"] for each in report["partitions"]) == len(held) + 100
    for topic in (repayments, profiles):
        copied = again.records(f"{topics.prefix}again.{topic.removeprefix(topics.prefix)}")
        assert content(copied) == content(deployment.records(topic))
        for partition in (0, 1):
            offsets = [record.offset for record in copied if record.partition == partition]
            assert offsets == list(range(len(offsets)))
    exact = deploy(partitions=2, topic_prefix=f"{topics.prefix}exact.", application_id=f"{topics.prefix}exact")
    command(exact, monkeypatch, "archive", "import", str(folder), "--keep-offsets")
    for topic in (repayments, profiles):
        name = f"{topics.prefix}exact.{topic.removeprefix(topics.prefix)}"
        assert with_offsets(exact.records(name)) == with_offsets(deployment.records(topic))
        assert exact.size(name) == deployment.size(topic), "what comes next goes on at the same offset"
    said = command(again, monkeypatch, "archive", "import", str(folder), "--keep-offsets", code=1)
    assert "was begun without --keep-offsets" in said
    repeated = command(again, monkeypatch, "archive", "import", str(folder), "--json")
    assert sum(each["published"] for each in repeated["partitions"]) == 0, "a second time compares"
    again.send_raw("repayments", [(b"stranger", b"")])
    assert "somebody else writes there" in command(again, monkeypatch, "archive", "import", str(folder), code=1)
    assert "is not empty" in command(deployment, monkeypatch, "archive", "import", str(folder), code=1)


def test_records_that_hardly_any_producer_sends_come_through(deploy: Deploy, tmp_path: Path) -> None:
    """Without key and value, without a time, with headers without a value, larger than a batch."""
    deployment, folder = deploy(partitions=2), tmp_path / "archive"
    topic = deployment.topics.of_kind("activity")
    odd: list[tuple[int, bytes | None, bytes | None, Any]] = [
        (FIRST_MS, None, None, (("none", None), ("none", b""))),
        (-1, b"", b"", ()),
        (0, b"key", b"\0" * 950_000, ()),
        (FIRST_MS - 10 * DAY_MS, b"key", b"early", (("\N{EURO SIGN}", b"\xff"),)),
    ]
    records = [RawRecord(topic, 1, offset, *one) for offset, one in enumerate(odd)]
    made = Archive.make(folder, Description(deployment.topics.prefix, deployment.settings.application_id))
    for partition in (0, 1):
        manifest = Manifest(topic, "id", partition, 0, 0)
        made.save(manifest)
        store(made, manifest, records if partition else [], len(records) if partition else 0)
    reports = list(import_records(deployment.kafka, made, {topic: topic}, FIRST_MS))
    assert [report.published for report in reports] == [0, len(odd)]
    assert with_offsets(deployment.records(topic)) == with_offsets(records)


def test_an_import_appends_only_where_it_is_told_to(
    deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, folder = deploy(partitions=2), tmp_path / "archive"
    topic = deployment.topics.of_kind("activity")
    send(deployment, topic, range(50))
    run(deployment, folder, [topic])
    before = deployment.records(topic)
    command(deployment, monkeypatch, "archive", "import", str(folder), "--append")
    for partition in (0, 1):
        own = [record for record in before if record.partition == partition]
        now = [record for record in deployment.records(topic) if record.partition == partition]
        assert content(now) == content([*own, *own])
    command(deployment, monkeypatch, "archive", "import", str(folder), "--append")
    assert len(deployment.records(topic)) == 2 * len(before), "what was done is not done again"
    delete_before(deployment, TopicPartition(topic, 0), 40)
    report = command(deployment, monkeypatch, "archive", "import", str(folder), "--json")
    assert [each["already"] for each in report["partitions"]] == [25, 25], "what has left the topic was there"


def test_the_order_journal_goes_along_where_all_offsets_stay(
    deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names offsets of the inputs, and an import leaves no offset out."""
    deployment, folder = deploy(partitions=2), tmp_path / "archive"
    again = deploy(partitions=2, topic_prefix=f"{deployment.topics.prefix}again.", application_id="again")
    journals = [each.topics.order(each.settings.application_id) for each in (deployment, again)]
    create_topics(deployment.kafka, deployment.settings, [TopicSpecification(name, 2, 1) for name in journals])
    repayments = deployment.topics.of_kind("repayments")
    send(deployment, repayments, range(20))
    send(deployment, journals[0], range(30))
    command(deployment, monkeypatch, "archive", "export", str(folder))
    into: dict[str, Any] = {"application_id": "again"}
    report = command(again, monkeypatch, "archive", "import", str(folder), "--json", **into)
    assert report["left_out"] == []
    assert content(again.records(journals[1])) == content(deployment.records(journals[0]))

    send(deployment, repayments, range(20, 40), transactional_id=f"{deployment.topics.prefix}t")
    send(deployment, repayments, range(40, 50))
    command(deployment, monkeypatch, "archive", "export", str(folder))
    report = command(again, monkeypatch, "archive", "import", str(folder), "--json", **into)
    assert report["left_out"] == [journals[0]]
    assert sum(each["published"] for each in report["partitions"]) == 20
    everything = ("--topics", ",".join((*deployment.topics.inputs, journals[0])))
    said = command(again, monkeypatch, "archive", "import", str(folder), *everything, code=1, **into)
    assert "names offsets of" in said


@pytest.mark.slow
@pytest.mark.no_cover
def test_a_replay_of_imported_topics_is_that_of_the_live_ones(
    deploy: Deploy, database: DatabaseConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer aborts now and then, so that an input topic has gaps; with offsets kept, the live order holds."""
    deployment, folder = deploy(partitions=2, batch_max_records=100), tmp_path / "archive"
    migration.upgrade(database)
    prefix = deployment.topics.prefix
    events = list(open_dataset("simulator", users=12, months=6, seed=5).events())
    with deployment.running("worker") as worker:
        for start in range(0, len(events), 500):
            deployment.publish(events[start : start + 500])
            send(deployment, deployment.topics.of_kind("repayments"), range(10, 20), transactional_id=f"{prefix}t")
        deployment.wait_until_scored(worker)
        deployment.wait_until_scored(worker)
    exported = command(deployment, monkeypatch, "archive", "export", str(folder), "--json")["partitions"]
    assert sum(each["next_offset"] - each["records"] for each in exported if "repayments" in each["topic"]) > 0
    copy = deploy(partitions=2, topic_prefix=f"{prefix}copy.", application_id=f"{prefix}copy")
    command(copy, monkeypatch, "archive", "import", str(folder), "--keep-offsets")
    command(
        copy, monkeypatch, "replay", "run", "again", "--from", "2000-01-01", "--to", "2100-01-01",
        database_url=database.url,
    )  # fmt: skip
    replayed = [
        (record.partition, record.key, record.value.replace(copy.topics.prefix.encode(), prefix.encode()))
        for record in copy.records(copy.topics.replay_scores("again"))
    ]
    live = deployment.records(deployment.topics.scores)
    assert replayed == [(record.partition, record.key, record.value) for record in live]
    alerts = [len(copy.records(topic)) for topic in (deployment.topics.alerts, copy.topics.replay_alerts("again"))]
    assert alerts[0] == alerts[1] > 0


def test_an_export_may_be_of_some_time_only(deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment, folder = deploy(partitions=2), tmp_path / "archive"
    topic = deployment.topics.of_kind("activity")
    producer = open_producer(deployment.kafka)
    for number in range(300):
        producer.send(topic, key=b"u", value=b"%d" % number, timestamp_ms=FIRST_MS + number * DAY_MS // 50, partition=0)
    producer.close()
    days = ("--from", "2024-03-19", "--topics", topic)
    command(deployment, monkeypatch, "archive", "export", str(folder), *days, "--to", "2024-03-21")
    assert [record.value for record in archived(folder, topic, 1)] == [b"%d" % number for number in range(50, 150)]
    command(deployment, monkeypatch, "archive", "export", str(folder), *days, "--to", "2024-03-21")
    command(deployment, monkeypatch, "archive", "export", str(folder), *days)
    assert [record.offset for record in archived(folder, topic, 1)] == list(range(50, 300))
    whole = archived(folder, topic, 1, connection=deployment.kafka)
    assert [record.offset for record in whole] == list(range(300)), "what came before is read from the topic"


def test_what_a_topic_has_lost_is_not_passed_over(deploy: Deploy, tmp_path: Path) -> None:
    deployment, folder = deploy(partitions=2), tmp_path / "archive"
    topic = deployment.topics.of_kind("activity")
    send(deployment, topic, range(100))
    run(deployment, folder, [topic])
    send(deployment, topic, range(100, 200))
    delete_before(deployment, TopicPartition(topic, 0), 80)
    with pytest.raises(ArchiveError, match=r"activity-0: offsets 50 to 79 have left the topic .* --accept-loss"):
        run(deployment, folder, [topic])
    with pytest.raises(ArchiveError, match=r"offsets 50 to 79 are not in .* and not in the topic any more"):
        archived(folder, topic, connection=deployment.kafka)
    run(deployment, folder, [topic], ExportRange(accepts_loss=True))
    with pytest.raises(ArchiveError, match="offsets 50 to 79"):
        archived(folder, topic)
    expected = [record for record in deployment.records(topic) if record.partition == 0]
    found = [record for record in archived(folder, topic, accepts_loss=True) if record.partition == 0]
    assert with_offsets(found[50:]) == with_offsets(expected)
    assert [record.offset for record in found] == [*range(50), *range(80, 100)]


def test_a_topic_that_was_made_anew_is_refused(deploy: Deploy, tmp_path: Path) -> None:
    deployment, folder = deploy(partitions=2), tmp_path / "archive"
    topic = deployment.topics.of_kind("activity")
    send(deployment, topic, range(20))
    run(deployment, folder, [topic])
    admin = open_admin(deployment.kafka)
    admin.delete_topics([topic])
    deployment.wait(lambda: topic not in admin.list_topics(), "deleting")
    admin.close()
    deployment.create_topics()
    send(deployment, topic, range(30))
    with pytest.raises(ArchiveError, match=f"topic {topic} was made anew since"):
        run(deployment, folder, [topic])
    with pytest.raises(ArchiveError, match=f"topic {topic} was made anew since"):
        archived(folder, topic, connection=deployment.kafka)
    assert len(archived(folder, topic)) == 20


KILLED = """
import stream.event_archive.export as export, stream.event_archive.sending as sending
export.store.__defaults__ = (50, export.SEGMENT_BYTES)
sending.BATCH_BYTES, sending.PENDING_BATCHES = 400, 1
from foreshock import main
main()
"""
"""The command, with segments and batches so small that it is killed in the midst of many."""


@pytest.mark.slow
@pytest.mark.no_cover
def test_commands_that_are_killed_go_on_with_nothing_lost_or_twice(deploy: Deploy, tmp_path: Path) -> None:
    """Every moment of an export is tried in tests/unit/stream/event_archive/test_archive.py."""
    deployment, folder = deploy(partitions=2), tmp_path / "archive"
    topic = deployment.topics.of_kind("activity")
    send(deployment, topic, range(1_000), transactional_id=f"{deployment.topics.prefix}t")
    send(deployment, topic, range(1_000, 5_000))
    again = deploy(partitions=2, topic_prefix=f"{deployment.topics.prefix}again.")
    copied = f"{again.topics.prefix}activity"

    def started(target: Any, *arguments: str) -> subprocess.Popen[bytes]:
        options = ["--bootstrap-servers", deployment.kafka.bootstrap_servers]
        options += ["--topic-prefix", target.topics.prefix, "--application-id", target.settings.application_id]
        return subprocess.Popen(
            [sys.executable, "-c", KILLED, "archive", *arguments, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run_killed(progress: Callable[[], int], target: Any, *arguments: str) -> None:
        """Run a command that is killed when it has begun to write, and once more to its end."""
        with started(target, *arguments) as process:
            deployment.wait(lambda: process.poll() is not None or progress() > 0, "writing")
            process.kill()
            said, _ = process.communicate()
            assert process.returncode == -signal.SIGKILL, said.decode()
        with started(target, *arguments) as process:
            said, _ = process.communicate(timeout=90)
            assert process.returncode == 0, said.decode()

    run_killed(lambda: len(list(folder.rglob("*.parquet"))), deployment, "export", str(folder), "--topics", topic)
    assert with_offsets(archived(folder, topic)) == with_offsets(deployment.records(topic))
    with TopicReader(deployment.kafka) as reader:
        spans = [range(*reader.span(topic, partition)) for partition in (0, 1)]
    found = Archive.open(folder).manifests()
    assert [range(manifest.start_offset, manifest.next_offset) for manifest in found] == spans
    assert [Archive.open(folder).leftovers(manifest) for manifest in found] == [[], []]

    run_killed(lambda: int(deployment.size(copied)), again, "import", str(folder), "--keep-offsets")
    assert with_offsets(deployment.records(copied)) == with_offsets(deployment.records(topic))
    with TopicReader(deployment.kafka) as reader:
        assert [range(*reader.span(copied, partition)) for partition in (0, 1)] == spans


def test_a_user_is_handed_out_of_an_archive_and_erased_in_it(
    deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the topics have beyond the archive is brought in first, and does not come with a later export."""
    deployment, folder = deploy(partitions=2), tmp_path / "archive"
    topic = deployment.topics.of_kind("activity")
    producer = open_producer(deployment.kafka)
    users = [USER, "other"]
    for number in range(40):
        producer.send(topic, key=users[number % 2].encode(), value=b'{"n":%d}' % number, partition=number // 20)
    producer.flush()
    run(deployment, folder, [topic])
    for number in range(40, 50):
        producer.send(topic, key=users[number % 2].encode(), value=b'{"n":%d}' % number, partition=0)
    producer.close()
    out = tmp_path / "out.json"
    command(deployment, monkeypatch, "export", USER, "--out", str(out), "--archive", str(folder), "--without-database")
    held = json.loads(out.read_text())["archive"][topic]["records"]
    assert [record["value"]["n"] for record in held] == list(range(0, 40, 2))

    said = command(deployment, monkeypatch, "archive", "forget", str(folder), USER, "--yes")
    assert f"{topic}-0: 15 records erased" in said
    assert f"{topic}-1: 10 records erased" in said
    command(deployment, monkeypatch, "archive", "export", str(folder), "--topics", topic)
    for record, kept in zip(archived(folder, topic), deployment.records(topic), strict=True):
        assert record.key == kept.key
        assert record.value == (None if record.key == USER.encode() else kept.value)
    assert all(b"user" not in path.name.encode() for path in folder.rglob("*"))
    assert "is whole: 50 records" in command(deployment, monkeypatch, "archive", "check", str(folder))
