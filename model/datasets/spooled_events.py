"""Spooled events: a data set's events sorted by time on disk, each with where it comes from, and each id once.

An id is one event of its user, as the topics demand: a second event of that id with other content is an error, and an
exact repetition is left out, as in serving. Of each event, eight bytes stay in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import xxhash

from events.types import EVENT_TYPES, Event, Kind, encode_event
from model.datasets.dataset import DatasetError
from model.datasets.spool import Spool
from model.datasets.table_files import Place


class Origin(NamedTuple):
    """The row that an event comes from: its file, its place, and, of a wide row, the number of the period."""

    file: Path
    place: Place
    period: int | None

    def __str__(self) -> str:
        period = "" if self.period is None else f", number {self.period}"
        return f"{self.file}, {self.place}{period}"


_File = tuple[Path, str]
_Stored = tuple[int, int, int | None, bytes]
"""Position of the file among `_files`, row, period, and the event's JSON."""


class SpooledEvents:
    """Takes events in any order and gives them in the order of time, kind (by `ranks`) and arrival.

    `put` all, then `check` once; then iterate as often as wanted.
    """

    def __init__(self, ranks: Mapping[Kind, int]) -> None:
        self._ranks = ranks
        self._spool = Spool()
        self._files: dict[_File, int] = {}
        self._hashes = array("Q")
        self._repeated: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self._spool)

    def put(self, event: Event, origin: Origin) -> None:
        """Take one event."""
        file_no = self._files.setdefault((origin.file, origin.place.unit), len(self._files))
        stored: _Stored = (file_no, origin.place.number, origin.period, encode_event(event))
        self._hashes.append(_hash(event))
        time_ms = round(event.occurred_at.timestamp() * 1000)
        self._spool.put(time_ms, self._ranks[event.KIND], _ENCODE(stored))

    def check(self) -> None:
        """Whether every id stands for one event of its user. Raises `DatasetError`, which names both rows."""
        hashes = np.sort(np.frombuffer(self._hashes, dtype=np.uint64))
        self._repeated = frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        self._hashes = array("Q")
        if self._repeated:
            for _ in self:
                pass

    def __iter__(self) -> Iterator[Event]:
        decoders = {rank: msgspec.json.Decoder(EVENT_TYPES[kind]).decode for kind, rank in self._ranks.items()}
        files = list(self._files)
        seen: dict[tuple[str, str], tuple[int, _Stored]] = {}
        for _, rank, _, payload in self._spool.items():
            stored: _Stored = _DECODE(payload)
            event = decoders[rank](stored[3])
            if self._repeated and _hash(event) in self._repeated:
                # The content is kept as its hash: what is repeated may be all of a table.
                content = xxhash.xxh3_64_intdigest(stored[3], rank)
                known = seen.setdefault((event.user_id, event.event_id), (content, (*stored[:3], b"")))
                if known[0] != content:
                    raise DatasetError(_told(event, _origin(files, stored), _origin(files, known[1])))
                if known[1][:3] != stored[:3]:
                    continue
            yield event


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(tuple[int, int, int | None, bytes]).decode


def _hash(event: Event) -> int:
    return xxhash.xxh3_64_intdigest(f"{event.user_id}\x1f{event.event_id}".encode())


def _origin(files: list[_File], stored: _Stored) -> Origin:
    file, unit = files[stored[0]]
    return Origin(file, Place(unit, stored[1]), stored[2])


def _told(event: Event, here: Origin, there: Origin) -> str:
    return (
        f"{here}: event_id {event.event_id!r} of user {event.user_id!r} also stands for another event ({there}); each "
        'event of a user needs an id of its own: leave event_id out, or make it of several columns, join = ["…", "…"]'
    )
