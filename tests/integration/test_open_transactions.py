"""What producers send in transactions: what was aborted is never scored, and what stands behind an open one waits."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec
from faust.types import TP

from events.types import Activity, Event, Transaction, keyed
from stream.kafka.clients import aiokafka_producer, started
from stream.kafka.log_end import log_ends
from stream.kafka.publisher import partition_of
from stream.kafka.topic_reader import TopicReader
from stream.outputs import Score

Deploy = Callable[..., Any]
USER = "u"
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def movement(number: int) -> Transaction:
    return Transaction(event_id=f"t{number}", user_id=USER, occurred_at=START + dt.timedelta(hours=number), amount=-5.0)


def activity(number: int) -> Activity:
    return Activity(event_id=f"a{number}", user_id=USER, occurred_at=START + dt.timedelta(hours=number), kind="session")


def scored(deployment: Any) -> list[str]:
    return [
        msgspec.json.decode(record.value, type=Score).event_id
        for record in deployment.records(deployment.topics.scores)
    ]


async def test_a_log_ends_behind_what_an_open_transaction_has_written(deploy: Deploy) -> None:
    """Readers of committed records are told an earlier end."""
    deployment = deploy(partitions=1)
    topic = deployment.topics.of_kind("activity")
    producer = aiokafka_producer(deployment.kafka, transactional_id=f"{deployment.topics.prefix}open")
    with TopicReader(deployment.kafka) as reader:
        async with started(producer), producer.transaction():
            await producer.send_and_wait(topic, b"value", key=b"key", partition=0)
            assert await asyncio.to_thread(reader.span, topic, 0) == (0, 0)
            assert await asyncio.to_thread(log_ends, deployment.kafka, [TP(topic, 0)]) == {TP(topic, 0): 1}
        deployment.wait(lambda: reader.span(topic, 0) == (0, 2), "the marker")
        assert log_ends(deployment.kafka, [TP(topic, 0)]) == {TP(topic, 0): 2}


async def send(producer: Any, deployment: Any, *events: Event) -> None:
    for kind, key, value, _ in keyed(list(events)):
        partition = partition_of(key, deployment.settings.partitions)
        await producer.send_and_wait(deployment.topics.of_kind(kind), value, key=key, partition=partition)


def test_what_stands_behind_an_open_transaction_waits_and_what_was_aborted_never_comes(deploy: Deploy) -> None:
    deployment = deploy(watchdog=False)

    async def until(done: Callable[[], bool], what: str, worker: Any) -> None:
        await asyncio.to_thread(deployment.wait, done, what, worker)

    async def produce(worker: Any) -> None:
        open_one = aiokafka_producer(
            deployment.kafka, transactional_id=f"{deployment.settings.application_id}-lender", linger_ms=0
        )
        plain = aiokafka_producer(deployment.kafka, linger_ms=0)
        async with started(open_one), started(plain):
            await open_one.begin_transaction()
            await send(open_one, deployment, movement(1), movement(2))
            await send(plain, deployment, movement(3), activity(4))
            await until(lambda: "a4" in scored(deployment), "another topic's event", worker)
            assert scored(deployment) == ["a4"], "what is behind the open transaction waits, other topics do not"
            await open_one.abort_transaction()
            await until(lambda: len(scored(deployment)) > 1, "what stood behind it", worker)
            await open_one.begin_transaction()
            await send(open_one, deployment, movement(5))
            await open_one.commit_transaction()

    with deployment.running("worker") as worker:
        asyncio.run(produce(worker))
        deployment.wait_until_scored(worker)
    assert scored(deployment) == ["a4", "t3", "t5"], "nothing of what was aborted"
    assert deployment.records(deployment.topics.dead_letters) == []
