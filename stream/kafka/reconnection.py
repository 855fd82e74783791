"""Pauses between attempts to reach brokers, and measures how long none has answered.

By itself, aiokafka repeats a failed metadata update at once, as fast as connections are refused, and never again where
one ended with an error that it did not expect. This replaces one method of one aiokafka client and knows nothing of the
client's user.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from stream.logs import ToldInFull

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
"""Pauses double from the first to the longest. Each is shortened at random by up to half, so that many clients do not
retry at the same time."""

logger = logging.getLogger("foreshock.kafka")


class BrokersUnreachable(ToldInFull):
    """No broker has answered for longer than `broker_timeout_s`; the message says how long and what to do."""


class Reconnection:
    """Adds pauses to the metadata updates of `client`, and repeats a failed one until a broker answers."""

    def __init__(
        self,
        client: Any,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._update = client._metadata_update
        self._monotonic = monotonic
        self._sleep = sleep
        self._failures = 0
        self._since_s: float | None = None
        client._metadata_update = self._update_patiently

    @property
    def unreachable_s(self) -> float:
        """Seconds since brokers first failed to answer; 0 while they do."""
        since_s = self._since_s
        return 0.0 if since_s is None else self._monotonic() - since_s

    async def _update_patiently(self, *arguments: Any) -> bool:
        try:
            updated = await self._update(*arguments)
        except Exception as error:
            # It would end the task that makes all updates of this client, which would never see a broker again.
            logger.warning("brokers could not be asked for metadata, trying again: %r", error)
            updated = False
        if updated:
            self._failures, self._since_s = 0, None
            return True
        if self._since_s is None:
            self._since_s = self._monotonic()
        pause_s = min(FIRST_PAUSE_S * 2**self._failures, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)
        self._failures = min(self._failures + 1, 32)
        await self._sleep(pause_s)
        # Nothing else may ask for an update after this one failed, and the client would stay without metadata.
        asyncio.get_running_loop().call_soon(self._client.force_metadata_update)
        return False
