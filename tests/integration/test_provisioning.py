"""Topics on a real broker: created once, as specified, and judged as they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stream.doctor import judge_places, places_of_users
from stream.kafka.clients import open_admin, open_producer
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import (
    ProvisioningError,
    check_topics,
    create_topics,
    largest_record_bytes,
    replay_specifications,
    specifications,
    topic_id,
)
from stream.settings import Settings


@pytest.fixture
def settings(topic_prefix: str) -> Settings:
    return Settings(topic_prefix=topic_prefix, application_id=f"{topic_prefix}app", partitions=3)


def test_created_once_and_then_in_order(kafka: KafkaConnection, settings: Settings) -> None:
    wanted = [topic.name for topic in specifications(settings)]
    assert create_topics(kafka, settings) == wanted
    assert create_topics(kafka, settings) == []
    assert {finding.level for finding in check_topics(kafka, settings)} == {"ok"}
    assert largest_record_bytes(kafka, settings.topics.dead_letters) == 8 * 1024 * 1024
    assert largest_record_bytes(kafka, f"{settings.topics.scores}-not-there") is None


def test_missing_one_is_named_and_made(
    kafka: KafkaConnection, settings: Settings, delete_topic: Callable[[str], None]
) -> None:
    create_topics(kafka, settings)
    delete_topic(settings.topics.alerts)
    problems = [finding for finding in check_topics(kafka, settings) if finding.level == "error"]
    assert [(problem.subject, problem.remedy) for problem in problems] == [
        (f"topic {settings.topics.alerts}", "create it: `foreshock topics create`")
    ]
    assert create_topics(kafka, settings) == [settings.topics.alerts]


def test_a_topic_made_anew_has_another_id(
    kafka: KafkaConnection, settings: Settings, delete_topic: Callable[[str], None]
) -> None:
    with pytest.raises(ProvisioningError, match="does not exist; create it"):
        topic_id(kafka, settings.topics.scores)
    create_topics(kafka, settings)
    first = topic_id(kafka, settings.topics.scores)
    assert topic_id(kafka, settings.topics.scores) == first != topic_id(kafka, settings.topics.alerts)
    delete_topic(settings.topics.scores)
    create_topics(kafka, settings)
    assert topic_id(kafka, settings.topics.scores) != first


def test_other_partition_count_is_left_and_named(kafka: KafkaConnection, settings: Settings) -> None:
    admin = open_admin(kafka)
    admin.create_topics(
        {settings.topics.scores: {"num_partitions": 5, "replication_factor": 1}}, wait_for_metadata=True
    )
    admin.close()
    assert settings.topics.scores not in create_topics(kafka, settings)
    problem = check_topics(kafka, settings)[0]
    assert (problem.level, problem.subject) == ("error", "partition counts")
    assert f"{settings.topics.scores} has 5" in problem.message
    assert problem.remedy


def test_replay_topics(kafka: KafkaConnection, settings: Settings) -> None:
    wanted = replay_specifications(settings, "R")
    assert create_topics(kafka, settings, wanted) == [
        settings.topics.replay_scores("R"),
        settings.topics.replay_alerts("R"),
    ]


def test_more_replicas_than_brokers_is_a_clear_refusal(kafka: KafkaConnection, settings: Settings) -> None:
    with pytest.raises(ProvisioningError, match=r"3 replicas could not be created.*replication_factor"):
        create_topics(kafka, settings.model_copy(update={"replication_factor": 3}))


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ("127.0.0.1:1", r"127\.0\.0\.1:1: Connection refused"),
        ("[::1]:1, 127.0.0.1:1", r"127\.0\.0\.1:1: Connection refused"),
    ],
)
def test_no_broker_is_a_clear_error(settings: Settings, servers: str, said: str) -> None:
    with pytest.raises(ProvisioningError, match=rf"no Kafka broker answers \(.*{said}.*--bootstrap-servers"):
        check_topics(KafkaConnection.parse(servers), settings)


def test_one_broker_of_several_is_enough(kafka: KafkaConnection, settings: Settings) -> None:
    assert create_topics(KafkaConnection.parse(f"127.0.0.1:1, {kafka}"), settings)


def test_user_on_two_partitions_is_found(kafka: KafkaConnection, settings: Settings) -> None:
    create_topics(kafka, settings)
    producer = open_producer(kafka)
    for kind in ("repayments", "transactions"):
        producer.send(settings.topics.of_kind(kind), key=b"steady", value=b"{}", partition=1)
    producer.send(settings.topics.of_kind("repayments"), key=b"torn", value=b"{}", partition=0)
    producer.send(settings.topics.of_kind("transactions"), key=b"torn", value=b"{}", partition=2)
    producer.send(settings.topics.of_kind("transactions"), key=b"\xff\xfe", value=b"{}", partition=2)
    producer.send(settings.topics.of_kind("transactions"), value=b"{}", partition=2)
    producer.flush()
    producer.close()
    places = places_of_users(kafka, settings)
    assert set(places) == {"steady", "torn"}
    finding = judge_places(places)
    assert finding.level == "error"
    assert "1 of 2 users" in finding.message
    assert (
        f"torn in {settings.topics.of_kind('repayments')}/0, {settings.topics.of_kind('transactions')}/2"
        in finding.message
    )


def test_sample_is_bounded_to_the_latest(kafka: KafkaConnection, settings: Settings) -> None:
    create_topics(kafka, settings)
    producer = open_producer(kafka)
    for number in range(50):
        producer.send(settings.topics.of_kind("activity"), key=b"user-%d" % number, value=b"{}", partition=0)
    producer.flush()
    producer.close()
    partitions = 3 * len(settings.topics.inputs)
    assert set(places_of_users(kafka, settings, 5 * partitions)) == {f"user-{number}" for number in range(45, 50)}
