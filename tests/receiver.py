"""A receiver of webhooks on this machine: keeps what it was sent, in order, and answers as the test says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Received"], int]
"""The status to answer with; may take its time. 0 breaks the connection off."""


@dataclass(frozen=True)
class Received:
    """One request. Names of headers are in lower case."""

    at_s: float
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def user(self) -> str:
        return str(self.message["data"]["user_id"])


class Receiver:
    """What was received; `behaviour` may be changed at any time."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[Received] = []
        self.accepted: list[Received] = []
        """Those that were answered with a status below 300, in the order of the answers."""
        self.extra_headers: dict[str, str] = {}
        self.lock = threading.Lock()
        self.port = 0

    def address(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@contextmanager
def receiving(behaviour: Behaviour = lambda _: 204, port: int = 0) -> Iterator[Receiver]:
    """A receiver on a free port, or on `port`."""
    receiver = Receiver(behaviour)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = Received(time.monotonic(), self.path, headers, body)
            with receiver.lock:
                receiver.requests.append(received)
            status = receiver.behaviour(received)
            if status == 0:
                self.close_connection = True
                return
            if status < 300:
                with receiver.lock:
                    receiver.accepted.append(received)
            try:
                self.send_response(status)
                for name, value in receiver.extra_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:
                pass  # the sender has gone

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", port), Handler)
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
