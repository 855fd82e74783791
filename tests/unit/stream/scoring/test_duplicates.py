"""Repeats are found exactly as if the events came one by one."""

from __future__ import annotations

from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.scoring.duplicates import find_repeats, id_hashes
from stream.state.row import RECENT_IDS

events = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 45)), max_size=150)


@given(events, st.lists(st.integers(1, 60), max_size=4))
def test_like_one_by_one_however_cut(stream: list[tuple[int, int]], sizes: list[int]) -> None:
    remembered: list[deque[int]] = [deque(maxlen=RECENT_IDS) for _ in range(3)]
    expected = []
    for user, event_id in stream:
        repeats = event_id in remembered[user]
        expected.append(repeats)
        if not repeats:
            remembered[user].append(event_id)

    recent = np.zeros((3, RECENT_IDS), dtype=np.uint64)
    sequence = np.zeros(3, dtype=np.int64)
    found: list[bool] = []
    start = 0
    for size in [*sizes, len(stream)]:
        batch = stream[start : start + size]
        start += len(batch)
        user = np.array([u for u, _ in batch], dtype=np.int64)
        hashes = np.array([e for _, e in batch], dtype=np.uint64)
        repeats = find_repeats(user, hashes, recent, sequence)
        found += repeats.tolist()
        for u, e, again in zip(user, hashes, repeats, strict=True):
            if not again:
                recent[u, sequence[u] % RECENT_IDS] = e
                sequence[u] += 1
    assert found == expected


def test_hashes_are_stable_across_processes_and_never_zero() -> None:
    assert hex(id_hashes(["a"])[0]) == "0xe6c632b61e964e1f"  # the published test value of XXH3
    assert (id_hashes([str(n) for n in range(1000)]) > 0).all()
