"""How a worker or a sink ends when it cannot go on: logged once, nothing more committed, exit code 1.

Knows the app that it ends and not what went wrong.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from stream.kafka.rights import denial
from stream.logs import log_end

SHUTDOWN_LIMIT_S = 15.0
"""How long a failed app may take to stop before the process is ended without it."""


class Failure:
    """The failure of one Faust app, if it has failed. Call it with an error to fail."""

    def __init__(self, app: Any, what: str) -> None:
        """`what` is the app's name in the log, `worker` or `sink`."""
        self.error: BaseException | None = None
        self._app = app
        self._what = what
        self._logger = logging.getLogger(f"foreshock.{what}")
        self._crashing: asyncio.Task[None] | None = None

    def __bool__(self) -> bool:
        """Whether the app has failed."""
        return self.error is not None

    def __call__(self, error: BaseException) -> None:
        """End the process: what is not durable is not committed and will be read again. Only the first failure counts.

        Must be called in the app's event loop.
        """
        if self.error is not None:
            return
        self.error = error
        log_end(self._logger, f"{self._what} stops", error, denial(error, self._app.connection))
        loop = asyncio.get_running_loop()
        # Stopping flushes and leaves the group; it must not hang on the very thing that failed.
        loop.call_later(SHUTDOWN_LIMIT_S, os._exit, 1)
        self._crashing = loop.create_task(self._app.crash(error))
