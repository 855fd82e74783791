"""Records moved as bytes are the records that numpy's own indexing gives."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.structured import copy_records, put_floats, put_records, take_floats, take_records

INNER = np.dtype([("a", "i8"), ("b", "f4", (3,)), ("c", "u1", (4,))])
WIDE = np.dtype(
    [("before", "u1", (3,)), ("inner", INNER), ("ring", INNER, (5,)), ("after", "f4"), ("state", "f4", (9,))]
)


def wide_rows(seed: int) -> np.ndarray:
    return np.frombuffer(np.random.default_rng(seed).bytes(WIDE.itemsize * 7), dtype=WIDE).copy()


@given(seed=st.integers(0, 99), index=st.lists(st.integers(0, 6), max_size=7, unique=True))
def test_take_and_put(seed: int, index: list[int]) -> None:
    rows, at = wide_rows(seed), np.array(index, dtype=np.int64)
    assert take_records(rows["inner"], at).tobytes() == rows["inner"][at].tobytes()
    assert take_records(rows["ring"], at).tobytes() == rows["ring"][at].tobytes()
    news = np.frombuffer(np.random.default_rng(seed + 1).bytes(INNER.itemsize * len(at)), dtype=INNER)
    expected, slots = rows.copy(), at % 5
    expected["inner"][at] = news
    expected["ring"][at, slots] = news
    put_records(rows["inner"], at, news)
    put_records(rows["ring"], (at, slots), news)
    assert rows.tobytes() == expected.tobytes()


def test_of_repeated_positions_the_last_stands() -> None:
    rows = wide_rows(1)
    news = wide_rows(2)["inner"][:3].copy()
    put_records(rows["inner"], np.array([4, 4, 4]), news)
    assert rows["inner"][4] == news[2]


def test_a_copy_is_contiguous_and_apart() -> None:
    rows = wide_rows(3)
    copy = copy_records(rows["inner"])
    assert copy.flags.c_contiguous
    assert copy.tobytes() == rows["inner"].tobytes()
    rows["inner"]["a"] = 0
    assert copy["a"].any()


@given(
    seed=st.integers(0, 99),
    index=st.lists(st.integers(0, 6), max_size=7, unique=True),
    ends=st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda ends: ends[0] < ends[1]),
)
def test_parts_of_a_float_field(seed: int, index: list[int], ends: tuple[int, int]) -> None:
    rows, at, part = wide_rows(seed), np.array(index, dtype=np.int64), slice(*ends)
    taken = take_floats(rows, "state", part, at)
    assert taken.shape == (len(at), ends[1] - ends[0])
    assert taken.tobytes() == rows["state"][at, part].tobytes()
    news = np.random.default_rng(seed + 1).normal(size=taken.shape).astype(np.float32)
    expected = rows.copy()
    expected["state"][at, part] = news
    put_floats(rows, "state", part, at, news)
    assert rows.tobytes() == expected.tobytes()
