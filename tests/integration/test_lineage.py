"""Topics that change beneath a worker: it goes on rightly and says what is missing, or stops and says what to do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import NoError

from events.types import Transaction
from model.bundle import Bundle
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.database.summary import summarise
from stream.kafka.clients import open_admin, open_producer
from stream.outputs import Score
from stream.settings import PRETRAINED_BUNDLE

Deploy = Callable[..., Any]
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def movements(first: int, count: int) -> list[Transaction]:
    """Of one borrower, an hour apart."""
    return [
        Transaction(event_id=f"t{number}", user_id="u", occurred_at=START + dt.timedelta(hours=number), amount=-5.0)
        for number in range(first, first + count)
    ]


def scored(deployment: Any) -> list[str]:
    return [msgspec.json.decode(r.value, type=Score).event_id for r in deployment.records(deployment.topics.scores)]


@pytest.fixture
def admin(kafka: Any) -> Iterator[Any]:
    opened = open_admin(kafka)
    yield opened
    opened.close()


@pytest.fixture
def made_anew(delete_topic: Callable[[str], None]) -> Callable[[Any, str], None]:
    def make(deployment: Any, topic: str) -> None:
        delete_topic(topic)
        deployment.create_topics()

    return make


def ends_with(deployment: Any, *said: str) -> None:
    """A worker that is started now ends with exit code 1 and says all of that."""
    with deployment.running("worker", "again") as worker:
        deployment.wait(lambda: not worker.alive, "the worker's end", seconds=60)
        text = worker.log_text()
    assert all(part in text for part in said), text


@pytest.mark.parametrize("more", [3, 12], ids=["fewer records than were read", "more records than were read"])
def test_a_topic_made_anew_stops_the_worker(deploy: Deploy, made_anew: Any, more: int) -> None:
    deployment = deploy(watchdog=False)
    deployment.publish(movements(0, 5))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    made_anew(deployment, deployment.topics.of_kind("transactions"))
    deployment.publish(movements(100, more))
    ends_with(deployment, "OtherLineage", "transactions was deleted and made anew", "another application_id")
    assert scored(deployment) == [f"t{number}" for number in range(5)]


def test_all_topics_made_anew_are_told_by_what_is_skipped(deploy: Deploy, made_anew: Any) -> None:
    """The broker has forgotten the group's offsets with the topics."""
    deployment = deploy(watchdog=False)
    deployment.publish(movements(0, 5))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    for topic in deployment.topics.inputs:
        made_anew(deployment, topic)
    deployment.publish(movements(100, 3))
    with deployment.running("worker", "again") as worker:
        deployment.wait_until_scored(worker)
        assert "made anew, start under another application_id" in worker.log_text()


def test_another_prefix_under_the_same_application_stops_the_worker(deploy: Deploy) -> None:
    deployment = deploy(watchdog=False)
    deployment.publish(movements(0, 5))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    other = deploy(watchdog=False, topic_prefix=f"other-{deployment.topics.prefix}")
    other.publish(movements(0, 5))
    ends_with(other, "OtherLineage", f"has read {deployment.topics.of_kind('transactions')}", "topic_prefix")


def test_partitions_added_to_one_topic_stop_the_worker(deploy: Deploy, admin: Any) -> None:
    deployment = deploy(watchdog=False)
    deployment.publish(movements(0, 5))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    admin.create_partitions({deployment.topics.of_kind("activity"): 6})
    ends_with(deployment, "OtherLineage", "different numbers of partitions", "activity 6")


def test_records_deleted_before_they_were_read_are_named(deploy: Deploy, admin: Any) -> None:
    """By retention, while no worker runs."""
    deployment = deploy(watchdog=False)
    topic = deployment.topics.of_kind("transactions")
    deployment.publish(movements(0, 5))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    deployment.publish(movements(5, 5))
    (partition,) = {record.partition for record in deployment.records(topic)}
    admin.delete_records({TopicPartition(topic, partition): 8})
    with deployment.running("worker", "second") as worker:
        deployment.wait(lambda: len(scored(deployment)) == 7, "scoring what is left", worker)
        assert (
            f"{topic}-{partition}: 3 records from offset 5 on were deleted before they were read" in worker.log_text()
        )
    assert scored(deployment) == [f"t{number}" for number in (*range(5), 8, 9)]


