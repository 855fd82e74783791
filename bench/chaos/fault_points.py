"""Runs a worker or a sink with faults in it: dies at a step of the commit, sends in vain, or has a clock that jumps.

What is imported by nobody is off in production: the faults are put over the code from here, by name, in the process of
one run only. `python -m bench.chaos.fault_points ORDERS worker …` is `foreshock worker …` under the `Orders` given as
JSON; tests call `arm` first in a worker of theirs.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, NamedTuple

import msgspec

When = Literal["before", "after"]

ANNOUNCEMENT = "fault point:"
"""What a line in the log begins with when a fault comes to pass."""


class Step(NamedTuple):
    """A function of the worker, as `module:class.function`, and whether the fault comes before or after its work."""

    function: str
    when: When


STEPS: dict[str, Step] = {
    "fencing": Step("stream.kafka.transactions:Transactions._start", "after"),
    "recovery": Step("stream.worker.store:SlabStore.apply_changelog_batch", "before"),
    "outputs": Step("stream.kafka.transactions:Transactions.send", "before"),
    "cut": Step("stream.kafka.transactions:Transactions.cut", "after"),
    "rows": Step("stream.worker.cut:IntervalCut.publish_rows", "before"),
    "rows acknowledged": Step("stream.kafka.transactions:Transaction.delivered", "after"),
    "offsets": Step("stream.kafka.transactions:Transaction.commit", "before"),
    "commit": Step("aiokafka:AIOKafkaProducer.commit_transaction", "before"),
    "committed": Step("stream.kafka.transactions:Transaction.commit", "after"),
    "archive": Step("stream.worker.store:SlabStore.archive", "after"),
    "drain": Step("stream.worker.engine:Engine.drain", "before"),
}
"""Where a worker can be made to end, in the order of their coming: `fencing` takes partitions over from their former
owner, `recovery` reads states back, and `drain` comes before partitions are given away."""

HAND_OVER_STEPS: dict[str, Step] = {
    "before a hand-over": Step("stream.hand_over.fence:Fence.hand_over", "before"),
    "after a hand-over": Step("stream.hand_over.fence:Fence.hand_over", "after"),
}
"""Where `replay promote` and `rollback` can be made to end, once for each partition."""

NOT_SENT, LOST = "a record batch is not sent", "an acknowledgement is lost"
SENDING = Step("aiokafka:AIOKafkaProducer.send_batch", "before")


class Orders(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to go wrong in one process, and the settings that it starts with.

    `dies_at` is a step and how often it has to come. `sends_in_vain` counts the record batches up to the one that is
    not sent, `unanswered` those up to the one whose acknowledgement is lost; 0 is none. `jumps` are pairs of seconds
    after the start and of seconds by which the wall clock is wrong from then on. 0 leaves a transaction its timeout.
    """

    settings: dict[str, str] = {}
    dies_at: tuple[str, int] | None = None
    sends_in_vain: int = 0
    unanswered: int = 0
    jumps: list[tuple[float, float]] = []
    transaction_timeout_ms: int = 0


def arm(step: str, times: int) -> None:
    """Let this process end by SIGKILL when it has come to a step of `STEPS` or `HAND_OVER_STEPS` so often."""
    at = _countdown(times)

    def fault() -> None:
        if at():
            announce(f"ends at {step!r}")
            os.kill(os.getpid(), signal.SIGKILL)

    _around((STEPS | HAND_OVER_STEPS)[step], fault)


def fail_sending(times: int) -> None:
    """Let one record batch be refused by the producer, as when its buffer stays full."""
    from aiokafka.errors import KafkaTimeoutError

    at = _countdown(times)

    def fault() -> None:
        if at():
            announce(NOT_SENT)
            raise KafkaTimeoutError

    _around(SENDING, fault)


def lose_acknowledgement(times: int) -> None:
    """Let one record batch arrive and its acknowledgement not: the broker has it, and the producer is told nothing."""
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import RequestTimedOutError

    original, at = AIOKafkaProducer.send_batch, _countdown(times)

    async def send_batch(self: Any, *arguments: Any, **options: Any) -> Any:
        sent = await original(self, *arguments, **options)
        if not at():
            return sent
        announce(LOST)
        await sent
        lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        lost.set_exception(RequestTimedOutError())
        return lost

    AIOKafkaProducer.send_batch = send_batch


def let_clock_jump(jumps: list[tuple[float, float]]) -> None:
    """Let the wall clock of this process be wrong; what measures durations goes on."""
    begun_s = time.monotonic()
    real_s, real_ns = time.time, time.time_ns

    def wrong_s() -> float:
        since_s = time.monotonic() - begun_s
        return next((by_s for after_s, by_s in reversed(jumps) if since_s >= after_s), 0.0)

    time.time = lambda: real_s() + wrong_s()
    time.time_ns = lambda: real_ns() + int(wrong_s() * 1e9)


def announce(what: str) -> None:
    """Write to the log at once."""
    os.write(2, f"{ANNOUNCEMENT} {what}\n".encode())


def command(orders: Orders, *arguments: str) -> list[str]:
    """The command line of a `foreshock` process under `orders`."""
    return [sys.executable, "-m", "bench.chaos.fault_points", msgspec.json.encode(orders).decode(), *arguments]


def _countdown(times: int) -> Callable[[], bool]:
    """Whether this is call number `times`."""
    calls = 0

    def at() -> bool:
        nonlocal calls
        calls += 1
        return calls == times

    return at


def _around(step: Step, fault: Callable[[], None]) -> None:
    """Call `fault` before or after a function's work, whether it is asynchronous or not."""
    module, _, path = step.function.partition(":")
    owner_name, _, name = path.rpartition(".")
    owner = getattr(import_module(module), owner_name)
    original = getattr(owner, name)

    async def later(*arguments: Any, **options: Any) -> Any:
        if step.when == "before":
            fault()
        result = await original(*arguments, **options)
        if step.when == "after":
            fault()
        return result

    def now(*arguments: Any, **options: Any) -> Any:
        if step.when == "before":
            fault()
        result = original(*arguments, **options)
        if step.when == "after":
            fault()
        return result

    setattr(owner, name, functools.wraps(original)(later if inspect.iscoroutinefunction(original) else now))


def apply(orders: Orders) -> None:
    """Put the faults of `orders` over this process; its settings become variables of the environment."""
    os.environ.update({f"FORESHOCK_{name.upper()}": value for name, value in orders.settings.items()})
    if orders.jumps:
        let_clock_jump(orders.jumps)
    if orders.dies_at is not None:
        arm(*orders.dies_at)
    if orders.sends_in_vain:
        fail_sending(orders.sends_in_vain)
    if orders.unanswered:
        lose_acknowledgement(orders.unanswered)
    if orders.transaction_timeout_ms:
        from stream.kafka import transport

        transport.TRANSACTION_TIMEOUT_MS = orders.transaction_timeout_ms


def main() -> None:
    apply(msgspec.json.decode(sys.argv[1], type=Orders))
    sys.argv = ["foreshock", *sys.argv[2:]]
    runpy.run_module("foreshock", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
