"""Waves keep each user's events in order and hold a user at most once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from events.waves import wave_numbers
from stream.scoring.waves import waves


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=60))
def test_waves(events: list[tuple[int, int]]) -> None:
    users, kinds = [user for user, _ in events], [kind for _, kind in events]
    kind_no = np.array(kinds, dtype=np.int64)
    numbers = wave_numbers(np.array(users, dtype=np.int64))
    assert numbers.tolist() == [users[:position].count(name) for position, name in enumerate(users)]

    order, found = waves(numbers, kind_no)
    assert sorted(order.tolist()) == list(range(len(events)))
    assert [position for wave in found for position in range(len(events))[wave.where]] == list(range(len(events)))
    taken = dict.fromkeys(range(4), 0)
    for number, wave in enumerate(found):
        assert (numbers[order[wave.where]] == number).all()
        stands_at = wave.where.start
        for block in wave.blocks:
            inside = order[block.where]
            assert block.where.start == stands_at
            assert (kind_no[inside] == block.kind_no).all()
            assert (np.diff(inside) > 0).all()
            assert block.of_kind == slice(taken[block.kind_no], taken[block.kind_no] + len(inside))
            taken[block.kind_no] += len(inside)
            stands_at = block.where.stop
        assert stands_at == wave.where.stop
