from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from events.types import Event
from model.histories.labels import NEVER_MS, Truth, targets, within_horizons
from model.histories.sequences import Sequences, build_sequences
from model.histories.splits import Part, split_by_client, split_by_time

DAY = 86_400_000
HORIZONS = (30, 60, 90, 180)


@pytest.fixture
def histories(make_history: Callable[..., list[Event]]) -> Sequences:
    events = [event for user in range(60) for event in make_history(f"u{user}", 120, user)]
    return build_sequences(sorted(events, key=lambda event: event.occurred_at))


@pytest.fixture
def truth(histories: Sequences) -> Truth:
    random = np.random.default_rng(0)
    last = int(histories.times_ms.max())
    default_date_ms = random.integers(int(histories.times_ms.min()), last, histories.users)
    return Truth(
        np.where(random.random(histories.users) < 0.5, default_date_ms, NEVER_MS),
        np.full(histories.users, last + 200 * DAY),
    )


def _rows(sequences: Sequences, part: Part) -> np.ndarray:
    starts = sequences.merged_starts[part.users]
    return np.concatenate([np.arange(a + s, a + c) for a, s, c in zip(starts, part.skips, part.counts, strict=True)])


def test_no_event_serves_two_purposes(histories: Sequences, truth: Truth) -> None:
    held_out = np.arange(histories.users) % 5 == 0
    for parts in (split_by_time(histories, held_out, truth), split_by_client(histories, held_out, truth)):
        rows = [_rows(histories, part) for part in (parts.train, parts.validation, parts.test)]
        assert all(len(found) > 100 for found in rows)
        assert len(np.unique(np.concatenate(rows))) == sum(len(found) for found in rows)
        assert held_out[parts.test.users].all()
        assert not held_out[parts.train.users].any()
        assert not held_out[parts.validation.users].any()


def test_by_time_no_label_looks_into_the_next_part(histories: Sequences, truth: Truth) -> None:
    parts = split_by_time(histories, np.arange(histories.users) % 5 == 0, truth)
    owner = histories.user_of_event
    for part, end_ms in ((parts.train, parts.from_ms), (parts.validation, parts.until_ms)):
        rows = _rows(histories, part)
        times = histories.times_ms[rows]
        assert times.max() < end_ms
        found = targets(times, owner[rows], part.truth, HORIZONS)
        assert found.happened.any()
        default_date_ms = truth.default_date_ms[owner[rows]]
        assert (default_date_ms[found.happened.any(1)] < end_ms).all()
        _, known = within_horizons(times, owner[rows], part.truth, HORIZONS)
        assert (times[known[:, 2]] + 90 * DAY <= end_ms).all()


def test_by_client_whole_histories_stay_together(histories: Sequences, truth: Truth) -> None:
    parts = split_by_client(histories, np.arange(histories.users) % 5 == 0, truth)
    users = np.concatenate([part.users for part in (parts.train, parts.validation, parts.test)])
    assert sorted(users.tolist()) == list(range(histories.users))
    assert not parts.train.skips.any()
