"""Whatever goes in, in whatever portions, comes out once and in order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from model.datasets.spool import Spool


@settings(deadline=None, max_examples=60)
@given(
    keys=st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 3)), max_size=60),
    run_events=st.integers(1, 9),
    most_runs=st.integers(2, 4),
)
def test_events_come_out_by_time_then_rank_then_arrival(
    keys: list[tuple[int, int]], run_events: int, most_runs: int
) -> None:
    spool = Spool(run_events, most_runs)
    for number, (time_ms, rank) in enumerate(keys):
        spool.put(time_ms, rank, str(number).encode())
    expected = [(*key, number, str(number).encode()) for number, key in enumerate(keys)]
    expected.sort(key=lambda item: item[:3])
    assert len(spool) == len(keys)
    assert list(spool.items()) == expected
    assert list(spool.items()) == expected, "it may be asked again"
    spool.close()


def test_few_events_are_held_and_few_files_are_kept() -> None:
    spool = Spool(run_events=10, most_runs=3)
    for number in range(1_000):
        spool.put(-number, 0, b"")
    folder = spool.folder
    assert len(spool._held) < 10
    assert len(list(folder.iterdir())) <= 3
    assert [item[0] for item in spool.items()] == list(range(-999, 1))
    spool.close()
    assert not folder.exists()
