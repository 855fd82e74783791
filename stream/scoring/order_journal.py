"""The order in which a worker took the events of a partition, as its order journal keeps it, a record for each commit.

Within a topic the order is that of offsets, so all that must be kept is how the four topics were interleaved and which
records were refused: a clock decides about some of those, and a later release may decide otherwise. Runs are told by
offsets and not by counts, since compaction and aborted transactions leave gaps. Where another application takes the
partition over, a hand-over says so, with the alerts that go over. Pure.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.types import KINDS
from stream.alerts.carry_over import is_sound
from stream.alerts.state_machine import ALERT_STATE

VERSION = 1
HAND_OVER_VERSION = 2
"""Of a record that tells of a hand-over, which an older release must not pass over."""

MOST_BYTES = 256 * 1024 * 1024
"""A record that unpacks to more is refused: no worker writes one."""


class UnreadableOrder(ValueError):
    """A record of an order journal that this release did not write, or that a later one did; the message says which."""


class _Content(msgspec.Struct, array_like=True):
    """What is packed: arrays as little-endian bytes."""

    version: int
    starts: list[int]
    ends: list[int]
    kinds: bytes
    lasts: bytes
    refused: list[bytes]


class _HandOverContent(msgspec.Struct, array_like=True):
    version: int
    starts: list[int]
    giver: str
    taker: str
    keys: list[bytes]
    alerts: bytes
    last: bool


@dataclass(frozen=True)
class HandOver:
    """One application gives a partition to another one, from the `ends` of its record on.

    `keys` are users who have or had an alert with the `giver`, `alerts` ALERT_STATE `[n]` theirs; all others have none.
    They may need several records, one after the other, of which the last is `last`.
    """

    giver: str
    taker: str
    keys: tuple[bytes, ...]
    alerts: NDArray[np.void]
    last: bool = True


@dataclass(frozen=True)
class OrderRecord:
    """What was taken of one partition between two commits. Kinds are positions in `KINDS`.

    `starts` and `ends` have, by kind, the offset that was to be read next before and after it. `kinds` int64 `[n]` and
    `lasts` int64 `[n]` are runs: all that was taken of a kind from where its run before ended up to and including the
    offset in `lasts`. `refused` has, by kind, int64 offsets of records from `starts` on that were refused. Where
    there is a `hand_over`, nothing was taken.
    """

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    kinds: NDArray[np.int64]
    lasts: NDArray[np.int64]
    refused: tuple[NDArray[np.int64], ...]
    hand_over: HandOver | None = None

    @classmethod
    def of_hand_over(cls, ends: Sequence[int], hand_over: HandOver) -> OrderRecord:
        """Of a hand-over by an application whose next offsets to read are `ends`, by kind."""
        none = np.empty(0, dtype=np.int64)
        return cls(tuple(ends), tuple(ends), none, none, (none,) * len(KINDS), hand_over)

    def encode(self) -> bytes:
        """The value of the record in the journal: a version byte and compressed MessagePack."""
        if self.hand_over is not None:
            return _packed(HAND_OVER_VERSION, _hand_over_content(self.ends, self.hand_over))
        content = _Content(
            VERSION,
            list(self.starts),
            list(self.ends),
            self.kinds.astype("<u1").tobytes(),
            self.lasts.astype("<i8").tobytes(),
            [offsets.astype("<i8").tobytes() for offsets in self.refused],
        )
        return _packed(VERSION, content)

    @classmethod
    def decode(cls, value: bytes | None) -> OrderRecord:
        """Raises `UnreadableOrder`."""
        if not value:
            raise UnreadableOrder("a record without a value")
        if value[0] not in _DECODERS:
            raise UnreadableOrder(
                f"a record of version {value[0]}; this release reads versions {VERSION} and {HAND_OVER_VERSION}"
            )
        try:
            unpacking = zlib.decompressobj()
            packed = unpacking.decompress(value[1:], MOST_BYTES)
            if not unpacking.eof:
                raise UnreadableOrder("a record that is cut off or too large")
            found = _DECODERS[value[0]](packed)
        except (zlib.error, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise error if isinstance(error, UnreadableOrder) else UnreadableOrder(str(error)) from None
        kinds = len(KINDS)
        if not len(found.starts) == len(found.ends) == len(found.refused) == kinds:
            raise UnreadableOrder(f"a record of {len(found.starts)} kinds, not {kinds}")
        if not all(0 <= offset < 1 << 63 for offset in (*found.starts, *found.ends)):
            raise UnreadableOrder("a record with a number that is no offset")
        if len(found.kinds) != len(found.lasts) or (found.kinds >= kinds).any():
            raise UnreadableOrder("a record whose runs are malformed")
        return found


HAND_OVER_BYTES = 512 * 1024
"""About so much of users' alerts is in one record of a hand-over: a topic takes a megabyte unless told otherwise."""