def test_a_changelog_made_anew_stops_the_worker(deploy: Deploy, made_anew: Any) -> None:
    deployment = deploy(watchdog=False)
    deployment.publish(movements(0, 5))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    changelog = deployment.topics.changelog(deployment.settings.application_id)
    made_anew(deployment, changelog)
    deployment.publish(movements(5, 5))
    ends_with(deployment, "OtherLineage", f"{changelog} was deleted and made anew", "would begin anew")
    assert scored(deployment) == [f"t{number}" for number in range(5)]


def test_a_changelog_of_which_records_were_deleted_stops_the_worker(deploy: Deploy, admin: Any) -> None:
    deployment = deploy(watchdog=False)
    deployment.publish(movements(0, 5))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    changelog = deployment.topics.changelog(deployment.settings.application_id)
    (partition,) = {record.partition for record in deployment.records(changelog)}
    deployment.configure(changelog, {"cleanup.policy": "compact,delete"})  # the broker deletes of no other
    admin.delete_records({TopicPartition(changelog, partition): 1})
    deployment.publish(movements(5, 5))
    ends_with(deployment, "OtherLineage", f"has lost records (partition {partition} before offset 1)")


@pytest.mark.parametrize("row", ["layout", "model"])
def test_a_changelog_of_another_model_or_layout_stops_the_worker(deploy: Deploy, row: str) -> None:
    """Its own rows, made longer by some bytes, or of a model by another name."""
    deployment = deploy(watchdog=False)
    deployment.publish(movements(0, 5))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    changelog = deployment.topics.changelog(deployment.settings.application_id)
    (found,) = {(record.partition, record.value) for record in deployment.records(changelog)}
    fingerprint = Bundle.load(PRETRAINED_BUNDLE).fingerprint.to_bytes(8, "little")
    assert fingerprint in found[1]
    value = found[1] + bytes(8) if row == "layout" else found[1].replace(fingerprint, bytes(range(8)))
    producer = open_producer(deployment.kafka)
    producer.send(changelog, key=b"u", value=value, partition=found[0])
    producer.flush()
    producer.close()
    deployment.publish(movements(5, 5))
    said = "written by another version or model" if row == "layout" else "holds state of model 0706050403020100"
    ends_with(deployment, "StateMismatch", said)
    assert scored(deployment) == [f"t{number}" for number in range(5)]


def test_offsets_set_by_another_program_are_told(deploy: Deploy, admin: Any) -> None:
    """As the stock tool does: forward, beyond what was scored, and back again."""
    deployment = deploy(watchdog=False)
    topic = deployment.topics.of_kind("transactions")
    deployment.publish(movements(0, 5))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    deployment.publish(movements(5, 5))
    (partition,) = {record.partition for record in deployment.records(topic)}

    def reset(offset: int) -> None:
        at = {TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)}
        deployment.wait(
            lambda: (
                not [
                    error
                    for error in admin.alter_group_offsets(deployment.settings.application_id, at).values()
                    if error is not NoError
                ]
            ),
            "the group to be empty",
        )

    reset(8)
    with deployment.running("worker", "second") as worker:
        deployment.wait(lambda: len(scored(deployment)) == 7, "scoring what is left", worker)
        assert f"were set by another program than a worker ({topic}-{partition} to 8)" in worker.log_text()
    reset(0)
    deployment.publish(movements(10, 1))
    with deployment.running("worker", "third") as worker:
        deployment.wait_until_scored(worker)
        assert f"({topic}-{partition} to 0)" in worker.log_text()
        assert "events are skipped since the states have read their offsets" in worker.log_text()
    assert scored(deployment) == [f"t{number}" for number in (*range(5), 8, 9, 10)]


def test_outputs_that_retention_took_from_the_sink_are_named(
    deploy: Deploy, admin: Any, database: DatabaseConnection
) -> None:
    migration.upgrade(database)
    deployment = deploy(watchdog=False, database_url=database.url)
    scores = deployment.topics.scores
    deployment.publish(movements(0, 5))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    with deployment.running("sink") as sink:
        deployment.wait(lambda: summarise(database).scores == 5, "storing", sink)
    deployment.publish(movements(5, 5))
    with deployment.running("worker", "second") as worker:
        deployment.wait_until_scored(worker)
    (partition,) = {record.partition for record in deployment.records(scores)}
    gone = [record.offset for record in deployment.records(scores)][7]
    admin.delete_records({TopicPartition(scores, partition): gone + 1})
    with deployment.running("sink", "again") as sink:
        deployment.wait(lambda: summarise(database).scores == 7, "storing what is left", sink)
        assert f"{scores}-{partition}: " in sink.log_text()
        assert "were deleted before they were read (retention)" in sink.log_text()
