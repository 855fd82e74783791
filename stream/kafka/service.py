"""Runs a Faust app as this process until it is told to stop: event loop, signals, exit code."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Any

from aiokafka.errors import KafkaConnectionError
from faust.worker import Worker

from stream.kafka.faust_app import App
from stream.kafka.rights import denial
from stream.kafka.stall import StallWatch
from stream.logs import log_end, told

COLLECT_SELDOM = (50_000, 20, 100)
"""Thresholds of the garbage collector. With Python's own it runs many times per batch and finds nothing to free."""

logger = logging.getLogger("foreshock")


def serve(
    app: App,
    failure: Callable[[], BaseException | None],
    what: str,
    *,
    stall_timeout_s: float,
    on_look: Callable[[float], None] = lambda _: None,
) -> int:
    """Run `app` until SIGINT or SIGTERM, or until it fails. Returns the exit code: 0, or 1 after a failure.

    `failure` returns the error that ended the app, if there was one. An event loop that hangs for `stall_timeout_s`
    ends the process at once, see `stream.kafka.stall`, which also calls `on_look`.
    """
    loop = _new_event_loop()
    asyncio.set_event_loop(loop)
    # Each batch creates thousands of objects, none of them in a reference cycle; the objects of the start-up stay.
    gc.freeze()
    gc.set_threshold(*COLLECT_SELDOM)
    worker: Any = Worker(app, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
    worker.spinner = None  # it would write to standard output, also where that is no terminal
    logger.info("%s starts: application %s", what, app.conf.id)
    watch = StallWatch(loop, stall_timeout_s, what, on_look=on_look)
    watch.start()
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
        if code and failure() is None:
            logger.critical("%s stops: %s", what, _why(ended.__context__, app))
    except BaseException as error:
        if failure() is None:
            log_end(logger, f"{what} stops", error, denial(error, app.connection))
        return 1
    finally:
        watch.stop()
    return 1 if failure() is not None else code


def _why(error: BaseException | None, app: App) -> str:
    """What ended the app before it was at work, and what to do."""
    if isinstance(error, KafkaConnectionError):
        return f"no Kafka broker answers at its start ({told(error)}); start it again when the brokers are up"
    return "it did not start" if error is None else told(denial(error, app.connection) or error)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not available on every platform
        return asyncio.new_event_loop()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # Faust's consumer thread makes its own loop from it
    return asyncio.new_event_loop()
