"""Waves keep each user's events in order and hold a user at most once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.waves import wave_numbers, waves


@given(st.lists(st.integers(0, 6), max_size=60))
def test_waves(users: list[int]) -> None:
    user = np.array(users, dtype=np.int64)
    numbers = wave_numbers(user)
    assert numbers.tolist() == [users[:position].count(name) for position, name in enumerate(users)]
    cut = waves(numbers)
    assert sorted(position for wave in cut for position in wave) == list(range(len(users)))
    for number, wave in enumerate(cut):
        assert (numbers[wave] == number).all()
        assert (np.diff(wave) > 0).all()
