"""Opens Kafka clients of every kind but Faust's: kafka-python's, aiokafka's, and plain sockets.

What they need to know of the cluster comes from a `KafkaConnection`. A client that reaches no broker is closed again.
Where TLS or SASL fails, the client libraries say little, late and in their own logs; `open_socket` finds out which of
them it is and what to do, and is asked first. Knows nothing of topics or events.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import google_crc32c
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.net.compat import KafkaNetClient
from kafka.record import default_records

import stream.kafka.closed_connections  # which makes aiokafka see them
import stream.kafka.header_names  # which makes the libraries read any header name
import stream.kafka.unpacking  # noqa: F401  # and any codec, up to a limit
from stream.kafka.connection import BrokerAddress, KafkaConnection
from stream.kafka.refusal import BrokerRefuses, refusal
from stream.kafka.sasl import authenticate, greet

ACCESS_TIMEOUT_S = 5.0


class NoBrokerReachable(ConnectionError):
    """None of the addresses takes a connection; the message gives the system's reason for each."""


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """CRC-32C checksum of a record batch, as kafka-python computes it."""
    return int(google_crc32c.value(bytes(data)))  # it takes nothing but bytes


# kafka-python computes it in Python, at 6 MB/s: most of the time that reading a topic took.
default_records.calc_crc32c = crc32c


def open_consumer(connection: KafkaConnection, **options: Any) -> Any:
    """A connected `KafkaConsumer` of kafka-python.

    Raises what its constructor does, `KafkaError` and `OSError`, and `BrokerRefuses`, which is an `OSError`.
    """
    return _opened(KafkaConsumer, connection, options)


def open_producer(connection: KafkaConnection, **options: Any) -> Any:
    """A connected `KafkaProducer` of kafka-python. Raises as `open_consumer`."""
    return _opened(KafkaProducer, connection, options)


def open_admin(connection: KafkaConnection, **options: Any) -> Any:
    """A connected `KafkaAdminClient` of kafka-python. Raises as `open_consumer`."""
    return _opened(KafkaAdminClient, connection, options)


class _Selector(selectors.DefaultSelector):
    """Closes, when its client closes, every socket that the client has waited for.

    kafka-python forgets the socket of a connection that is just being made.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waited_for: set[socket.socket] = set()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self._waited_for = {each for each in self._waited_for if each.fileno() != -1}
        if isinstance(fileobj, socket.socket):
            self._waited_for.add(fileobj)
        return super().register(fileobj, events, data)

    def close(self) -> None:
        super().close()
        for each in self._waited_for:
            each.close()
        self._waited_for.clear()


def _opened(kind: Callable[..., Any], connection: KafkaConnection, options: dict[str, Any]) -> Any:
    """A client of the class `kind`.

    The constructor asks the broker for its version, in a thread. If no broker answers, it raises and leaves that thread
    trying to connect for the life of the process; here the thread is ended.
    """
    networks: list[Any] = []

    def network(*arguments: Any, **config: Any) -> Any:
        networks.append(KafkaNetClient(*arguments, **config))
        return networks[-1]

    require_access(connection)
    if len(connection.addresses) > 1:
        # It would try one that is down again and again, and leave a socket of each try behind.
        with contextlib.suppress(NoBrokerReachable):
            connection = first_reachable(connection, ACCESS_TIMEOUT_S)
    try:
        return kind(kafka_client=network, selector=_Selector, **connection.kafka_python_options(), **options)
    except BaseException:
        for begun in networks:
            begun.close()
        raise


def aiokafka_producer(connection: KafkaConnection, **options: Any) -> AIOKafkaProducer:
    """A producer that waits for all replicas, not yet started: see `started`."""
    return AIOKafkaProducer(acks="all", **connection.aiokafka_options(), **options)


def aiokafka_consumer(connection: KafkaConnection, *topics: str, **options: Any) -> AIOKafkaConsumer:
    """A consumer of `topics`, not yet started: see `started`."""
    return AIOKafkaConsumer(*topics, **connection.aiokafka_options(), **options)


def aiokafka_client(connection: KafkaConnection) -> AIOKafkaClient:
    """A client for requests of one's own; whoever calls its `bootstrap` calls its `close`."""
    return AIOKafkaClient(**connection.aiokafka_options())


@asynccontextmanager
async def started(client: Any, connection: KafkaConnection | None = None) -> AsyncIterator[None]:
    """An aiokafka producer or consumer from its start to its stop.

    With the `connection` that it was made with, raises `BrokerRefuses` where TLS or SASL fails.

    A client that could not start is stopped as well, or it would warn of being unclosed when it is garbage-collected.
    """
    try:
        if connection is not None:
            await asyncio.to_thread(require_access, connection)
        await client.start()
        yield
    finally:
        await client.stop()


def open_socket(connection: KafkaConnection, address: BrokerAddress, timeout_s: float) -> socket.socket:
    """A connection to one broker of the cluster, encrypted and authenticated, for requests that no library makes.

    Raises `BrokerRefuses` where TLS or SASL fails, `OSError` where the broker cannot be reached.
    """
    opened = socket.create_connection(address, timeout=timeout_s)
    security = connection.security
    try:
        if security.ssl_context is not None:
            opened = security.ssl_context.wrap_socket(opened, server_hostname=address.host)
        if security.sasl:
            authenticate(opened, connection.client_id, security.kafka_python_options())
        if security.protocol != "PLAINTEXT":
            greet(opened, connection.client_id)
    except Exception as error:
        opened.close()
        reason = refusal(error, security)
        if reason is None:
            raise
        raise BrokerRefuses(f"{address}: {reason}") from error
    return opened


def require_access(connection: KafkaConnection) -> None:
    """Raises `BrokerRefuses` where TLS or SASL is set and fails with all brokers that can be reached.

    Says nothing of brokers that are down: clients wait for them.
    """
    if connection.security.protocol != "PLAINTEXT":
        with contextlib.suppress(NoBrokerReachable):
            first_reachable(connection, ACCESS_TIMEOUT_S)


def first_reachable(connection: KafkaConnection, timeout_s: float) -> KafkaConnection:
    """`connection` with only the first address that takes a connection: a client learns of the other brokers there.

    Raises `NoBrokerReachable` after one attempt at each, where a client would try until its time is up, and
    `BrokerRefuses` if it was TLS or SASL that failed with one of them.
    """
    reasons = []
    refused: BrokerRefuses | None = None
    for address in connection.addresses:
        try:
            open_socket(connection, address, timeout_s).close()
            return replace(connection, addresses=(address,))
        except BrokerRefuses as error:
            refused = refused or error
        except OSError as error:
            reasons.append(f"{address}: {error.strerror or error}")
    if refused is not None:
        raise refused
    raise NoBrokerReachable("; ".join(reasons))
