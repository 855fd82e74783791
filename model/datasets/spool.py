"""A spool: sorts events by event time within bounded memory.

External merge sort: sorted runs on disk, merged when read. Takes events as bytes with a sort key; reads no other files.
"""

from __future__ import annotations

import heapq
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import IO, TypeAlias

import msgspec

RUN_EVENTS = 100_000
"""Events that are held and sorted in memory at a time, about 50 MB of them."""
MOST_RUNS = 64
"""Runs that are merged, and files that are open, at a time."""
BUFFER_BYTES = 1 << 18

Item: TypeAlias = tuple[int, int, int, bytes]
"""Event time in ms, rank among events of that time, number in order of arrival, the event's bytes."""

_KEY = itemgetter(0, 1, 2)


class Spool:
    """Sorts items by time, then rank, then arrival. Its files are deleted with it, or by `close()`."""

    def __init__(self, run_events: int = RUN_EVENTS, most_runs: int = MOST_RUNS) -> None:
        self._run_events = run_events
        self._most_runs = most_runs
        self._held: list[Item] = []
        self._runs: list[Path] = []
        self._count = 0
        self._files = 0
        self.folder = Path(tempfile.mkdtemp(prefix="foreshock-spool-"))
        self.close = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def __len__(self) -> int:
        return self._count

    def put(self, time_ms: int, rank: int, payload: bytes) -> None:
        """Take one event."""
        self._held.append((time_ms, rank, self._count, payload))
        self._count += 1
        if len(self._held) >= self._run_events:
            self._write_held()

    def items(self) -> Iterator[Item]:
        """All items in order; may be asked for again, and is the same each time."""
        self._held.sort(key=_KEY)
        return heapq.merge(*(_items_of(run) for run in self._runs), self._held, key=_KEY)

    def _write_held(self) -> None:
        self._held.sort(key=_KEY)
        self._runs.append(self._write(iter(self._held)))
        self._held = []
        if len(self._runs) >= self._most_runs:
            merged = self._write(heapq.merge(*(_items_of(run) for run in self._runs), key=_KEY))
            for run in self._runs:
                run.unlink()
            self._runs = [merged]

    def _write(self, items: Iterator[Item]) -> Path:
        self._files += 1
        path = self.folder / f"run-{self._files}"
        encode = msgspec.msgpack.Encoder().encode
        with path.open("wb", BUFFER_BYTES) as file:
            for item in items:
                content = encode(item)
                file.write(len(content).to_bytes(4, "little") + content)
        return path


def _items_of(path: Path) -> Iterator[Item]:
    decode = msgspec.msgpack.Decoder(Item).decode
    with path.open("rb", BUFFER_BYTES) as file:
        while header := _exactly(file, 4):
            yield decode(_exactly(file, int.from_bytes(header, "little")))


def _exactly(file: IO[bytes], size: int) -> bytes:
    return file.read(size)
