"""Finds repeated events by the ids that each user's row remembers. Pure.

An event is a repeat if its id is among those of the user's last `RECENT_IDS` scored events. Repeats are not scored and
their ids are not stored again, so the result does not depend on how a stream is cut into batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from stream.state.row import RECENT_IDS


def id_hashes(event_ids: Sequence[str]) -> NDArray[np.uint64]:
    """64-bit hashes of event ids, uint64 `[n]`; never 0, which marks an empty place."""
    hashes = np.fromiter(
        map(xxhash.xxh3_64_intdigest, map(str.encode, event_ids)), dtype=np.uint64, count=len(event_ids)
    )
    return np.maximum(hashes, np.uint64(1))


def find_repeats(
    user: NDArray[np.int64], hashes: NDArray[np.uint64], recent: NDArray[np.uint64], sequence: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which events repeat an earlier one, bool `[n]`.

    `user` int64 `[n]` and `hashes` uint64 `[n]` are the batch in order; `recent` uint64 `[users, RECENT_IDS]` and
    `sequence` int64 `[users]` are of the rows before the batch.
    """
    remembered_before = (recent[user] == hashes[:, None]).any(axis=1)
    order = np.lexsort((hashes, user))
    users, their_hashes = user[order], hashes[order]
    same = (users[1:] == users[:-1]) & (their_hashes[1:] == their_hashes[:-1])
    repeats = np.zeros(len(user), dtype=np.bool_)
    if not (remembered_before.any() or same.any()):
        return repeats
    for suspect in np.union1d(user[remembered_before], users[1:][same]):
        ring = np.roll(recent[suspect], -int(sequence[suspect] % RECENT_IDS))
        remembered = deque((int(value) for value in ring if value), maxlen=RECENT_IDS)
        for position in np.flatnonzero(user == suspect):
            value = int(hashes[position])
            if value in remembered:
                repeats[position] = True
            else:
                remembered.append(value)
    return repeats
