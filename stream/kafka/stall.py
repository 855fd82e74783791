"""Ends a process whose event loop hangs, so that others can take its partitions over.

The consumer's own thread goes on sending heartbeats while the loop that processes records hangs: to the group such a
worker is alive, and its partitions stay with it for ever. Knows nothing of what the loop does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Never

CHECK_S = 1.0


class StallWatch:
    """A thread that looks once in `CHECK_S` whether the event loop has turned since.

    After `limit_s` of looks in a row at which it had not, the process ends with exit code 1, and the log says where the
    loop's thread was. Looks are counted and not the clock read: a process that was frozen as a whole, this thread
    included, gets time to turn its loop when it wakes up.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limit_s: float,
        what: str,
        *,
        end: Callable[[int], Never] | Callable[[int], None] = os._exit,
        check_s: float = CHECK_S,
        on_look: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`what` is the name in the log, `worker` or `sink`. Must be made in the thread that runs `loop`.

        `on_look` is called at each look, in this object's thread, with the seconds since the loop turned.
        """
        self._loop = loop
        self._looks = max(round(limit_s / check_s), 1)
        self._limit_s = limit_s
        self._logger = logging.getLogger(f"foreshock.{what}")
        self._what = what
        self._end = end
        self._check_s = check_s
        self._on_look = on_look
        self._turned = threading.Event()
        self._stopped = threading.Event()
        self._loop_thread = threading.get_ident()

    def start(self) -> None:
        """Begin to look; the first look is `CHECK_S` after the loop has turned for the first time."""
        self._loop.call_soon(self._turn)
        threading.Thread(target=self._watch, name="stall watch", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _turn(self) -> None:
        self._turned.set()
        if not self._stopped.is_set():
            self._loop.call_later(self._check_s / 2, self._turn)

    def _tell(self, still_s: float) -> None:
        try:
            self._on_look(still_s)
        except Exception:  # it must not end the watch
            self._logger.exception("a look at the %s failed", self._what)

    def _watch(self) -> None:
        self._turned.wait()
        still = 0
        while not self._stopped.wait(self._check_s):
            still = 0 if self._turned.is_set() else still + 1
            self._turned.clear()
            self._tell(still * self._check_s)
            if still < self._looks:
                continue
            frame = sys._current_frames().get(self._loop_thread)
            stack = "".join(traceback.format_stack(frame)) if frame is not None else "(its thread is gone)\n"
            self._logger.critical(
                "%s stops: its event loop has hung for %.0f s (stall_timeout_s). It was at:\n%s",
                self._what,
                self._limit_s,
                stack,
            )
            self._end(1)
            return
