"""The HTTP client against real receivers on this machine, among them hostile ones."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from stream.webhooks.addresses import AddressRules
from stream.webhooks.schedule import Answer, Outcome
from stream.webhooks.sender import MOST_ANSWER_BYTES, Sender
from tests.receiver import receiving

LOOPBACK = AddressRules.parse("127.0.0.0/8")
HEADERS = {"webhook-id": "m"}


@asynccontextmanager
async def sender(rules: AddressRules = LOOPBACK, timeout_s: float = 5, **more: Any) -> AsyncIterator[Sender]:
    async with Sender(rules, timeout_s, **more) as made:
        yield made


async def post(address: str, rules: AddressRules = LOOPBACK, timeout_s: float = 5, **more: Any) -> Answer:
    async with sender(rules, timeout_s, **more) as made:
        return await made.send(address, HEADERS, b'{"a":1}')


@contextmanager
def answering(serve: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server of bytes, one connection after the other, on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    ending = threading.Event()

    def accept() -> None:
        while not ending.is_set():
            try:
                taken, _ = listener.accept()
            except OSError:
                return
            try:
                with tls.wrap_socket(taken, server_side=True) if tls else taken as connection:
                    connection.settimeout(5)
                    serve(connection)
            except OSError:
                continue

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        ending.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=10)


@contextmanager
def resolving(monkeypatch: pytest.MonkeyPatch, answers: list[list[str]]) -> Iterator[list[str]]:
    """A name server that answers with these addresses, one list after the other, and tells what it was asked."""
    asked: list[str] = []

    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        found = answers[min(len(asked) - 1, len(answers) - 1)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield asked


async def test_what_is_sent_arrives_and_connections_are_used_again() -> None:
    with receiving() as receiver:
        async with sender() as made:
            for _ in range(3):
                assert await made.send(receiver.address("/hook?key=1"), HEADERS, b'{"a":1}') == Answer(204)
        assert [(each.path, each.body) for each in receiver.requests] == [("/hook?key=1", b'{"a":1}')] * 3
        assert receiver.requests[0].message_id == "m"


async def test_redirects_are_not_followed_and_a_pause_that_is_asked_for_is_told() -> None:
    with receiving(lambda received: 307 if received.path == "/moved" else 429) as receiver:
        receiver.extra_headers |= {"Location": receiver.address("/there"), "Retry-After": "7"}
        assert (await post(receiver.address("/moved"))).outcome is Outcome.REFUSED
        assert [received.path for received in receiver.requests] == ["/moved"]
        assert await post(receiver.address()) == Answer(429, wait_s=7.0)
        receiver.extra_headers["Retry-After"] = "Thu, 01 Jan 1970 00:01:40 GMT"
        assert (await post(receiver.address(), clock_s=lambda: 40.0)).wait_s == 60.0
        receiver.extra_headers["Retry-After"] = "tomorrow"
        assert (await post(receiver.address())).wait_s is None


async def test_a_private_address_is_not_connected_to_by_name_or_number() -> None:
    with receiving() as receiver:
        for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
            answer = await post(f"https://{host}:{receiver.port}/hook", AddressRules())
            assert answer.outcome is Outcome.UNAVAILABLE, host
            assert "/hook" not in answer.words
        assert not receiver.requests


async def test_a_name_that_is_resolved_anew_to_a_private_address_is_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: public when the webhook is added, private when it is connected to."""
    rules = AddressRules.parse("127.0.0.2/32", insecure=True)
    with receiving() as receiver, resolving(monkeypatch, [["127.0.0.2"], ["127.0.0.1"]]) as asked:
        address = f"http://rebind.example.com:{receiver.port}/hook"
        rules.target(address)
        first = await post(address, rules)
        assert "cannot be reached" in first.words, "nobody listens there, and it was allowed to look"
        second = await post(address, rules)
        assert "may not be reached" in second.words
        assert "127.0.0.1, which is no public address" in second.words
        assert asked == ["rebind.example.com"] * 2, "one look-up for each connection: what is checked is what is used"
        assert not receiver.requests


