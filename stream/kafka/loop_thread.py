"""An event loop in a thread of its own: what runs there gets on while the caller's loop computes.

Knows nothing of what runs in it. It is watched as the caller's loop is: what hangs in it keeps partitions for ever.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from stream.kafka.stall import StallWatch

T = TypeVar("T")


class Submit(Protocol):
    """Runs coroutines, here or elsewhere, and returns their results as futures of the caller's loop."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> asyncio.Future[T]: ...


def on_this_loop(work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    """A `Submit` without a thread."""
    return asyncio.ensure_future(work)


LONGEST_STOP_S = 10.0


class LoopThread:
    """Starts with the first call of `submit`, and anew with the first one after `stop`."""

    def __init__(self, name: str, watch: Callable[[asyncio.AbstractEventLoop], StallWatch] | None = None) -> None:
        """`watch` makes what looks whether the loop turns; it is called in the thread."""
        self._name = name
        self._watch = watch
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def submit(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Run a coroutine in the thread; returns its result as a future of the caller's loop.

        Coroutines begin in the order of the calls. Cancelling the future cancels the coroutine.
        """
        if self._loop is None:
            self._start()
        assert self._loop is not None
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def stop(self) -> None:
        """Cancel what runs in the thread, and end it."""
        thread, loop, stopping = self._thread, self._loop, self._stopping
        self._thread, self._loop, self._stopping = None, None, None
        if thread is not None and loop is not None and stopping is not None:
            loop.call_soon_threadsafe(stopping.set)
            await asyncio.to_thread(thread.join, LONGEST_STOP_S)

    def _start(self) -> None:
        running = threading.Event()
        # A daemon, since a process that has to end at once does not come to `stop`.
        self._thread = threading.Thread(target=self._run, args=(running,), name=self._name, daemon=True)
        self._thread.start()
        running.wait()

    def _run(self, running: threading.Event) -> None:
        async def turn() -> None:
            self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
            stopping = self._stopping
            watch = None if self._watch is None else self._watch(self._loop)
            if watch is not None:
                watch.start()
            running.set()
            try:
                await stopping.wait()
            finally:
                if watch is not None:
                    watch.stop()

        with asyncio.Runner() as runner:  # which cancels what is left when it ends
            runner.run(turn())