def hand_over_records(
    ends: Sequence[int], giver: str, taker: str, alerts: Mapping[bytes, NDArray[np.void]]
) -> list[OrderRecord]:
    """The records that tell of a hand-over; `alerts` are ALERT_STATE by user, of those who have or had an alert."""
    parts: list[list[bytes]] = [[]]
    size = 0
    for key in alerts:
        size += len(key) + ALERT_STATE.itemsize
        if size > HAND_OVER_BYTES and parts[-1]:
            parts.append([])
            size = len(key) + ALERT_STATE.itemsize
        parts[-1].append(key)
    found = []
    for number, keys in enumerate(parts, 1):
        states = np.array([alerts[key] for key in keys], dtype=ALERT_STATE)
        told = HandOver(giver, taker, tuple(keys), states, number == len(parts))
        found.append(OrderRecord.of_hand_over(ends, told))
    return found


def joined(parts: Sequence[OrderRecord]) -> OrderRecord:
    """One record for all those of a hand-over. Raises `UnreadableOrder` where they tell of a user twice."""
    told = [part.hand_over for part in parts if part.hand_over is not None]
    keys = tuple(key for one in told for key in one.keys)
    if len(set(keys)) < len(keys):
        raise UnreadableOrder(f"a hand-over with {len(keys)} alerts of {len(set(keys))} users")
    alerts = np.concatenate([one.alerts for one in told])
    return OrderRecord.of_hand_over(parts[-1].ends, HandOver(told[-1].giver, told[-1].taker, keys, alerts))


def _packed(version: int, content: msgspec.Struct) -> bytes:
    return bytes([version]) + zlib.compress(msgspec.msgpack.encode(content), 1)


def _taken(packed: bytes) -> OrderRecord:
    content = msgspec.msgpack.decode(packed, type=_Content)
    return OrderRecord(
        tuple(content.starts),
        tuple(content.ends),
        np.frombuffer(content.kinds, dtype="<u1").astype(np.int64),
        np.frombuffer(content.lasts, dtype="<i8").astype(np.int64),
        tuple(np.frombuffer(offsets, dtype="<i8").astype(np.int64) for offsets in content.refused),
    )


def _hand_over_content(ends: Sequence[int], told: HandOver) -> _HandOverContent:
    alerts = np.ascontiguousarray(told.alerts).tobytes()
    return _HandOverContent(HAND_OVER_VERSION, list(ends), told.giver, told.taker, list(told.keys), alerts, told.last)


def _handed_over(packed: bytes) -> OrderRecord:
    content = msgspec.msgpack.decode(packed, type=_HandOverContent)
    alerts = np.frombuffer(content.alerts, dtype=ALERT_STATE)
    if not len(alerts) == len(content.keys) == len(set(content.keys)):
        raise UnreadableOrder(f"a hand-over with {len(alerts)} alerts of {len(set(content.keys))} users")
    if not is_sound(alerts).all():
        raise UnreadableOrder("a hand-over with alerts that can be none")
    told = HandOver(content.giver, content.taker, tuple(content.keys), alerts, content.last)
    return OrderRecord.of_hand_over(content.starts, told)


_DECODERS = {VERSION: _taken, HAND_OVER_VERSION: _handed_over}


@dataclass
class OrderLog:
    """Collects what a worker takes of one partition until the next commit."""

    _kinds: list[NDArray[np.int64]] = field(default_factory=list)
    _lasts: list[NDArray[np.int64]] = field(default_factory=list)
    _refused: list[list[int]] = field(default_factory=lambda: [[] for _ in KINDS])
    _firsts: list[int | None] = field(default_factory=lambda: [None] * len(KINDS))

    def took(self, kind_no: NDArray[np.int64], offset: NDArray[np.int64]) -> None:
        """Events were taken in this order, int64 `[n]`; of each kind in the order of offsets."""
        if not len(kind_no):
            return
        for kind in np.unique(kind_no).tolist():
            self._begin(kind, int(offset[np.argmax(kind_no == kind)]))
        ends = np.append(np.flatnonzero(kind_no[1:] != kind_no[:-1]), len(kind_no) - 1)
        self._kinds.append(kind_no[ends])
        self._lasts.append(offset[ends])

    def refused(self, kind_no: int, offsets: Sequence[int]) -> None:
        """Records of a kind were refused."""
        if offsets:
            self._begin(kind_no, min(offsets))
            self._refused[kind_no].extend(offsets)

    def _begin(self, kind_no: int, offset: int) -> None:
        first = self._firsts[kind_no]
        self._firsts[kind_no] = offset if first is None else min(first, offset)

    def record(self, ends: Sequence[int]) -> OrderRecord | None:
        """What was collected; `ends` are the offsets to be read next by kind. None where nothing was."""
        if all(first is None for first in self._firsts):
            return None
        kinds = np.concatenate(self._kinds) if self._kinds else np.empty(0, dtype=np.int64)
        lasts = np.concatenate(self._lasts) if self._lasts else np.empty(0, dtype=np.int64)
        # Where one batch ends with the kind that the next begins with, that is one run.
        closes = np.append(kinds[1:] != kinds[:-1], True)[: len(kinds)]
        starts = [end if first is None else first for first, end in zip(self._firsts, ends, strict=True)]
        refused = tuple(np.unique(np.array(offsets, dtype=np.int64)) for offsets in self._refused)
        return OrderRecord(tuple(starts), tuple(ends), kinds[closes], lasts[closes], refused)
