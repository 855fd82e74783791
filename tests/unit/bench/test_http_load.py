"""What asks at a fixed rate: every request is answered or counted as not, and what a server stalls counts in full."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench import http_load
from bench.http_load import Plan, load


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[int]:
    """A server whose answers `answer` writes; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def a_plan(port: int, seconds: float, rate_per_s: float = 200.0) -> Plan:
    return Plan("127.0.0.1", port, ["/a", "/b"], {"Authorization": "Bearer t"}, rate_per_s, seconds)


def say(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def test_each_path_is_asked_for_in_turn_with_the_headers() -> None:
    asked: list[tuple[str, str | None]] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append((handler.path, handler.headers["Authorization"]))
        say(handler, 200 if handler.path == "/a" else 304, b"x" * 100_000 if handler.path == "/a" else b"")

    with serving(answer) as port:
        found = load(a_plan(port, 0.1))
    assert found.statuses == {200: 10, 304: 10}
    assert sorted(asked) == [("/a", "Bearer t")] * 10 + [("/b", "Bearer t")] * 10
    assert len(found.delays_ms) == len(found.late_ms) == 20
    assert all(0 <= late <= delay for late, delay in zip(found.late_ms, found.delays_ms, strict=True))


def test_a_server_that_stalls_makes_all_late_that_fell_due_meanwhile() -> None:
    begun = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if not begun.is_set():
            begun.set()
            stalled_until_s.append(time.perf_counter() + 0.4)
        time.sleep(max(0.0, stalled_until_s[0] - time.perf_counter()))
        say(handler, 200, b"{}")

    stalled_until_s: list[float] = []
    with serving(answer) as port:
        found = load(a_plan(port, 0.3))
    # More requests fell due than there are connections: those, too, that could not even be sent.
    assert len(found.delays_ms) == 60 > http_load.CONNECTIONS
    assert found.delays_ms[0] > 350
    assert min(found.delays_ms) > 80
    assert max(found.late_ms) > 80


def test_an_answer_that_does_not_come_is_counted_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/a":
            say(handler, 200, b"{}")
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            handler.close_connection = True

    with serving(answer) as port:
        assert load(a_plan(port, 0.05)).statuses == {200: 5, 0: 5}

    monkeypatch.setattr(http_load, "ANSWER_LIMIT_S", 0.05)
    ended = threading.Event()
    with serving(lambda _: (ended.wait(10), None)[1]) as port:
        with pytest.raises(TimeoutError, match="not answered"):
            load(a_plan(port, 0.01))
        ended.set()
