"""Asks for paths over HTTP at a fixed rate, whether or not answers keep up, from a process of its own.

A delay runs from the time at which a request was due, not from the time at which it was sent: a server that stalls
makes all the requests late that fell due meanwhile. As a program: reads a plan from its standard input, writes the
delays.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence

import msgspec
import uvloop

CONNECTIONS = 32
LEAD_S = 0.2
ANSWER_LIMIT_S = 30.0


class Plan(msgspec.Struct):
    """What to ask for: each of `paths` in turn, `rate_per_s` for `seconds`."""

    host: str
    port: int
    paths: list[str]
    headers: dict[str, str]
    rate_per_s: float
    seconds: float


class Answers(msgspec.Struct):
    """Delays in milliseconds, in the order in which requests were due, and how many had which status; 0 for none."""

    delays_ms: list[float]
    statuses: dict[int, int]


class _Pool:
    """Open connections; a request takes one and gives it back."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def open(self) -> None:
        for _ in range(CONNECTIONS):
            self._free.put_nowait(await asyncio.open_connection(self._plan.host, self._plan.port))

    async def ask(self, request: bytes) -> int:
        reader, writer = await self._free.get()
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            lengths = [line.partition(b":")[2] for line in lines if line.lower().startswith(b"content-length:")]
            if lengths and int(lengths[0]):
                await reader.readexactly(int(lengths[0]))
            self._free.put_nowait((reader, writer))
            return int(lines[0].split(b" ")[1])
        except (OSError, EOFError, asyncio.LimitOverrunError):
            writer.close()
            self._free.put_nowait(await asyncio.open_connection(self._plan.host, self._plan.port))
            return 0

    async def close(self) -> None:
        while not self._free.empty():
            self._free.get_nowait()[1].close()


async def load(plan: Plan) -> Answers:
    """Ask as planned; returns once all have answered. Raises `TimeoutError` when that takes too long."""
    requests = [_request(plan, path) for path in plan.paths]
    pool = _Pool(plan)
    await pool.open()
    count = round(plan.rate_per_s * plan.seconds)
    delays_ms = [0.0] * count
    statuses: Counter[int] = Counter()

    async def ask(number: int, due_s: float) -> None:
        statuses[await pool.ask(requests[number % len(requests)])] += 1
        delays_ms[number] = (time.perf_counter() - due_s) * 1000

    start_s = time.perf_counter() + LEAD_S
    tasks: list[asyncio.Task[None]] = []
    for number in range(count):
        due_s = start_s + number / plan.rate_per_s
        if (early_s := due_s - time.perf_counter()) > 0:
            await asyncio.sleep(early_s)
        tasks.append(asyncio.create_task(ask(number, due_s)))
    async with asyncio.timeout(ANSWER_LIMIT_S):
        await asyncio.gather(*tasks)
    await pool.close()
    return Answers(delays_ms, dict(statuses))


def _request(plan: Plan, path: str) -> bytes:
    headers = {"Host": f"{plan.host}:{plan.port}", **plan.headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def main(_arguments: Sequence[str]) -> None:
    """Read the plan, ask, write the answers."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answers = runner.run(load(plan))
    sys.stdout.buffer.write(msgspec.json.encode(answers))


if __name__ == "__main__":
    main(sys.argv)
