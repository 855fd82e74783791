"""A loop that hangs is ended and the log says where it hung; one that is only busy is not."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from stream.kafka.stall import StallWatch


def hang_for(seconds: float) -> None:
    time.sleep(seconds)


async def watched(hangs_s: float, limit_s: float) -> list[int]:
    ended: list[int] = []
    watch = StallWatch(asyncio.get_running_loop(), limit_s, "worker", end=ended.append, check_s=0.02)
    watch.start()
    await asyncio.sleep(0.05)
    hang_for(hangs_s)
    await asyncio.sleep(0.1)
    watch.stop()
    return ended


async def test_a_loop_that_hangs_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    assert await watched(hangs_s=0.6, limit_s=0.2) == [1]
    assert "hung for 0 s (stall_timeout_s)" in caplog.text
    assert "hang_for" in caplog.text, "where it was"


async def test_a_loop_that_is_busy_is_not(caplog: pytest.LogCaptureFixture) -> None:
    assert await watched(hangs_s=0.1, limit_s=1.0) == []
    assert caplog.text == ""


async def test_stopping_ends_the_thread() -> None:
    watch = StallWatch(asyncio.get_running_loop(), 1.0, "sink", end=lambda _: None, check_s=0.01)
    watch.start()
    await asyncio.sleep(0.03)
    watch.stop()
    await asyncio.sleep(0.05)
    assert "stall watch" not in {thread.name for thread in threading.enumerate()}


async def test_each_look_is_told_with_the_time_since_the_loop_turned(caplog: pytest.LogCaptureFixture) -> None:
    told: list[float] = []

    def look(still_s: float) -> None:
        told.append(still_s)
        raise KeyError("a look that fails does not end the watch")

    watch = StallWatch(asyncio.get_running_loop(), 1.0, "sink", end=lambda _: None, check_s=0.02, on_look=look)
    watch.start()
    await asyncio.sleep(0.1)
    hang_for(0.2)
    watch.stop()
    assert told[0] == 0
    assert max(told) >= 0.1
    assert "a look at the sink failed" in caplog.text
