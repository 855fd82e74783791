"""The serving form whose cost is stated: what it keeps is what the windows need, and no more."""

from __future__ import annotations

import numpy as np

from model.baselines.cost import Kept, recent, state_bytes, us_per_event
from model.baselines.windows import LAGS, WINDOWS_DAYS, window_features
from model.comparison.problem import Problem


def test_windows_of_what_is_kept_are_windows_of_everything(problem: Problem) -> None:
    sequences = problem.sequences
    users = np.arange(0, sequences.users, 7)
    held = recent(sequences, users, Kept(WINDOWS_DAYS[-1], LAGS, of_each_kind=True))
    whole = window_features(sequences, sequences.merged_starts[users + 1] - 1)
    cut = window_features(held, held.merged_starts[1:] - 1)
    assert len(held.kinds) < np.diff(sequences.merged_starts)[users].sum()
    within = [
        position
        for position, name in enumerate(whole.names)
        if name.endswith(("7d", "30d", "90d", "30_to_90", *(f"_{back}" for back in range(LAGS))))
        and "_change_" not in name  # against what was known before the window
    ]
    assert len(within) > 100
    np.testing.assert_array_equal(cut.values[:, within], whole.values[:, within])


def test_the_latest_events_are_kept_by_number(problem: Problem) -> None:
    sequences = problem.sequences
    users = np.arange(10)
    held = recent(sequences, users, Kept(events=5))
    assert np.diff(held.merged_starts).tolist() == [5] * 10
    expected = np.concatenate([np.arange(end - 5, end) for end in sequences.merged_starts[1:11]])
    np.testing.assert_array_equal(held.times_ms, sequences.times_ms[expected])
    np.testing.assert_array_equal(held.kinds, sequences.kinds[expected])


def test_more_kept_is_more_bytes(problem: Problem) -> None:
    users = np.arange(problem.sequences.users)
    sizes = [
        state_bytes(problem.sequences, users, kept)
        for kept in (Kept(events=1), Kept(events=3), Kept(days=90.0), Kept(days=90.0, totals=4))
    ]
    assert sizes == sorted(sizes)
    assert sizes[3] - sizes[2] == 32


def test_time_is_taken_per_event(problem: Problem) -> None:
    batches: list[int] = []
    found = us_per_event(problem.sequences, np.arange(9), lambda _, rows: batches.append(len(rows)), Kept())
    assert found > 0
    assert set(batches) == {9}
