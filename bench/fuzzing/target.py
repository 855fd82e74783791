"""What a target of fuzzing is: it takes any bytes, and says what became of them, or fails.

A target knows good inputs to begin with, and what must hold whatever the bytes are: one of the documented outcomes,
never another exception, and nothing taken that is not what was sent.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from bench.fuzzing.mutation import BYTES, Grammar

NOW_MS = int(dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp() * 1000)
"""Wall time, for what is told it."""

Check = Callable[[bytes], str]
"""Takes one input and returns its outcome, with details after a colon; raises where something does not hold."""


def unchanged(content: bytes, random: Random) -> bytes:  # noqa: ARG001
    """For targets whose inputs need no repair."""
    return content


@dataclass(frozen=True)
class Target:
    """`prepare` gives the check, with whatever it needs, once for a process. `repair` makes a mutated input pass the
    first checks, checksums for instance, often enough for what is behind them to be reached."""

    name: str
    about: str
    seeds: Callable[[], list[bytes]]
    prepare: Callable[[], Check]
    grammar: Grammar = BYTES
    largest: int = 4_096
    repair: Callable[[bytes, Random], bytes] = unchanged


def require(holds: bool, what: str) -> None:
    """Fail, also under `python -O`, where something does not hold."""
    if not holds:
        raise AssertionError(what)
