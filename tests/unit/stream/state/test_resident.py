"""The slab over archives acts as a dictionary, whatever was evicted, and loses nothing that was durable."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.kafka.changelog import Block
from stream.scoring.watchdog import missed_now
from stream.state.archive import Archives, Origin
from stream.state.resident import ResidentSlab
from stream.state.row import StateMismatch, blank_row, row_dtype
from stream.state.slab import Pairs

DTYPE = row_dtype(5)
BLANK = blank_row(DTYPE, 0xABC)
ORIGIN = Origin("changelog", 0xABC, DTYPE.itemsize)
PARTITIONS = 2
PIECE_ROWS = 2
DAY_MS = 86_400_000


def row(sequence: int, due_day: int | None = None) -> bytes:
    value = BLANK.copy()
    value["sequence"] = sequence
    if due_day is not None:
        value["ledger"]["due_day"][0, 0] = due_day
    return value.tobytes()


@contextmanager
def archives_in(folder: Path) -> Iterator[Archives]:
    archives = Archives(folder, ORIGIN, 8 << 20)
    try:
        yield archives
    finally:
        archives.close_all()


def slab_over(archives: Archives, most_rows: int | None) -> ResidentSlab:
    slab = ResidentSlab(BLANK, archives, most_rows, capacity=1)
    for partition in range(PARTITIONS):
        slab.open_partition(partition)
    return slab


class Model:
    """What users' rows should be, and what of them stands in the changelog, record by record."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, bytes], bytes] = {}
        self.changelog: list[list[tuple[bytes, bytes | None]]] = [[] for _ in range(PARTITIONS)]
        self.touched: list[int] = []
        """Row numbers, as a checkpoint gets them: by the time that it reads one, the row may be another user's."""

    def durable(self) -> dict[tuple[int, bytes], bytes]:
        last = {(partition, key): value for partition, records in enumerate(self.changelog) for key, value in records}
        return {at: value for at, value in last.items() if value is not None}


users = st.lists(st.integers(0, 9), min_size=1, max_size=4)
days = st.one_of(st.none(), st.integers(0, 5))
actions = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(0, PARTITIONS - 1), users, days),
        st.tuples(st.just("change"), st.integers(0, PARTITIONS - 1), users, days),
        st.tuples(st.just("forget"), st.integers(0, PARTITIONS - 1), users, st.none()),
        st.tuples(st.just("checkpoint"), st.just(0), users, st.none()),
        st.tuples(st.just("checkpoint"), st.just(0), users, st.none()),
        st.tuples(st.just("restore"), st.integers(0, PARTITIONS - 1), users, days),
        st.tuples(st.just("leave"), st.integers(0, PARTITIONS - 1), st.just([0]), st.none()),
        st.tuples(st.just("crash"), st.just(0), st.just([0]), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=20, deadline=None)
