"""Asks for paths over HTTP at a fixed rate, whether or not answers keep up, from a process of its own.

A delay runs from the time at which a request was due, not from the time at which it was sent: a server that stalls
makes all the requests late that fell due meanwhile. Who asks shares the machine with who answers, so it does little:
one thread, sockets, `select`, which waits to the microsecond. How late it sent is told beside the delays: that part of
them is its own. As a program: reads a plan from its standard input, writes the answers; where it may, it goes before
other programs, as if it asked from a machine of its own.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence

import msgspec

CONNECTIONS = 32
LEAD_S = 0.2
PRIORITY = -10
ANSWER_LIMIT_S = 30.0
"""No answer for so long is the end of it."""

_END_OF_HEAD = b"\r\n\r\n"
_CHUNK_BYTES = 65_536


class Plan(msgspec.Struct):
    """What to ask for: each of `paths` in turn, `rate_per_s` for `seconds`."""

    host: str
    port: int
    paths: list[str]
    headers: dict[str, str]
    rate_per_s: float
    seconds: float


class Answers(msgspec.Struct):
    """Delays in milliseconds, in the order in which requests were due, how late each was sent, which is part of its
    delay, and how many had which status; 0 for none. `went_before`: who asked went before other programs."""

    delays_ms: list[float]
    late_ms: list[float]
    statuses: dict[int, int]
    went_before: bool = False


class _Connection:
    """A connection, and the request that waits for its answer on it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.number = -1
        self._received = bytearray()
        self._open()

    def _open(self) -> None:
        self.socket = socket.create_connection((self._plan.host, self._plan.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received.clear()

    def ask(self, number: int, request: bytes) -> None:
        """Send a request; what the server has closed meanwhile is opened anew."""
        self.number = number
        try:
            self.socket.sendall(request)
        except OSError:
            self._reopen()
            self.socket.sendall(request)

    def status(self) -> int | None:
        """Read what has come: the status of the answer, None while it is not whole, 0 where none comes any more."""
        try:
            found = self.socket.recv(_CHUNK_BYTES)
        except OSError:
            found = b""
        if not found:
            self._reopen()
            return 0
        self._received += found
        head, ended, body = bytes(self._received).partition(_END_OF_HEAD)
        if not ended or len(body) < _length(head):
            return None
        self._received.clear()
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        self.socket.close()

    def _reopen(self) -> None:
        self.socket.close()
        self._open()


def _length(head: bytes) -> int:
    """Bytes of the body that a head tells of."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def load(plan: Plan) -> Answers:
    """Ask as planned; returns once all have answered. Raises `TimeoutError` when that takes too long."""
    connections = [_Connection(plan) for _ in range(CONNECTIONS)]
    try:
        return _asked(plan, connections)
    finally:
        for connection in connections:
            connection.close()


def _asked(plan: Plan, connections: Sequence[_Connection]) -> Answers:
    requests = [_request(plan, path) for path in plan.paths]
    count = round(plan.rate_per_s * plan.seconds)
    found = Answers([0.0] * count, [0.0] * count, {})
    statuses: Counter[int] = Counter()
    free = list(connections)
    waiting: dict[socket.socket, _Connection] = {}
    start_s = time.perf_counter() + LEAD_S
    sent = answered = 0
    while answered < count:
        now_s = time.perf_counter()
        while sent < count and free and now_s >= (due_s := start_s + sent / plan.rate_per_s):
            connection = free.pop()
            connection.ask(sent, requests[sent % len(requests)])
            waiting[connection.socket] = connection
            found.late_ms[sent] = (now_s - due_s) * 1000
            sent += 1
            now_s = time.perf_counter()
        pause_s = ANSWER_LIMIT_S
        if sent < count and free:
            pause_s = max(0.0, start_s + sent / plan.rate_per_s - now_s)
        readable, _, _ = select.select(list(waiting), [], [], pause_s)
        if not readable and pause_s == ANSWER_LIMIT_S:
            raise TimeoutError(f"{len(waiting)} requests were not answered within {ANSWER_LIMIT_S:g} s")
        for each in readable:
            connection = waiting[each]
            if (status := connection.status()) is None:
                continue
            del waiting[each]
            statuses[status] += 1
            number = connection.number
            found.delays_ms[number] = (time.perf_counter() - start_s - number / plan.rate_per_s) * 1000
            free.append(connection)
            answered += 1
    found.statuses = dict(statuses)
    return found


def _request(plan: Plan, path: str) -> bytes:
    headers = {"Host": f"{plan.host}:{plan.port}", **plan.headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def main(_arguments: Sequence[str]) -> None:
    """Read the plan, ask, write the answers."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    gc.freeze()
    gc.disable()  # nothing here refers to itself, and a collection would come between two requests
    went_before = _go_before()
    found = load(plan)
    found.went_before = went_before
    sys.stdout.buffer.write(msgspec.json.encode(found))


def _go_before() -> bool:
    """Have this process scheduled before others; False where the system does not let it."""
    try:
        os.nice(PRIORITY)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv)
