"""The slab keeps rows by partition and key, and refuses rows that are not its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.state.row import StateMismatch, blank_row, row_dtype
from stream.state.slab import Slab

DTYPE = row_dtype(5)
BLANK = blank_row(DTYPE, 0xABC)


def row(sequence: int) -> bytes:
    value = BLANK.copy()
    value["sequence"] = sequence
    return value.tobytes()


actions = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 2), st.integers(0, 6), st.integers(0, 99)),
        st.tuples(st.just("locate"), st.integers(0, 2), st.integers(0, 6), st.just(0)),
        st.tuples(st.just("remove"), st.integers(0, 2), st.integers(0, 6), st.just(0)),
        st.tuples(st.just("forget"), st.integers(0, 2), st.integers(0, 6), st.just(0)),
        st.tuples(st.just("delete"), st.integers(0, 2), st.integers(0, 6), st.just(0)),
        st.tuples(st.just("drop"), st.integers(0, 2), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@given(actions)
def test_like_a_dictionary(steps: list[tuple[str, int, int, int]]) -> None:
    slab = Slab(BLANK, capacity=1)
    expected: dict[tuple[int, bytes], bytes] = {}
    for action, partition, number, sequence in steps:
        key = b"u%d" % number
        if action == "put":
            assert slab.put(partition, [(key, row(0)), (key, row(sequence))]) == 1
            expected[partition, key] = row(sequence)
        elif action == "locate":
            slab.locate(partition, [key])
            expected.setdefault((partition, key), row(0))
        elif action in ("remove", "forget", "delete"):
            if action == "delete":
                slab.restore(partition, [([key], None)], 0)
            else:
                (slab.remove if action == "remove" else slab.forget)(partition, key)
            expected.pop((partition, key), None)
            assert slab.get(partition, key) is None
        else:
            slab.drop_partition(partition)
            expected = {at: value for at, value in expected.items() if at[0] != partition}
        assert {(p, k): value for p, k, value in slab.items()} == expected
        assert len(slab) == len(expected)
    for partition in range(3):
        keys = [key for at, key in expected if at == partition]
        assert slab.partitions_of(slab.locate(partition, keys)).tolist() == [partition] * len(keys)


def test_gather_scatter_and_by_partition() -> None:
    slab = Slab(BLANK)
    located = slab.locate(1, [b"a", b"b", b"a"])
    assert located[0] == located[2] != located[1]
    rows = slab.gather(located[:2])
    rows["sequence"] = [3, 4]
    assert slab.get(1, b"a") == row(0), "a gathered row is a copy"
    slab.scatter(located[:2], rows)
    assert slab.by_partition(located[:2]) == {1: [(b"a", row(3)), (b"b", row(4))]}
    keys, sequences = slab.column(1, "sequence")
    assert dict(zip(keys, sequences.tolist(), strict=True)) == {b"a": 3, b"b": 4}
    assert slab.column(9, "sequence")[0] == []


def test_a_reservation_changes_nothing_but_the_copying() -> None:
    reserved, doubling = Slab(BLANK, reserve_bytes=1 << 34), Slab(BLANK, capacity=1)
    beyond_memory = Slab(BLANK, reserve_bytes=1 << 62)
    for slab in (reserved, doubling, beyond_memory):
        slab.put(0, [(b"%d" % number, row(number)) for number in range(3_000)])
        slab.locate(0, [b"new", b"new"])
        assert len(slab) == 3_001
    assert list(reserved.items()) == list(doubling.items()) == list(beyond_memory.items())


def test_a_reused_row_is_blank() -> None:
    slab = Slab(BLANK)
    slab.put(0, [(b"old", row(9))])
    slab.drop_partition(0)
    assert slab.gather(slab.locate(0, [b"new"])).tobytes() == row(0)


def test_refuses_rows_of_another_size_or_model() -> None:
    slab = Slab(BLANK)
    with pytest.raises(StateMismatch, match="another version or model"):
        slab.put(0, [(b"u", b"short")])
    foreign = blank_row(DTYPE, 0xDEF).tobytes()
    with pytest.raises(StateMismatch, match="0000000000000def, this worker runs 0000000000000abc"):
        slab.put(0, [(b"u", foreign)])
    assert len(slab) == 0


def test_rows_of_two_partitions_are_two_users() -> None:
    slab = Slab(BLANK)
    assert slab.locate(0, [b"u"]) != slab.locate(1, [b"u"])
    assert np.array_equal(slab.partitions(), [0, 1])


@pytest.mark.parametrize("width", [1, 2, 333, 778])
def test_rows_have_no_hidden_padding(width: int) -> None:
    """Every byte belongs to a field: rows made the same way are the same bytes."""
    dtype = row_dtype(width)
    assert dtype.itemsize % 8 == 0
    dirty = np.frombuffer(b"\xff" * 4 * dtype.itemsize, dtype=dtype).copy()
    dirty[:] = blank_row(dtype, 5)
    assert dirty[np.array([2, 0])].tobytes() == 2 * blank_row(dtype, 5).tobytes()


changes = st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=4)


@given(st.lists(st.tuples(changes, st.integers(1, 4)), max_size=4))
def test_frozen_rows_are_given_as_they_were(cuts: list[tuple[list[list[int]], int]]) -> None:
    """Rows change, users are forgotten and come back, and the slab grows, between the pieces in which a cut is taken.

    In the end, whoever follows what was given has the rows of the slab.
    """
    slab, sequence, touched = Slab(BLANK, capacity=2), 0, set[int]()
    rows: dict[bytes, bytes] = {}
    followed: dict[bytes, bytes] = {}

    def change(users: list[int]) -> None:
        """Each third change forgets its users."""
        nonlocal sequence
        sequence += 1
        keys = [b"u%d" % user for user in set(users)]
        if sequence % 3 == 0:
            touched.update(slab.forget(0, key) for key in keys)
            for key in keys:
                rows.pop(key, None)
            return
        for key, at in zip(keys, slab.locate(0, keys).tolist(), strict=True):
            touched.add(at)
            assert slab.rows[at : at + 1].tobytes() == rows.get(key, row(0))
            slab.rows["sequence"][at] = sequence
        rows.update({key: row(sequence) for key in keys})

    def follow(found: dict[bytes, bytes | None]) -> None:
        for key, value in found.items():
            followed.pop(key, None)
            if value is not None:
                followed[key] = value

    for between, piece_rows in [*cuts, ([], 4), ([], 4)]:
        frozen = sorted(touched)
        touched.clear()
        at_the_cut = dict(rows)
        slab.freeze(np.array(frozen, dtype=np.int64))
        found: dict[bytes, bytes | None] = {}
        pauses = iter(between)
        for start in range(0, len(frozen), piece_rows):
            change(next(pauses, []))
            found |= slab.frozen(np.array(frozen[start : start + piece_rows], dtype=np.int64)).get(0, [])
        for users in pauses:
            change(users)
        follow(found)
        assert followed == at_the_cut
    assert followed == rows == {key: value for _, key, value in slab.items()}
    assert len(slab) == len(rows)


def test_no_other_user_gets_the_row_of_a_forgotten_one_before_that_is_told() -> None:
    slab = Slab(BLANK, capacity=1)
    slab.rows["sequence"][slab.locate(0, [b"u"])] = 7
    forgotten = np.array([slab.forget(0, b"u")])
    other = slab.locate(0, [b"v"])
    slab.rows["sequence"][other] = 8
    both = np.concatenate((forgotten, other))
    slab.freeze(both)
    assert slab.frozen(both) == {0: [(b"u", None), (b"v", row(8))]}
    assert slab.locate(0, [b"w"]) == forgotten, "it is free now"
    assert slab.get(0, b"w") == row(0)


def test_what_is_thawed_is_not_kept() -> None:
    slab = Slab(BLANK)
    located = slab.locate(0, [b"u"])
    slab.freeze(located)
    slab.locate(0, [b"u"])
    slab.thaw()
    slab.rows["sequence"][located] = 5
    slab.freeze(located)
    assert slab.frozen(located) == {0: [(b"u", row(5))]}
