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

from events.text import printable
from stream.kafka.stall import StallWatch

QUIET_LOGGERS = ("aiokafka", "faust", "mode", "kafka", "stream")
"""Loggers of libraries; under `stream`, Faust logs the start and stop of its services. Our logger is `foreshock`."""

REPEAT_PASSWORDS = ("aiokafka.conn", "kafka")
"""Loggers of libraries that write whole requests and configurations at the level `debug`, with passwords and tokens."""

COLLECT_SELDOM = (50_000, 20, 100)
"""Thresholds of the garbage collector. With Python's own it runs many times per batch and finds nothing to free."""

REPEATED_EVERY_S = 10.0
"""A message that a library repeats, for example while no broker can be reached, is logged once in this time."""

logger = logging.getLogger("foreshock")


class Repeated(logging.Filter):
    """Suppresses repetitions of a library's message; the next one that is logged says how many were left out."""

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


class OneRecordPerLine(logging.Formatter):
    """Escapes control characters, and indents lines after the first: what a message repeats of an event or of a broker
    can neither change what a terminal shows nor pass for a line of the log."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t").replace("\n", "\n    ")


def set_up_logging(level: str) -> None:
    """Log to standard error; messages of libraries only from warnings upwards, unless `level` is `debug`."""
    logging.basicConfig(level=level.upper(), stream=sys.stderr, force=True)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Repeated())
        handler.setFormatter(OneRecordPerLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    for name in REPEAT_PASSWORDS:
        logging.getLogger(name).setLevel(logging.INFO if level == "debug" else logging.WARNING)


def serve(app: faust.App, failure: Callable[[], BaseException | None], what: str, *, stall_timeout_s: float) -> int:
    """Run `app` until SIGINT or SIGTERM, or until it fails. Returns the exit code: 0, or 1 after a failure.

    `failure` returns the error that ended the app, if there was one. An event loop that hangs for `stall_timeout_s`
    ends the process at once, see `stream.kafka.stall`.
    """
    loop = _new_event_loop()
    asyncio.set_event_loop(loop)
    # Each batch creates thousands of objects, none of them in a reference cycle; the objects of the start-up stay.
    gc.freeze()
    gc.set_threshold(*COLLECT_SELDOM)
    worker: Any = Worker(app, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
    logger.info("%s starts: application %s", what, app.conf.id)
    watch = StallWatch(loop, stall_timeout_s, what)
    watch.start()
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException as error:
        if failure() is None:
            logger.critical("%s stops: %r", what, error, exc_info=error)
        return 1
    finally:
        watch.stop()
    return 1 if failure() is not None else code


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not available on every platform
        return asyncio.new_event_loop()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # Faust's consumer thread makes its own loop from it
    return asyncio.new_event_loop()
