"""A broker that closes a connection is told of by Kafka's own error, on every event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionRequest

import stream.kafka.closed_connections  # noqa: F401

MOST_TURNS = 100
"""Of the loop, within which a connection that was closed is known to be."""

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


async def sent_after_it_was_closed(send: Callable[[AIOKafkaConnection], object]) -> None:
    """Send again and again while the connection's end is not known yet, and once when it is."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    connection = AIOKafkaConnection(*server.sockets[0].getsockname(), request_timeout_ms=5_000)
    connecting = asyncio.create_task(connection.connect())
    while connection._writer is None or not connection._requests:
        await asyncio.sleep(0)
    connection._writer.transport.abort()
    try:
        for _ in range(MOST_TURNS):
            await asyncio.sleep(0)
            send(connection)
    finally:
        with suppress(KafkaConnectionError):
            await connecting
        server.close()


def request(connection: AIOKafkaConnection) -> None:
    connection.send(ApiVersionRequest()).close()  # what waits for the answer is not needed


def token(connection: AIOKafkaConnection) -> None:
    connection._send_sasl_token(b"token").close()


@pytest.mark.parametrize("send", [request, token])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_that_was_closed_is_a_connection_error(
    loop: str, send: Callable[[AIOKafkaConnection], object]
) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner, pytest.raises(KafkaConnectionError):
        runner.run(sent_after_it_was_closed(send))
