"""Serves the desk: a socket that processes share, TLS, and an end without a request lost.

    one process    the application runs in this process
    several        this process opens the socket, forks them, starts those anew that end by themselves, and ends them

All state is in PostgreSQL, so any process may answer any request, and may be killed at any moment. On SIGTERM or SIGINT
a process takes no new connection, finishes what it has begun, within `GRACE_S`, and ends.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TypeAlias
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from desk.app import create_app
from desk.context import Desk
from desk.figures import DeskFigures, ProcessFigures
from desk.http import BoundedHttp
from desk.telemetry import Endpoint
from stream.database.connection import DatabaseConnection
from stream.kafka.stall import StallWatch
from stream.settings import Settings, SettingsError, on_this_machine

GRACE_S = 10
"""For so long a process that ends finishes what it has begun."""

KEEP_ALIVE_S = 65
"""A connection without a request stays open for so long: longer than proxies keep theirs, which is 60 s."""

_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
"""Before a process that has ended by itself is started again: twice as long each time, unless it had lived long."""

_LIVED_S = 60.0

logger = logging.getLogger("foreshock.desk")

AppFactory: TypeAlias = Callable[..., FastAPI]
"""As `create_app`: of settings and database, and of `figures`, where to count."""


class CannotServe(RuntimeError):
    """The address cannot be served on; the message says why and what to do."""


def require_safe(settings: Settings) -> None:
    """Raises `SettingsError` where passwords and borrowers' data would cross a network in plain text, or TLS cannot
    work."""
    if settings.desk_tls_keyfile is not None and settings.desk_tls_certfile is None:
        raise SettingsError("desk_tls_keyfile: is of no use without desk_tls_certfile; set that, too")
    if settings.desk_tls_certfile is not None:
        tls_context(settings.desk_tls_certfile, settings.desk_tls_keyfile)
    elif not on_this_machine(settings.desk_host) and not settings.desk_behind_proxy:
        raise SettingsError(
            f"desk_host: {settings.desk_host} can be reached from other machines, and the desk would send passwords "
            "and borrowers' data in plain text; set desk_tls_certfile and desk_tls_keyfile (--tls-certfile, "
            "--tls-keyfile), or, where a proxy in front of it speaks HTTPS, desk_behind_proxy (--behind-proxy)"
        )
    for proxy in settings.desk_trusted_proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise SettingsError(
                f"desk_trusted_proxies: {proxy!r} is neither an address nor a network; give 10.0.0.7 or 10.0.0.0/24"
            ) from None
    if settings.desk_public_url is not None:
        parts = urlsplit(settings.desk_public_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise SettingsError(
                f"desk_public_url: {settings.desk_public_url!r} is no address of a site; give https://desk.example"
            )


def tls_context(certfile: Path, keyfile: Path | None) -> ssl.SSLContext:
    """Of a certificate and its key, TLS 1.2 and newer. Raises `SettingsError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password: one that is asked for at the terminal would have the start hang.
        context.load_cert_chain(certfile, keyfile, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        named = f"{certfile}" if keyfile is None else f"{certfile} with the key {keyfile}"
        raise SettingsError(
            f"desk_tls_certfile: {named} cannot be used ({error}); both are PEM, without password"
        ) from None
    return context


def listen(settings: Settings) -> socket.socket:
    """The socket of the desk. Raises `CannotServe`."""
    host, port = settings.desk_host, settings.desk_port
    found: socket.socket | None = None
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, proto)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        if found is not None:
            found.close()
        raise CannotServe(f"{host} port {port} cannot be served on: {error}; choose another with --port") from error
    return found


def address_of(settings: Settings, listening: socket.socket) -> str:
    """Where a browser finds the desk."""
    if settings.desk_public_url is not None:
        return settings.desk_public_url.rstrip("/")
    host, port = listening.getsockname()[:2]
    scheme = "http" if settings.desk_tls_certfile is None else "https"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}"


def serve(
    settings: Settings,
    database: DatabaseConnection,
    listening: socket.socket,
    app: AppFactory = create_app,
    *,
    figures: DeskFigures | None = None,
    endpoint: Endpoint | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. `figures` has a part for each process; `endpoint` tells of
    them."""
    figures = figures or DeskFigures(settings.desk_workers)
    served = Served(settings, database, listening, app)
    if settings.desk_workers == 1:
        if endpoint is not None:
            endpoint.start()
        return served.serve(figures.parts[0])
    works: dict[str, Callable[[], int | None]] = {
        f"desk-{number}": partial(served.serve, part) for number, part in enumerate(figures.parts)
    }
    if endpoint is not None:
        works["desk-metrics"] = endpoint.run
    return Supervisor(works).run()


class _Server(uvicorn.Server):
    """Tells the application that it ends, when it is told."""

    def stop(self, *_: object) -> None:
        """As a handler of signals before the server has set its own, and once more after it has ended."""
        self._desk.stopping.set()
        self.should_exit = True

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self._desk = desk

    async def main_loop(self) -> None:
        """Ends the process, as that of another part, when its event loop hangs; what others ask then goes elsewhere."""
        limit_s = self._desk.settings.stall_timeout_s
        watch = StallWatch(asyncio.get_running_loop(), limit_s, "desk", on_look=self._desk.figures.note_look)
        watch.start()
        try:
            await super().main_loop()
        finally:
            watch.stop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._desk.stopping.set()
        super().handle_exit(sig, frame)


@dataclass(frozen=True)
class Served:
    """What every process serves."""

    settings: Settings
    database: DatabaseConnection
    listening: socket.socket
    app: AppFactory

    def serve(self, figures: ProcessFigures) -> int:
        """Serve in this process, until it is told to end; returns the exit code."""
        figures.begin()
        return _serve(self.settings, self.listening, self.app(self.settings, self.database, figures=figures))


def _serve(settings: Settings, listening: socket.socket, made: FastAPI) -> int:
    """One process."""
    certfile = settings.desk_tls_certfile
    config = uvicorn.Config(
        made,
        log_config=None,
        access_log=False,  # addresses hold users' ids; who read what is in the audit
        server_header=False,
        proxy_headers=settings.desk_behind_proxy,
        forwarded_allow_ips=settings.desk_trusted_proxies,
        http=BoundedHttp,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        log_level="warning",
        ws="none",
        lifespan="on",
        ssl_certfile=certfile,
        ssl_keyfile=None if certfile is None else settings.desk_tls_keyfile or certfile,
        ssl_context_factory=None
        if certfile is None
        else lambda _config, _default: tls_context(certfile, settings.desk_tls_keyfile),
    )
    server = _Server(config, made.state.desk)
    # What is imported stays to the end: no collection of garbage need walk through it while a request waits.
    gc.collect()
    gc.freeze()
    # The server sets handlers of its own meanwhile, and sends itself the signal once more when it has ended.
    before = {number: signal.signal(number, server.stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0 if server.started else 1


class Supervisor:
    """Several processes, each with a work of its own. Does nothing itself but watch them."""

    def __init__(self, works: Mapping[str, Callable[[], int | None]]) -> None:
        """What each process does, by its name."""
        self._works = works
        # Forked, before anything is opened: they share the socket and the memory of what is imported.
        self._context = multiprocessing.get_context("fork")
        self._processes: dict[str, _Process] = {}
        self._stopping = False

    def run(self) -> int:
        """Until SIGTERM or SIGINT, or until no process starts."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for name in self._works:
                self._start(name, _PAUSE_S)
            while not self._stopping:
                multiprocessing.connection.wait([one.process.sentinel for one in self._processes.values()], timeout=0.5)
                self._renew()
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)
        return 0

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self, name: str, pause_s: float) -> None:
        process = self._context.Process(target=_child, args=(self._works[name],), name=name)
        process.start()
        self._processes[name] = _Process(process, time.monotonic(), pause_s)

    def _renew(self) -> None:
        """Start processes anew that have ended by themselves, each after its pause."""
        now_s = time.monotonic()
        for name, one in list(self._processes.items()):
            if one.process.is_alive() or self._stopping:
                continue
            if one.ended_s is None:
                one.ended_s = now_s
                if now_s - one.started_s >= _LIVED_S:
                    one.pause_s = _PAUSE_S
                logger.error(
                    "%s ended by itself (exit code %s); it starts again in %g s",
                    one.process.name,
                    one.process.exitcode,
                    one.pause_s,
                )
            if now_s - one.ended_s >= one.pause_s:
                one.process.join()
                self._start(name, min(2 * one.pause_s, _LONGEST_PAUSE_S))

    def _end(self) -> None:
        running = [one.process for one in self._processes.values()]
        for process in running:
            if process.is_alive():
                process.terminate()
        deadline_s = time.monotonic() + GRACE_S + 5
        for process in running:
            process.join(max(0.0, deadline_s - time.monotonic()))
            if process.is_alive():
                logger.error("%s does not end; it is killed", process.name)
                process.kill()
                process.join()


class _Process:
    """A process of the supervisor, since when it runs, and how long to wait before it is started again."""

    def __init__(self, process: multiprocessing.process.BaseProcess, started_s: float, pause_s: float) -> None:
        self.process = process
        self.started_s = started_s
        self.pause_s = pause_s
        self.ended_s: float | None = None


def _child(work: Callable[[], int | None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # not the supervisor's
    threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    raise SystemExit(work())


def _end_with_supervisor() -> None:
    """End this process when the supervisor has ended, even if that was killed: else it would keep the port."""
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None
    multiprocessing.connection.wait([supervisor.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
