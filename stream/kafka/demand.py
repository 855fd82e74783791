"""Who waits for records, so that nothing is fetched before it is wanted. Talks to nobody."""

from __future__ import annotations

import asyncio
import contextlib

PATIENCE_S = 0.02
"""How long at most a poll waits for the worker, and a fetch for a poll."""


class Demand:
    """Whether somebody waits for records; whoever brings them waits for that, but no longer than `patience_s`.

    What is brought while the worker computes lies in a queue, where nothing can join it: under a light load, events
    would wait for several small batches, each of which costs almost as much as a large one. So a poll waits for the
    worker, and a fetch for a poll. Under a heavy load patience ends first, and the next records are fetched while the
    last are being computed.

    For one event loop.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._is_there = asyncio.Event()
        self._is_there.set()

    def begin(self) -> None:
        """Somebody waits for records from here on."""
        self._is_there.set()

    def end(self) -> None:
        """Who waited has records."""
        self._is_there.clear()

    async def wait(self) -> None:
        """Until somebody waits for records, or for `patience_s`."""
        await asyncio.sleep(0)
        if not self._is_there.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s):
                    await self._is_there.wait()
