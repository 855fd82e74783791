"""Serves `/livez`, `/readyz` and `/metrics` by HTTP, in threads of its own: the event loop may hang, and is told of all
the same. Reads plain figures and changes nothing.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from stream.telemetry.health import Probed, Verdict

PATHS = ("/livez", "/readyz", "/metrics")
REQUEST_TIMEOUT_S = 10.0
"""A client that sends no request for so long is left."""

logger = logging.getLogger("foreshock.health")


class TelemetryServer(ThreadingHTTPServer):
    """The server; `server_port` is where it listens."""

    daemon_threads = True

    def __init__(self, host: str, port: int, collectors: Iterable[Collector], health: Probed) -> None:
        """Raises `OSError` when the address cannot be used."""
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, port), _Answer)
        self.health = health
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        for collector in collectors:
            self.registry.register(collector)

    def start(self) -> None:
        """Answer until the process ends."""
        threading.Thread(target=self.serve_forever, name="telemetry", daemon=True).start()


class _Answer(BaseHTTPRequestHandler):
    """Answers one request."""

    server: TelemetryServer
    timeout = REQUEST_TIMEOUT_S
    server_version = "foreshock"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        try:
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._send(200, content_type, encode(self.server.registry))
            elif path == "/livez":
                self._tell(self.server.health.liveness())
            elif path == "/readyz":
                self._tell(self.server.health.readiness())
            else:
                self._send(404, "text/plain; charset=utf-8", f"ask for {', '.join(PATHS)}\n".encode())
        except OSError:
            pass  # the client has gone
        except Exception as error:
            logger.exception("%s could not be answered", path)
            self._send(500, "text/plain; charset=utf-8", f"{type(error).__name__}; see the log\n".encode())

    def _tell(self, verdict: Verdict) -> None:
        self._send(200 if verdict.ok else 503, "application/json", verdict.as_json())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing: probes come every few seconds."""
