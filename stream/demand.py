"""When the worker wants records, and how long the broker may let it wait for them. Talks to nobody."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

PATIENCE_S = 0.02
"""How long a poll waits for the worker, see `Demand`."""


class Fetching(NamedTuple):
    """How long the broker holds a fetch open, and for how many bytes at least it does not."""

    max_wait_ms: int
    min_bytes: int


IDLE_FETCHING = Fetching(max_wait_ms=20, min_bytes=1)
"""While the worker waits: the next event is answered with at once. Faust's own wait of 1,500 ms would hide as long how
far a topic goes."""

BUSY_BYTES = 65_536
LEAST_BUSY_MS, MOST_BUSY_MS = 2, 10
"""While the worker computes: see `Demand`. What fills `BUSY_BYTES` is a batch worth computing, and waits no longer."""


class Demand:
    """Whether the worker waits for records.

    What is polled while it computes lies in a queue, where nothing can join it: under a light load, events would wait
    for several small batches, each of which costs almost as much as a large one. So a poll waits for the worker, but no
    longer than `PATIENCE_S`: under a heavy load, the next records are fetched while the last are being computed.

    aiokafka fetches once after each poll, at once, and not again before what that brought has been polled. Answered at
    the first event, it would bring one, and all others of the time that the worker computes would wait for the fetch
    after it. So the broker is to hold that fetch open while the worker computes: `busy` says for how long.
    """

    def __init__(self, patience_s: float = PATIENCE_S, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._clock_s = clock_s
        self._delivered_s = clock_s()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self.busy = Fetching(LEAST_BUSY_MS, BUSY_BYTES)

    def delivered(self) -> None:
        """Records are on their way to the worker."""
        self._delivered_s = self._clock_s()
        self._is_idle.clear()

    def taken(self) -> None:
        """The worker has done with what was delivered."""
        if not self._is_idle.is_set():
            took_ms = round((self._clock_s() - self._delivered_s) * 1000)
            self.busy = Fetching(min(max(took_ms, LEAST_BUSY_MS), MOST_BUSY_MS), BUSY_BYTES)
            self._is_idle.set()

    async def wait(self) -> None:
        """Until the worker waits for records, or for `patience_s`."""
        await asyncio.sleep(0)
        if not self._is_idle.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s):
                    await self._is_idle.wait()
