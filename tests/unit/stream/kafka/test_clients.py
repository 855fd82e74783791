"""A client that finds no broker leaves nothing behind: no thread that goes on trying, nothing unclosed to be found."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import KafkaError
from kafka.record import MemoryRecords, default_records, util

from stream.kafka.clients import (
    NoBrokerReachable,
    aiokafka_client,
    aiokafka_consumer,
    aiokafka_producer,
    crc32c,
    first_reachable,
    open_admin,
    open_consumer,
    open_producer,
    open_socket,
)
from stream.kafka.connection import BrokerAddress, KafkaConnection
from stream.kafka.publisher import open_publisher
from stream.topics import Topics


def at_work() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("kafka")}


def connection_to(listener: socket.socket) -> KafkaConnection:
    return KafkaConnection((BrokerAddress(*listener.getsockname()),))


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def nobody() -> Iterator[socket.socket]:
    """Bound and not listening: refuses at once."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


@pytest.fixture
def busy() -> Iterator[socket.socket]:
    """Listening, with as many waiting as it lets wait: a connection to it is being made for as long as one tries."""
    with contextlib.ExitStack() as waiting, socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener


@pytest.mark.parametrize("open_client", [open_admin, open_consumer, open_producer])
def test_a_connection_that_was_being_made_is_closed_too(open_client: Callable[..., Any], busy: socket.socket) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(KafkaError):
            open_client(connection_to(busy), bootstrap_timeout_ms=300)
        gc.collect()
    assert [str(each.message) for each in warned] == []


@pytest.mark.parametrize("open_client", [open_admin, open_consumer, open_producer])
def test_a_broker_that_takes_connections_and_never_answers(
    open_client: Callable[..., Any], mute: socket.socket
) -> None:
    before = at_work()
    with pytest.raises(KafkaError):
        open_client(connection_to(mute), bootstrap_timeout_ms=300)
    assert at_work() == before


async def test_a_publisher_that_finds_no_broker_leaves_nothing_open(nobody: socket.socket) -> None:
    with pytest.raises(KafkaConnectionError):
        async with open_publisher(connection_to(nobody), Topics()):
            pass
    unclosed = [found for found in gc.get_objects() if type(found) is AIOKafkaProducer and not found._closed]
    assert unclosed == []


async def test_clients_of_aiokafka_carry_the_clusters_facts() -> None:
    connection = KafkaConnection.parse("[::1]:9092, broker-2:9093")
    consumer, producer = aiokafka_consumer(connection, "scores"), aiokafka_producer(connection)
    for client in (aiokafka_client(connection), consumer._client, producer.client):
        assert sorted((host, port) for host, port, _ in client.hosts) == [("::1", 9092), ("broker-2", 9093)]
        assert client._client_id == "foreshock"
    await consumer.stop()
    await producer.stop()


def test_the_first_address_that_takes_a_connection(mute: socket.socket, nobody: socket.socket) -> None:
    refusing, taking = connection_to(nobody), connection_to(mute)
    both = KafkaConnection(refusing.addresses + taking.addresses, client_id="me")
    assert first_reachable(both, 1.0) == KafkaConnection(taking.addresses, client_id="me")
    with pytest.raises(NoBrokerReachable, match=f"{refusing}: Connection refused"):
        first_reachable(refusing, 1.0)


def test_a_socket_to_a_broker(mute: socket.socket) -> None:
    connection = connection_to(mute)
    with open_socket(connection, connection.addresses[0], 1.0) as opened:
        assert opened.getpeername() == mute.getsockname()


@given(st.binary(max_size=200))
def test_the_checksum_is_that_of_kafka_python(data: bytes) -> None:
    """Computed by a C library in place of a loop in Python, and put where kafka-python looks for it."""
    assert crc32c(memoryview(data)) == util.calc_crc32c(memoryview(data))
    assert default_records.calc_crc32c is crc32c


@pytest.mark.parametrize("compression", range(5), ids=["none", "gzip", "snappy", "lz4", "zstd"])
def test_kafka_python_reads_every_codec(compression: int) -> None:
    """The batches are aiokafka's; a value of 3 MB is larger than a codec's window or block."""
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, -1, 1 << 24)
    values = [b"one", b"two" * 1_000, b"three" * 600_000]
    for offset, value in enumerate(values):
        builder.append(offset, 0, b"key", value, [])
    batch = MemoryRecords(bytes(builder.build())).next_batch()
    assert [record.value for record in batch] == values
