"""How long who brings records waits for somebody who wants them."""

from __future__ import annotations

import asyncio
import time

from stream.kafka.demand import Demand

LONG_S = 60.0


async def waiting_in_vain() -> tuple[Demand, asyncio.Task[None]]:
    """A demand that has ended, and somebody who has begun to wait for the next."""
    demand = Demand(LONG_S)
    demand.end()
    waiting = asyncio.create_task(demand.wait())
    for _ in range(5):
        await asyncio.sleep(0)
    return demand, waiting


async def test_the_first_records_wait_for_nobody() -> None:
    await asyncio.wait_for(Demand(LONG_S).wait(), LONG_S / 2)


async def test_records_wait_until_somebody_wants_them() -> None:
    demand, waiting = await waiting_in_vain()
    assert not waiting.done()
    demand.begin()
    await asyncio.wait_for(waiting, LONG_S / 2)


async def test_a_demand_that_has_ended_again_still_wakes_who_waited_for_it() -> None:
    """A poll that finds records at once ends its demand before a fetch that waits has run."""
    demand, waiting = await waiting_in_vain()
    demand.begin()
    demand.end()
    await asyncio.wait_for(waiting, LONG_S / 2)


async def test_nobody_waits_for_long() -> None:
    demand = Demand(0.01)
    demand.end()
    started_s = time.monotonic()
    await asyncio.wait_for(demand.wait(), LONG_S)
    assert time.monotonic() - started_s >= 0.009
