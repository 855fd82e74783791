"""Arrays on disk hold what arrays in memory do, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from events.types import KINDS, Event
from model.histories import sequences as sequences_module
from model.histories.backing import InMemory, OnDisk
from model.histories.labels import NEVER_MS, Truth, targets, targets_of_all
from model.histories.sequences import Sequences, build_sequences, learn_vocabularies

MakeHistory = Callable[..., list[Event]]


@pytest.fixture(scope="module")
def events(make_history: MakeHistory) -> list[Event]:
    """Of eleven users, by time; the fourth has no activity, and the last events are of few users."""
    histories = [
        make_history(f"u{number}", 5 + 7 * number, number, KINDS if number != 3 else KINDS[:2]) for number in range(11)
    ]
    return sorted((event for events in histories for event in events), key=lambda event: event.occurred_at)


@pytest.fixture(scope="module")
def in_memory(events: list[Event]) -> Sequences:
    return build_sequences(events, grace_days=3)


@pytest.fixture(params=[1, 4, 100])
def on_disk(request: pytest.FixtureRequest, events: list[Event], tmp_path: Path) -> Sequences:
    return build_sequences(events, grace_days=3, backing=OnDisk(tmp_path, users_at_once=request.param))


def arrays_of(sequences: Sequences) -> dict[str, np.ndarray]:
    found = {name: getattr(sequences, name) for name in (
        "merged_starts", "kinds", "times_ms", "latest", "days_past_due", "written_off", "contract_place", "ages_days",
    )}  # fmt: skip
    for kind in KINDS:
        found |= {f"{kind} numeric": sequences.numeric[kind], f"{kind} categorical": sequences.categorical[kind]}
        found[f"{kind} starts"] = sequences.starts[kind]
    return found


def test_histories_on_disk_are_those_in_memory(in_memory: Sequences, on_disk: Sequences) -> None:
    assert on_disk.user_ids == in_memory.user_ids
    assert on_disk.fingerprint == in_memory.fingerprint
    assert on_disk.vocabularies == in_memory.vocabularies
    expected = arrays_of(in_memory)
    for name, found in arrays_of(on_disk).items():
        assert found.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(found, expected[name], err_msg=name)


def test_what_follows_from_them_is_the_same_run_by_run(
    in_memory: Sequences, on_disk: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = np.diff(in_memory.merged_starts) // 2
    rows = {kind: in_memory.rows_of(kind, counts) for kind in KINDS}
    learnt = learn_vocabularies(in_memory, rows, 3)
    defaults = np.where(np.arange(in_memory.users) % 2 > 0, int(in_memory.times_ms.max()), NEVER_MS)
    truth = Truth(defaults, np.full(in_memory.users, int(in_memory.times_ms.max()) + 10**10))
    whole = targets(in_memory.times_ms, in_memory.user_of_event, truth, (30, 90))
    limit_ms = int(np.median(in_memory.times_ms))
    expected = arrays_of(in_memory.recoded(learnt))
    early = in_memory.events_before(limit_ms)
    monkeypatch.setattr(sequences_module, "EVENTS_PER_RUN", 20)
    assert sum(len(users) for users, _ in on_disk.runs()) == on_disk.users
    assert learn_vocabularies(on_disk, rows, 3) == learnt
    for name, found in arrays_of(on_disk.recoded(learnt)).items():
        np.testing.assert_array_equal(found, expected[name], err_msg=name)
    judged = on_disk.kinds > 0
    found = targets_of_all(on_disk, truth, (30, 90), judged)
    np.testing.assert_array_equal(found.observed_share, whole.observed_share * judged[:, None])
    np.testing.assert_array_equal(found.happened, whole.happened & judged[:, None])
    np.testing.assert_array_equal(on_disk.events_before(limit_ms), early)
    np.testing.assert_array_equal(on_disk.owners(np.arange(len(judged))), in_memory.user_of_event)


def test_the_folder_looks_empty_throughout(events: list[Event], tmp_path: Path) -> None:
    """Files without a name cannot be left behind by a process that is killed."""
    backing = OnDisk(tmp_path / "new", users_at_once=2)
    array = backing.zeros((3, 2), np.float32)
    array[1] = 5
    pieces = backing.pieces()
    pieces.put(7, (np.arange(3), np.zeros((0, 4), np.float32)))
    pieces.put(7, (np.arange(2), np.ones((1, 4), np.float32)))
    histories = build_sequences(events, backing=backing)
    assert histories.ages_days.shape == histories.latest.shape
    assert list((tmp_path / "new").iterdir()) == []
    assert array.sum() == 10
    first, second = pieces.take(7)
    assert [first[0].tolist(), second[1].tolist()] == [[0, 1, 2], [[1.0] * 4]]
    assert first[1].shape == (0, 4)
    assert pieces.take(7) == []


@pytest.mark.parametrize("shape", [(0,), (0, 3), (4, 0)])
def test_an_empty_array_needs_no_file(shape: tuple[int, ...], tmp_path: Path) -> None:
    for backing in (InMemory(), OnDisk(tmp_path)):
        assert backing.zeros(shape, np.int64).shape == shape


def test_nobody_is_an_empty_history(tmp_path: Path) -> None:
    nobody = build_sequences([], backing=OnDisk(tmp_path))
    assert (nobody.users, len(nobody.kinds), nobody.ages_days.shape) == (0, 0, (0, 4))
