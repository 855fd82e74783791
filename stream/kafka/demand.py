"""Delays a fetch until a consumer waits for records. Holds no connection and reads nothing."""

from __future__ import annotations

import asyncio
import contextlib

PATIENCE_S = 0.02
"""How long at most a poll waits for the worker, and a fetch for a poll."""


class Demand:
    """Whether a consumer of records is waiting. Producers of records wait for one, but no longer than `patience_s`.

    Records that arrive while the worker computes would be queued as a small batch of their own, and a small batch costs
    almost as much as a large one. So a poll waits until the worker is ready, and a fetch until a poll is. Under heavy
    load `patience_s` passes first, and the next records are fetched while the last ones are being scored.

    Use it from one event loop.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._is_there = asyncio.Event()
        self._is_there.set()

    def begin(self) -> None:
        """From now on a consumer waits for records."""
        self._is_there.set()

    def end(self) -> None:
        """The consumer that waited has records now."""
        self._is_there.clear()

    async def wait(self) -> None:
        """Return when a consumer waits for records, or after `patience_s`."""
        await asyncio.sleep(0)
        if not self._is_there.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s):
                    await self._is_there.wait()
