"""Records compressed with any of Kafka's codecs are read by worker, changelog reader, sink and replay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from events.types import keyed
from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.database.summary import summarise
from stream.kafka.clients import aiokafka_producer, started
from stream.kafka.connection import KafkaConnection
from stream.kafka.publisher import partition_of
from stream.outputs import Score
from stream.topics import sink_group
from tests import forked

Deploy = Callable[..., Any]

CODECS = ("gzip", "snappy", "lz4", "zstd")


async def publish(kafka: KafkaConnection, deployment: Any, events: list[Any], codec: str) -> None:
    producer = aiokafka_producer(kafka, compression_type=codec, linger_ms=20)
    async with started(producer):
        sent = [
            await producer.send(
                deployment.topics.of_kind(kind), value, key, partition_of(key, deployment.settings.partitions)
            )
            for kind, key, value, _ in keyed(events)
        ]
        await asyncio.gather(*sent)


def test_every_codec_is_read_everywhere(kafka: KafkaConnection, deploy: Deploy, database: DatabaseConnection) -> None:
    """Producers compress the inputs; the broker compresses outputs and changelog, as their `compression.type` says."""
    deployment = deploy(watchdog=False, database_url=database.url)
    topics = deployment.topics
    outputs = topics.stored
    events = list(open_dataset("simulator", users=30, months=4, seed=5).events())
    rest = list(events)

    def send(codec: str) -> None:
        for topic in (*outputs, topics.changelog(deployment.settings.application_id)):
            deployment.configure(topic, {"compression.type": codec})
        part, rest[:] = rest[: len(events) // 4 + 1], rest[len(events) // 4 + 1 :]
        asyncio.run(publish(kafka, deployment, part, codec))
        deployment.send_raw("activity", [(b"u", b"not an event")], compression_type="gzip")

    for name, codecs in (("first", CODECS), ("successor", ())):
        with deployment.running("worker", name) as worker:
            for codec in codecs:
                send(codec)
                deployment.wait_until_scored(worker)
            if not codecs:  # having read the states from a changelog of all codecs
                deployment.publish([msgspec.structs.replace(event, event_id=f"{event.event_id}-2") for event in events])
                deployment.wait_until_scored(worker)
    assert not rest
    scores = [msgspec.json.decode(record.value, type=Score) for record in deployment.records(topics.scores)]
    assert len(scores) == 2 * len(events)
    counted: dict[str, list[int]] = {}
    for score in sorted(scores, key=lambda score: score.sequence):
        counted.setdefault(score.user_id, []).append(score.sequence)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in counted.values())

    migration.upgrade(database)
    with deployment.running("sink") as sink:
        group = sink_group(deployment.settings.application_id)
        deployment.wait(lambda: deployment.committed(group, outputs) == deployment.size(*outputs), "storing", sink)
    stored = summarise(database)
    assert (stored.scores, stored.dead_letters) == (2 * len(events), len(CODECS))

    replay = forked.run(
        [
            "replay", "run", "all", "--from", "2000-01-01", "--to", "2100-01-01",
            "--bootstrap-servers", str(kafka), "--database-url", database.url, "--topic-prefix", topics.prefix,
        ]
    )  # fmt: skip
    assert replay.returncode == 0, replay.stdout + replay.stderr
    assert f"replayed {2 * len(events):,} events" in replay.stdout
