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

logger = logging.getLogger("foreshock")


def set_up_logging(level: str) -> None:
    """Log to standard error; the libraries' own chatter only from warnings upwards, unless debugging."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
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
