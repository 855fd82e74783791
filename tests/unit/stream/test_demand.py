"""When a poll waits for the worker, and for how long fetches are to be held open."""

from __future__ import annotations

import asyncio
import time

from stream.demand import LEAST_BUSY_MS, MOST_BUSY_MS, Demand

LONG_S = 60.0


async def test_the_first_poll_waits_for_nobody() -> None:
    await asyncio.wait_for(Demand(LONG_S).wait(), LONG_S / 2)


async def test_a_poll_waits_until_the_worker_has_taken_the_one_before() -> None:
    demand = Demand(LONG_S)
    demand.delivered()
    waiting = asyncio.create_task(demand.wait())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    demand.taken()
    await asyncio.wait_for(waiting, LONG_S / 2)


async def test_a_poll_does_not_wait_for_a_worker_that_is_busy_for_long() -> None:
    demand = Demand(0.01)
    demand.delivered()
    started_s = time.monotonic()
    await asyncio.wait_for(demand.wait(), LONG_S)
    assert time.monotonic() - started_s >= 0.009


async def test_the_broker_holds_fetches_as_long_as_the_worker_computes() -> None:
    now_s = 100.0
    demand = Demand(LONG_S, clock_s=lambda: now_s)
    for took_s, held_ms in ((0.0001, LEAST_BUSY_MS), (0.0062, 6), (3.0, MOST_BUSY_MS)):
        demand.delivered()
        now_s += took_s
        demand.taken()
        demand.taken()  # an empty poll in between is no computation
        assert demand.busy.max_wait_ms == held_ms
