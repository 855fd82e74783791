"""Work in a thread of its own begins in order, and its results, failures and cancellations come back."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from stream.kafka.loop_thread import LoopThread
from stream.kafka.stall import StallWatch


async def test_work_begins_in_order_and_goes_on_while_the_caller_computes() -> None:
    thread, begun = LoopThread("sending"), []

    async def work(number: int) -> tuple[int, str, float]:
        begun.append(number)
        for _ in range(10):
            await asyncio.sleep(0.001)
        return number, threading.current_thread().name, time.monotonic()

    results = [thread.submit(work(number)) for number in range(50)]
    time.sleep(0.5)  # what computes does not let the loop turn
    computed_s = time.monotonic()
    found = await asyncio.gather(*results)
    await thread.stop()
    assert begun == [number for number, _, _ in found] == list(range(50))
    assert {name for _, name, _ in found} == {"sending"}
    assert all(done_s < computed_s for _, _, done_s in found)


async def test_failures_and_cancellations_come_through() -> None:
    thread, cancelled = LoopThread("sending"), threading.Event()

    async def fails() -> None:
        raise ConnectionError("the broker is gone")

    async def waits() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()

    with pytest.raises(ConnectionError, match="gone"):
        await thread.submit(fails())
    waiting = thread.submit(waits())
    await thread.submit(asyncio.sleep(0))
    waiting.cancel()
    assert await asyncio.to_thread(cancelled.wait, 5)
    await thread.stop()


async def test_what_runs_at_its_end_is_cancelled_and_it_can_begin_anew() -> None:
    thread = LoopThread("sending")
    await thread.stop()
    waiting = thread.submit(asyncio.sleep(3600))
    await thread.stop()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await thread.submit(asyncio.sleep(0, "again")) == "again"
    await thread.stop()
    assert "sending" not in {found.name for found in threading.enumerate()}


async def test_a_thread_that_hangs_is_noticed() -> None:
    ended, hung = threading.Event(), threading.Event()

    async def hangs() -> None:
        hung.wait(10)

    def watch(loop: asyncio.AbstractEventLoop) -> StallWatch:
        return StallWatch(loop, 0.2, "worker", end=lambda _: ended.set(), check_s=0.02)

    thread = LoopThread("sending", watch)
    await thread.submit(asyncio.sleep(0.5))  # turns, and is not ended
    assert not ended.is_set()
    hanging = thread.submit(hangs())
    assert await asyncio.to_thread(ended.wait, 10)
    hung.set()
    await hanging
    await thread.stop()
