from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from events.types import KINDS, Event
from model.histories.sequences import build_sequences
from model.training.batches import by_length, pad


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 50), max_size=60),
    batch_users=st.integers(1, 9),
    seed=st.one_of(st.none(), st.integers(0, 5)),
)
def test_every_user_with_events_is_in_one_batch(counts: list[int], batch_users: int, seed: int | None) -> None:
    lengths = np.array(counts, dtype=np.int64)
    random = None if seed is None else np.random.default_rng(seed)
    batches = list(by_length(lengths, batch_users, random, most_events=120))
    seen = [int(position) for batch in batches for position in batch]
    assert sorted(seen) == np.flatnonzero(lengths).tolist()
    assert all(len(batch) <= batch_users for batch in batches)
    if random is None:
        assert all(len(batch) == 1 or len(batch) * lengths[batch].max() <= 120 for batch in batches)


def test_rows_are_padded_at_the_end_and_scored_events_point_at_their_past(
    make_history: Callable[..., list[Event]],
) -> None:
    sequences = build_sequences(
        [event for user, length in enumerate((12, 40, 5)) for event in make_history(f"u{user}", length, user)]
    )
    users, counts, skips = np.array([2, 1]), np.array([3, 30]), np.array([1, 25])
    batch = pad(sequences, users, counts, skips)
    assert len(batch.rows) == 2 + 5
    starts = sequences.merged_starts[users]
    assert batch.rows.tolist() == [starts[0] + 1, starts[0] + 2, *range(starts[1] + 25, starts[1] + 30)]
    assert batch.latest[:, 0].tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert batch.ages.numpy().tolist() == sequences.ages_days[batch.rows].tolist()
    for position, kind in enumerate(KINDS):
        assert batch.latest[:, 1 + position].tolist() == sequences.latest[batch.rows, position].tolist()
        last = sequences.latest[starts + counts - 1, position]
        assert batch.numeric[kind].shape[1] == max(1, int(last.max()))
        for row, user in enumerate(users):
            begin = sequences.starts[kind][user]
            mine = batch.numeric[kind][row, : last[row]].numpy()
            np.testing.assert_array_equal(mine, sequences.numeric[kind][begin : begin + last[row]])
            assert (batch.numeric[kind][row, last[row] :] == 0).all()
