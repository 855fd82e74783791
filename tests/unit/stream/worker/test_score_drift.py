"""The index of scores against a reference: of users, over a window that rolls, and none of what cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.bundle import Bundle
from model.evaluation.drift_reference import read_drift_reference
from stream.settings import PRETRAINED_BUNDLE
from stream.worker.drift_reference import reference_of
from stream.worker.score_drift import HALF_WINDOW_MS, LEAST_USERS, ScoreDrift

EDGES = [0.1, 0.2, 0.4]
COUNTS = [100, 200, 400, 300]
MIDDLES = np.array([0.05, 0.15, 0.3, 0.7])


def scores_as(counts: list[int]) -> np.ndarray:
    return np.repeat(MIDDLES, counts).astype(np.float32)


def noted(scores: np.ndarray, at_ms: int = 0) -> ScoreDrift:
    drift = ScoreDrift(EDGES, COUNTS)
    drift.note(np.arange(len(scores)), scores, at_ms)
    return drift


def test_the_same_distribution_has_no_drift_and_another_one_has() -> None:
    same, moved = noted(scores_as(COUNTS)), noted(scores_as(COUNTS[::-1]))
    assert same.index() == pytest.approx(0.0, abs=1e-9)
    index = moved.index()
    p, q = np.array(COUNTS) / 1000, np.array(COUNTS[::-1]) / 1000
    assert index == pytest.approx(((q - p) * np.log(q / p)).sum(), rel=0.02)
    assert index is not None
    assert index > 0.25


def test_bounds_belong_to_the_bin_below_as_in_the_reference() -> None:
    assert noted(np.array(EDGES * 100)).index() == noted(np.array([0.05, 0.15, 0.3] * 100)).index()


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 1)), max_size=400), st.integers(1, 50))
def test_each_user_counts_once_however_events_are_cut_into_batches(events: list[tuple[int, float]], size: int) -> None:
    cut, whole = ScoreDrift(EDGES, COUNTS), ScoreDrift(EDGES, COUNTS)
    rows, scores = np.array([row for row, _ in events], dtype=np.int64), np.array([score for _, score in events])
    whole.note(rows, scores, 0)
    for start in range(0, len(events), size):
        cut.note(rows[start : start + size], scores[start : start + size], 0)
    assert cut.users == whole.users == len(set(rows.tolist()))
    assert cut.index() == whole.index()


def test_the_window_rolls() -> None:
    drift = noted(scores_as(COUNTS))
    later = scores_as(COUNTS[::-1])
    drift.note(np.arange(len(later)), later, HALF_WINDOW_MS - 1)
    assert drift.users == 1000, "no user twice in half of a window"
    drift.note(np.arange(len(later)), later, HALF_WINDOW_MS)
    assert drift.users == 2000
    drift.note(np.arange(len(later)), later, 2 * HALF_WINDOW_MS)
    assert drift.users == 2000
    assert drift.index() == pytest.approx(noted(later).index(), rel=0.01), "the first half is forgotten"
    drift.note(np.array([5]), np.array([0.5]), 9 * HALF_WINDOW_MS)
    assert (drift.users, drift.index()) == (1, None), "after a pause, nothing of before"


def test_too_few_users_tell_nothing() -> None:
    assert noted(np.full(LEAST_USERS - 1, 0.5)).index() is None
    assert noted(np.full(LEAST_USERS, 0.5)).index() is not None


def test_the_shipped_bundle_has_a_reference() -> None:
    bundle = Bundle.load(PRETRAINED_BUNDLE)
    drift, reference = ScoreDrift.of(reference_of(bundle)), read_drift_reference(bundle)
    assert drift is not None
    assert reference is not None
    found = reference.distributions["score"]
    assert found.edges is not None
    drift.note(
        np.arange(2 * sum(found.counts)), np.repeat([*found.edges, 1.0], [2 * count for count in found.counts[:-1]]), 0
    )
    assert drift.index() == pytest.approx(0.0, abs=1e-4)


def test_there_is_none_without_a_reference_of_scores() -> None:
    assert ScoreDrift.of(None) is None
    assert ScoreDrift.of({}) is None