@given(actions, st.integers(1, 6))
def test_like_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, list[int], int | None]], most_rows: int
) -> None:
    """Rows are changed, forgotten, made durable, taken from the changelog, given away and lost; none is ever another
    than ours.

    In the middle of every checkpoint, rows are touched: before a piece of it is read and while it waits for the broker.
    Every fifth time, their users are forgotten.
    """
    folder = tmp_path_factory.mktemp("state")
    model, sequence, touches = Model(), 0, 0

    def forget(slab: ResidentSlab, partition: int, numbers: list[int]) -> None:
        for key in (b"u%d" % number for number in numbers):
            model.touched.append(slab.forget(partition, key))
            model.rows.pop((partition, key), None)
            assert slab.get(partition, key) is None

    def touch(slab: ResidentSlab, partition: int, numbers: list[int], due_day: int | None) -> None:
        nonlocal sequence, touches
        touches += 1
        if touches % 5 == 0:
            forget(slab, partition, numbers)
            return
        keys = [b"u%d" % number for number in numbers]
        located = slab.locate(partition, keys)
        for key, at in zip(keys, located.tolist(), strict=True):
            assert slab.rows[at : at + 1].tobytes() == model.rows.get((partition, key), row(0))
        for key, at in zip(keys, located.tolist(), strict=True):
            sequence += 1
            slab.rows[at] = np.frombuffer(row(sequence, due_day), dtype=DTYPE)[0]
            model.rows[partition, key] = row(sequence, due_day)
        model.touched += located.tolist()

    def checkpoint(slab: ResidentSlab, meanwhile: list[int]) -> None:
        touched, model.touched = sorted(set(model.touched)), []
        slab.freeze(np.array(touched, dtype=np.int64))
        at_the_cut = dict(model.rows)
        between = itertools.cycle(meanwhile)
        sent: list[tuple[int, Pairs]] = []
        for start in range(0, len(touched), PIECE_ROWS):
            if start and meanwhile:
                touch(slab, 0, [next(between)], None)
            sent += slab.frozen(np.array(touched[start : start + PIECE_ROWS], dtype=np.int64)).items()
            if meanwhile:
                touch(slab, 0, [next(between)], None)
        for partition, pairs in sent:  # they are committed
            assert all(at_the_cut.get((partition, key)) == value for key, value in pairs)
            model.changelog[partition] += pairs
            slab.archive(partition, pairs, len(model.changelog[partition]) - 1)
        if not model.touched:
            assert model.durable() == model.rows

    def recover(slab: ResidentSlab, partition: int) -> None:
        offset = slab.open_partition(partition)
        tail = model.changelog[partition][0 if offset is None else offset + 1 :]
        records = [SimpleNamespace(key=key, value=value) for key, value in tail]
        slab.restore(partition, Block.of(records, 0, 0).columns, len(model.changelog[partition]) - 1)

    def forget_what_was_not_durable() -> None:
        model.rows = model.durable()
        model.touched = []

    with archives_in(folder) as archives:
        slab = slab_over(archives, most_rows)
        for action, partition, numbers, due_day in steps:
            if action == "change":
                touch(slab, partition, numbers, due_day)
            elif action == "forget":
                forget(slab, partition, numbers)
            elif action == "checkpoint":
                checkpoint(slab, numbers)
                checkpoint(slab, numbers)
            elif action == "restore":
                checkpoint(slab, [])
                sequence += 1
                pairs = [(b"u%d" % number, row(sequence, due_day)) for number in numbers]
                model.changelog[partition] += pairs
                slab.put(partition, pairs, len(model.changelog[partition]) - 1)
                model.rows |= {(partition, key): value for key, value in pairs}
            elif action == "leave":
                checkpoint(slab, [])
                slab.drop_partition(partition)
                assert partition not in slab.partitions()
                away = [(b"away", row(77)), (b"u0", row(78))]
                model.changelog[partition] += away
                recover(slab, partition)
                model.rows |= {(partition, key): value for key, value in away}
            else:
                archives.close_all()
                archives = Archives(folder, ORIGIN, 8 << 20)
                slab = slab_over(archives, most_rows)
                for lost in range(PARTITIONS):
                    recover(slab, lost)
                forget_what_was_not_durable()
            assert {(p, k): value for p, k, value in slab.items()} == model.rows
            for found_in in range(PARTITIONS):
                expected = {k.decode() for (p, k), value in model.rows.items() if p == found_in and owes(value, 3)}
                assert {event.user_id for event in missed_now(slab, found_in, 4 * DAY_MS, 0.0)} == expected
        archives.close_all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_batches_between_the_pieces_of_checkpoints(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Many users, little memory, and a batch before every piece: what the changelog has last is never older.

    A row that was frozen may be changed before its piece comes up; it stays in memory until what was frozen is
    archived.
    """
    random, model = np.random.default_rng(seed), Model()
    with archives_in(tmp_path_factory.mktemp("state")) as archives:
        slab = slab_over(archives, 8)

        def batch(sequence: int) -> None:
            keys = [b"u%d" % number for number in random.choice(40, size=5, replace=False)]
            located = slab.locate(0, keys)
            for key, at in zip(keys, located.tolist(), strict=True):
                assert slab.rows[at : at + 1].tobytes() == model.rows.get((0, key), row(0))
                slab.rows["sequence"][at] = sequence
                model.rows[0, key] = row(sequence)
            model.touched += located.tolist()

        for checkpoint_no in range(12):
            touched, model.touched = sorted(set(model.touched)), []
            slab.freeze(np.array(touched, dtype=np.int64))
            sent: Pairs = []
            for start in range(0, len(touched), PIECE_ROWS):
                batch(1_000 * checkpoint_no + start)
                sent += slab.frozen(np.array(touched[start : start + PIECE_ROWS])).get(0, [])
            if sent:
                model.changelog[0] += sent
                slab.archive(0, sent, len(model.changelog[0]) - 1)
            if not touched:
                batch(1_000 * checkpoint_no)
        durable(slab, np.unique(np.array(model.touched)), len(model.changelog[0]))
        assert {(0, key): value for key, value in archives[0].items()} == model.rows


def owes(value: bytes, until_day: int) -> bool:
    due_day = int(np.frombuffer(value, dtype=DTYPE)["ledger"]["due_day"][0, 0])
    return 0 <= due_day <= until_day


def durable(slab: ResidentSlab, numbers: np.ndarray, offset: int) -> None:
    slab.freeze(numbers)
    for partition, pairs in slab.frozen(numbers).items():
        slab.archive(partition, pairs, offset)


def test_the_least_recently_used_leave_and_only_durable_ones(tmp_path: Path) -> None:
    with archives_in(tmp_path) as archives:
        slab = slab_over(archives, 32)
        first = slab.locate(0, [b"u%d" % number for number in range(40)])
        assert len(slab) == 40, "none is durable"
        durable(slab, first, 0)
        kept = slab.locate(0, [b"u%d" % number for number in range(30)])
        assert np.array_equal(kept, first[:30])
        assert len(slab) == 30, "a sixteenth more than had to go"
        slab.locate(1, [b"v%d" % number for number in range(10)])
        assert len(slab) == 40
        assert np.array_equal(slab.locate(0, [b"u%d" % number for number in range(30)]), first[:30])
        assert slab.counts == {"rows_archived": 40, "rows_evicted": 10}


def test_a_row_touched_between_the_cut_and_the_commit_stays(tmp_path: Path) -> None:
    with archives_in(tmp_path) as archives:
        slab = slab_over(archives, 1)
        located = slab.locate(0, [b"u"])
        slab.freeze(located)
        read = slab.frozen(located)
        slab.locate(0, [b"u"])
        slab.rows["sequence"][located] = 5
        slab.archive(0, read[0], 0)
        slab.locate(0, [b"v"])
        assert len(slab) == 2
        assert slab.get(0, b"u") == row(5)
        durable(slab, located, 1)
        slab.locate(0, [b"v"])
        assert len(slab) == 1
        assert slab.get(0, b"u") == row(5)


def test_rows_of_a_partition_that_has_gone_are_not_archived(tmp_path: Path) -> None:
    with archives_in(tmp_path) as archives:
        slab = slab_over(archives, None)
        read = slab.by_partition(slab.locate(0, [b"u"]))
        slab.drop_partition(0)
        slab.archive(0, read[0], 0)
        assert slab.open_partition(0) is None
        slab.archive(0, read[0], 0)
        assert archives[0].offset is None, "it was opened again, but knows nothing of these rows"


def test_recovery_fills_the_disk_and_not_memory(tmp_path: Path) -> None:
    with archives_in(tmp_path) as archives:
        slab = slab_over(archives, 10)
        assert slab.put(1, [(b"u%d" % number, row(number)) for number in range(500)], 499) == 500
        assert len(slab) == 0
        assert slab.open_partition(1) == 499
        located = slab.locate(1, [b"u7", b"u400", b"new"])
        assert slab.rows["sequence"][located].tolist() == [7, 400, 0]
        with pytest.raises(StateMismatch):
            slab.put(1, [(b"u", blank_row(DTYPE, 0xDEF).tobytes())], 500)


def test_forgotten_users(tmp_path: Path) -> None:
    with archives_in(tmp_path) as archives:
        slab = slab_over(archives, None)
        durable(slab, slab.locate(0, [b"u", b"v"]), 0)
        slab.remove(0, b"u")
        slab.remove(0, b"never seen")
        assert [key for _, key, _ in slab.items()] == [b"v"]
        slab.discard_partition(0, "for a test")
        assert list(slab.items()) == []
        slab.clear()
        assert slab.partitions() == []
