"""The brokers that are asked first: a list with blanks, one that is dead, one by its IPv6 address."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from events.types import KINDS
from stream.doctor import examine
from stream.kafka.clients import aiokafka_consumer, open_admin, require_access, started
from stream.kafka.connection import KafkaConnection
from stream.kafka.coordinator import GROUP, any_socket, await_coordinator, coordinator_of
from stream.kafka.provisioning import create_topics
from stream.kafka.publisher import open_publisher
from stream.kafka.topic_reader import TopicReader
from stream.settings import Settings, load_settings


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


@pytest.fixture
def by_ipv6(kafka: KafkaConnection) -> Iterator[str]:
    """An address on the IPv6 loopback that leads to the broker."""
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    opened = [listener]

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(kafka.addresses[0])
            opened.extend((client, server))
            for ends in ((client, server), (server, client)):
                threads.append(threading.Thread(target=_pump, args=ends))
                threads[-1].start()

    threads = [threading.Thread(target=accept)]
    threads[0].start()
    yield f"[::1]:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(10)
    for end in opened:
        end.close()


async def every_client_works(addresses: str, prefix: str) -> None:
    settings: Settings = load_settings(bootstrap_servers=addresses, topic_prefix=prefix, application_id=f"{prefix}app")
    connection = KafkaConnection.from_settings(settings)
    assert connection is not None
    require_access(connection)
    create_topics(connection, settings)
    admin = open_admin(connection)
    assert set(settings.topics.inputs) <= set(admin.list_topics())
    admin.close()
    async with open_publisher(connection, settings.topics) as publisher:
        await publisher.publish([(KINDS[0], b"u", b"{}", 0)])
    async with started(aiokafka_consumer(connection, settings.topics.inputs[0])):
        pass
    with TopicReader(connection) as reader:
        assert reader.size(settings.topics.inputs) == 1
    await_coordinator(connection, settings.application_id)
    with any_socket(connection) as opened:
        assert coordinator_of(opened, connection.client_id, GROUP, settings.application_id).code == 0
    finding, *_ = examine(settings, connection, None)
    assert (finding.level, finding.subject) == ("ok", "broker"), finding


async def test_a_list_with_blanks_whose_first_broker_is_dead(kafka: KafkaConnection, topic_prefix: str) -> None:
    await every_client_works(f" 127.0.0.1:1 ,, {kafka} ,", topic_prefix)


async def test_an_ipv6_address(by_ipv6: str, topic_prefix: str) -> None:
    await every_client_works(by_ipv6, topic_prefix)
