"""Runs a Faust app as this process until it is told to stop: event loop, logging, signals, exit code."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable
from typing import Any

import faust
from faust.worker import Worker

QUIET_LOGGERS = ("aiokafka", "faust", "mode", "kafka", "stream")
"""Libraries, and `stream`, under which Faust's services log their comings and goings. Ours is `foreshock`."""

COLLECT_SELDOM = (50_000, 20, 100)
"""Thresholds of the garbage collector: with Python's own it runs many times per batch and finds nothing."""

REPEATED_EVERY_S = 10.0
"""A complaint that a library repeats, as while brokers are away, is logged once in so many seconds."""

logger = logging.getLogger("foreshock")


class Repeated(logging.Filter):
    """Leaves out what a library logs again and again, and says how often with the next line of the kind."""

    def __init__(self) -> None:
        super().__init__()
        self._logged: dict[tuple[str, object], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in QUIET_LOGGERS or record.levelno < logging.WARNING:
            return True
        kind = record.name, record.msg
        logged_s, left_out = self._logged.get(kind, (-REPEATED_EVERY_S, 0))
        if record.created - logged_s < REPEATED_EVERY_S:
            self._logged[kind] = logged_s, left_out + 1
            return False
        self._logged[kind] = record.created, 0
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} more of the kind)", ()
        return True


def set_up_logging(level: str) -> None:
    """Log to standard error; the libraries' own chatter only from warnings upwards, unless debugging."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(Repeated())
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)


def serve(app: faust.App, failure: Callable[[], BaseException | None], what: str) -> int:
    """Run `app` until SIGINT or SIGTERM, or until it fails. Returns the exit code: 0, or 1 after a failure.

    `failure` tells what made the app give up, if anything did.
    """
    loop = _new_event_loop()
    asyncio.set_event_loop(loop)
    # Batches make objects by the thousand that no cycle ever holds; what is there now stays.
    gc.freeze()
    gc.set_threshold(*COLLECT_SELDOM)
    worker: Any = Worker(app, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
    logger.info("%s starts: application %s", what, app.conf.id)
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException as error:
        if failure() is None:
            logger.critical("%s stops: %r", what, error, exc_info=error)
        return 1
    return 1 if failure() is not None else code


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not available on every platform
        return asyncio.new_event_loop()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # Faust's consumer thread makes its own loop from it
    return asyncio.new_event_loop()
