"""A client that finds no broker leaves nothing behind: no thread that goes on trying, nothing unclosed to be found."""

from __future__ import annotations

import gc
import socket
import threading
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from stream.kafka.clients import opened
from stream.kafka.publisher import open_publisher
from stream.topics import Topics


def at_work() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("kafka")}


@pytest.mark.parametrize("kind", [KafkaAdminClient, KafkaConsumer, KafkaProducer])
def test_a_broker_that_takes_connections_and_never_answers(kind: Any) -> None:
    before = at_work()
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(KafkaError):
            opened(kind, bootstrap_servers=f"127.0.0.1:{mute.getsockname()[1]}", bootstrap_timeout_ms=300)
    assert at_work() == before


async def test_a_publisher_that_finds_no_broker_leaves_nothing_open() -> None:
    with socket.socket() as nobody:  # bound and not listening: refuses at once
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(KafkaConnectionError):
            async with open_publisher(f"127.0.0.1:{nobody.getsockname()[1]}", Topics()):
                pass
    unclosed = [found for found in gc.get_objects() if type(found) is AIOKafkaProducer and not found._closed]
    assert unclosed == []
