"""What the processes of a desk count, in memory that they share, so that whoever is asked can tell of all of them.

Each process has a part of its own and alone writes to it; who reads adds up. One that is started in the place of
another goes on in its part, so that no counter falls. Knows nothing of Prometheus, and nothing about borrowers: what
is counted by are routes as they are written in the code.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from desk.clerk import Chores
from stream.telemetry.catalogue import DESK_REQUEST_SECONDS
from stream.telemetry.histogram import Histogram

SIGN_INS = ("accepted", "refused", "limited")
"""What became of a try to sign in; `limited`: not looked at, since the address tries too often."""

CHORES = tuple(Chores.__dataclass_fields__)

MOST_REQUEST_KINDS = 1_000
"""Kinds of requests, by route and class of the status, that a process tells apart: more than there are."""

_KEY_BYTES = 96
_BUCKETS = len(DESK_REQUEST_SECONDS.bounds) + 1

_HEAD = np.dtype(
    [
        ("pid", "i8"),
        ("beat_s", "f8"),
        ("still_s", "f8"),
        ("listeners", "i8"),
        ("turned_at_s", "f8"),
        ("sign_ins", "i8", (len(SIGN_INS),)),
        ("chores", "i8", (len(CHORES),)),
        ("kinds", "i8"),
    ]
)
_REQUESTS = np.dtype([("kind", f"S{_KEY_BYTES}"), ("buckets", "i8", (_BUCKETS,)), ("total_s", "f8")])
_PART_BYTES = _HEAD.itemsize + MOST_REQUEST_KINDS * _REQUESTS.itemsize


@dataclass(frozen=True)
class RequestKind:
    """`route` is method and path as the code has them, `none` for what no route takes; `status` is `2xx` and so on."""

    route: str
    status: str


class ProcessFigures:
    """The part of one process. Any thread of it may count."""

    def __init__(self, memory: Any = None) -> None:
        """`memory`: `_PART_BYTES` of it, zeros or what another process left; None for some of its own."""
        kept = bytearray(_PART_BYTES) if memory is None else memory
        self._head: NDArray[np.void] = np.frombuffer(kept, _HEAD, count=1)
        self._requests: NDArray[np.void] = np.frombuffer(kept, _REQUESTS, offset=_HEAD.itemsize)
        self._buckets: NDArray[np.int64] = self._requests["buckets"]
        self._total_s: NDArray[np.float64] = self._requests["total_s"]
        self._lock = threading.Lock()
        self._places: dict[RequestKind, int] = {}

    def begin(self) -> None:
        """This process works with the part from now on: nobody listens yet, its loop turns, and counts go on."""
        self._places = {kind: place for place, kind in enumerate(self._kinds())}
        self._head["pid"] = os.getpid()
        self._head["listeners"] = 0
        self.note_look(0.0)

    def note_look(self, still_s: float) -> None:
        """The event loop was looked at, and has not turned for so long."""
        self._head["still_s"] = still_s
        self._head["beat_s"] = time.monotonic()

    def note_request(self, kind: RequestKind, seconds: float) -> None:
        """A request was answered."""
        bucket = bisect_left(DESK_REQUEST_SECONDS.bounds, seconds)
        with self._lock:
            place = self._places.get(kind)
            if place is None:
                place = self._place_of(kind)
            self._buckets[place, bucket] += 1
            self._total_s[place] += seconds

    def _place_of(self, kind: RequestKind) -> int:
        """A new place, or the last one, where there is no more."""
        place = len(self._places)
        if place == MOST_REQUEST_KINDS - 1:
            kind = RequestKind("none", "other")
        elif place >= MOST_REQUEST_KINDS:
            return MOST_REQUEST_KINDS - 1
        self._requests["kind"][place] = f"{kind.route}\n{kind.status}".encode()
        # Only now, so that who reads finds no half of a name.
        self._head["kinds"] = place + 1
        self._places[kind] = place
        return place

    def note_sign_in(self, outcome: str) -> None:
        """Somebody tried to sign in."""
        with self._lock:
            self._head["sign_ins"][0, SIGN_INS.index(outcome)] += 1

    @contextmanager
    def listening(self) -> Iterator[None]:
        """A page is told of news meanwhile."""
        self._add_listeners(1)
        try:
            yield
        finally:
            self._add_listeners(-1)

    def _add_listeners(self, more: int) -> None:
        with self._lock:
            self._head["listeners"] += more

    def note_turn(self, done: Chores, at_s: float) -> None:
        """The clerk of this process has done its chores, all to their end."""
        with self._lock:
            self._head["chores"][0] += np.array(list(asdict(done).values()))
            self._head["turned_at_s"] = at_s

    def _kinds(self) -> list[RequestKind]:
        names = self._requests["kind"][: int(self._head["kinds"][0])].tolist()
        return [RequestKind(*name.decode().split("\n")) for name in names]

    @property
    def pid(self) -> int:
        """The process; 0 before there was one."""
        return int(self._head["pid"][0])

    @property
    def still_s(self) -> float:
        """For how long the event loop has not turned, or nobody has looked: of a process that has ended, since then."""
        return max(float(self._head["still_s"][0]), self.silent_s)

    @property
    def silent_s(self) -> float:
        """For how long nobody has looked at the event loop; a process that runs looks once a second."""
        return max(0.0, time.monotonic() - float(self._head["beat_s"][0]))

    @property
    def listeners(self) -> int:
        """Pages that are told of news now."""
        return int(self._head["listeners"][0])

    @property
    def turned_at_s(self) -> float:
        """When the clerk of this process last did its chores, in seconds since 1970; 0 for never."""
        return float(self._head["turned_at_s"][0])

    @property
    def sign_ins(self) -> dict[str, int]:
        """Tries to sign in by what became of them."""
        return dict(zip(SIGN_INS, self._head["sign_ins"][0].tolist(), strict=True))

    @property
    def chores(self) -> dict[str, int]:
        """What the clerk of this process has done."""
        return dict(zip(CHORES, self._head["chores"][0].tolist(), strict=True))

    def requests(self) -> Iterator[tuple[RequestKind, NDArray[np.int64], float]]:
        """Of each kind of request how many are in each bucket of seconds, `[buckets]`, and how many seconds in all."""
        for place, kind in enumerate(self._kinds()):
            yield kind, self._buckets[place].copy(), float(self._total_s[place])


class DeskFigures:
    """The parts of all processes: make it before they are forked."""

    def __init__(self, processes: int) -> None:
        # Anonymous and shared: forked processes have the same pages, and they are gone with the last of them.
        memory = memoryview(mmap.mmap(-1, processes * _PART_BYTES))
        self.parts = [
            ProcessFigures(memory[number * _PART_BYTES : (number + 1) * _PART_BYTES]) for number in range(processes)
        ]
        for part in self.parts:
            part.note_look(0.0)

    @property
    def listeners(self) -> int:
        """Pages that are told of news now, by processes that run."""
        return sum(part.listeners for part in self.parts if part.silent_s < SILENT_AFTER_S)

    @property
    def running(self) -> int:
        """Processes that run."""
        return sum(part.silent_s < SILENT_AFTER_S for part in self.parts)

    @property
    def turned_at_s(self) -> float:
        """When a clerk here last did its chores, in seconds since 1970; 0 for never."""
        return max(part.turned_at_s for part in self.parts)

    @property
    def sign_ins(self) -> Mapping[str, int]:
        """Tries to sign in by what became of them."""
        return _sums([part.sign_ins for part in self.parts], SIGN_INS)

    @property
    def chores(self) -> Mapping[str, int]:
        """What clerks here have done."""
        return _sums([part.chores for part in self.parts], CHORES)

    def requests(self) -> dict[RequestKind, Histogram]:
        """How long requests took, by kind."""
        found: defaultdict[RequestKind, Histogram] = defaultdict(DESK_REQUEST_SECONDS.histogram)
        for part in self.parts:
            for kind, buckets, total_s in part.requests():
                found[kind].add(buckets, total_s)
        return dict(found)


SILENT_AFTER_S = 5.0
"""A process that has said nothing for so long has ended, or does not get to run."""


def _sums(counts: list[dict[str, int]], names: tuple[str, ...]) -> dict[str, int]:
    return {name: sum(one[name] for one in counts) for name in names}
