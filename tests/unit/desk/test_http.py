"""The head of a request has a limit; what follows it, and requests behind one another, are read whole."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from desk.http import MOST_HEAD_BYTES, BoundedHttp


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with how much it was sent."""
    request = Request(scope, receive)
    size = len(await request.body()) + sum(len(value) for _, value in scope["headers"])
    await PlainTextResponse(str(size))(scope, receive, send)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config = uvicorn.Config(application, http=BoundedHttp, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    config.load()
    listening = socket.create_server(("127.0.0.1", 0))
    server.lifespan = config.lifespan_class(config)
    await server.startup([listening])
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        await server.shutdown([listening])


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    lines = head.lower().split(b"\r\n")
    (length,) = (int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
    return int(lines[0].split(b" ")[1]), await asyncio.wait_for(reader.readexactly(length), 10)


async def test_a_head_that_does_not_end_is_refused() -> None:
    async with connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n")
        answered = asyncio.create_task(answer(reader))
        sent = 0
        while not answered.done() and sent < 3 * MOST_HEAD_BYTES:
            writer.write(b"X-More: " + b"x" * 8_000 + b"\r\n")
            await asyncio.sleep(0.01)
            sent += 8_010
        assert sent > MOST_HEAD_BYTES
        assert await answered == (400, b"The head of the request is too long.")
        assert await reader.read() == b"", "and the connection ends"


async def test_a_head_that_ends_in_time_is_read() -> None:
    async with connected() as (reader, writer):
        for _ in range(3):  # also on a connection that was used before
            writer.write(b"GET / HTTP/1.1\r\n")
            for _ in range(6):
                writer.write(b"X-More: " + b"x" * 9_000 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.002)
            writer.write(b"\r\n")
            assert await answer(reader) == (200, b"54000")


async def test_bodies_are_no_heads_and_requests_behind_them_are_read() -> None:
    body = b"x" * (4 * MOST_HEAD_BYTES)
    async with connected() as (reader, writer):
        post = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        writer.write(post + body + post + body + b"GET / HTTP/1.1\r\nX-Mo")
        await asyncio.sleep(0.05)
        writer.write(b"re: more\r\n\r\n")
        digits = len(str(len(body)))
        assert [await answer(reader) for _ in range(3)] == [
            (200, str(len(body) + digits).encode()), (200, str(len(body) + digits).encode()), (200, b"4"),
        ]  # fmt: skip