async def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver, resolving(monkeypatch, [["93.184.216.34", "127.0.0.1"]]):
        answer = await post(f"https://mixed.example.com:{receiver.port}/", AddressRules())
        assert "may not be reached" in answer.words
        assert not receiver.requests


async def test_a_receiver_that_says_nothing_or_a_byte_at_a_time_is_left() -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(40):
            connection.sendall(b"x")
            time.sleep(0.1)

    for serve in (lambda _: time.sleep(3), drip):
        with answering(serve) as port:
            started_s = time.monotonic()
            answer = await post(f"http://127.0.0.1:{port}/", timeout_s=1)
            assert time.monotonic() - started_s < 2
            assert answer.words == f"http://127.0.0.1:{port} has not answered within 1 s"


@pytest.mark.parametrize(
    ("answered", "outcome"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * (2 * MOST_ANSWER_BYTES), Outcome.DELIVERED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx", Outcome.DELIVERED),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Outcome.UNAVAILABLE),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, Outcome.UNAVAILABLE),
        (b"no HTTP\r\n\r\n", Outcome.UNAVAILABLE),
        (b"", Outcome.UNAVAILABLE),
    ],
)
async def test_an_answer_of_any_kind_is_bounded_and_none_ends_the_sender(answered: bytes, outcome: Outcome) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(answered)

    with answering(serve) as port:
        assert (await post(f"http://127.0.0.1:{port}/")).outcome is outcome


async def test_certificates_are_checked_for_authority_and_name(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    def serve(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    for name, cafile, words in (
        ("127.0.0.1", tmp_path / "ca.pem", "status 204"),
        ("127.0.0.1", None, "has a certificate that does not pass"),
        ("other.example.com", tmp_path / "ca.pem", "has a certificate that does not pass"),
    ):
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(tls)
        with answering(serve, tls) as port:
            answer = await post(f"https://127.0.0.1:{port}/", cafile=cafile)
            assert words in answer.words, (name, cafile)


async def test_a_proxy_of_the_environment_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver, receiving() as proxy:
        for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, proxy.address(""))
        assert (await post(receiver.address())).outcome is Outcome.DELIVERED
        assert not proxy.requests


async def test_what_goes_wrong_is_told_without_path_and_query() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    answer = await post(f"http://127.0.0.1:{port}/hooks/secret?token=abc")
    assert answer.status is None
    assert answer.words.startswith(f"http://127.0.0.1:{port} cannot be reached")
    assert "secret" not in answer.words
    assert "abc" not in answer.words


async def test_names_that_are_not_answered_hold_up_neither_others_nor_the_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released, asked = threading.Event(), []

    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        if host.startswith("hangs"):
            released.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with receiving() as receiver, monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        rules = AddressRules.parse("127.0.0.0/8", insecure=True)
        async with sender(rules, timeout_s=1) as made:
            hanging = [
                asyncio.create_task(made.send(f"http://hangs{host}.example.com:{receiver.port}/", HEADERS, b"{}"))
                for host in range(8)
                for _ in range(8)
            ]
            await asyncio.sleep(0.1)
            started_s = time.monotonic()
            await asyncio.gather(*(asyncio.to_thread(int) for _ in range(20)))
            answer = await made.send(f"http://works.example.com:{receiver.port}/", HEADERS, b"{}")
            assert answer.outcome is Outcome.DELIVERED
            assert time.monotonic() - started_s < 0.8
            assert {one.words.partition(" ")[2] for one in await asyncio.gather(*hanging)} == {
                "has not answered within 1 s"
            }
            assert len(asked) == 9, "each name is asked for once at a time"
            released.set()


async def test_one_that_hangs_delays_no_other() -> None:
    with receiving(lambda received: time.sleep(2) or 204 if received.path == "/slow" else 204) as receiver:
        async with sender() as made:
            slow = [asyncio.create_task(made.send(receiver.address("/slow"), HEADERS, b"{}")) for _ in range(20)]
            started_s = time.monotonic()
            assert (await made.send(receiver.address("/quick"), HEADERS, b"{}")).outcome is Outcome.DELIVERED
            assert time.monotonic() - started_s < 1.5
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
