"""A reference counts users, not events, keeps the bundle's fingerprint, and belongs to one bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.types import Event
from model.bundle import Bundle, BundleError
from model.evaluation.drift_reference import (
    REFERENCE_FILE,
    Distribution,
    counts_of,
    decode_drift_reference,
    draw_sample,
    drift_reference_of,
    quantile_edges,
    read_drift_reference,
    reference_counts,
    write_drift_reference,
)
from model.histories.labels import Truth
from model.histories.sequences import Sequences, build_sequences

History = Callable[..., list[Event]]


@pytest.fixture
def sequences(random_bundle: Bundle, make_history: History) -> Sequences:
    histories = [make_history(f"u{number}", 5 + number, seed=number) for number in range(40)]
    return build_sequences((event for events in histories for event in events), random_bundle.vocabularies)


def test_a_sample_has_one_event_per_user_and_kind(sequences: Sequences) -> None:
    scores = np.linspace(0, 1, len(sequences.kinds))
    sample = draw_sample(sequences, np.ones(len(sequences.kinds), bool), scores)
    assert sample.users == 40
    assert len(sample.values["score"]) == 40
    amounts = sample.values["transactions.amount"]
    with_any = np.diff(sequences.starts["transactions"]) > 0
    assert len(amounts) == with_any.sum()
    assert set(amounts) <= set(sequences.numeric["transactions"][:, 0])
    assert not any("day_of" in name for name in sample.values)
    assert "profiles.sex" not in sample.values  # protected: no input of this bundle
    assert "profiles.employment" in sample.values


def test_only_rows_asked_for_are_drawn(sequences: Sequences) -> None:
    rows = sequences.times_ms >= np.median(sequences.times_ms)
    scores = np.where(rows, 0.5, 0.25)
    default_date_ms = np.full(40, np.iinfo(np.int64).max // 4)
    default_date_ms[:10] = 0
    sample = draw_sample(sequences, rows, scores, Truth(default_date_ms, default_date_ms))
    active = np.unique(sequences.user_of_event[rows])
    assert set(sample.values["score"]) == {0.5}
    assert len(sample.values["score"]) == (active >= 10).sum()
    assert sample.from_ms >= np.median(sequences.times_ms)


def test_of_profiles_the_latest_counts(sequences: Sequences) -> None:
    scores = np.zeros(len(sequences.kinds))
    sample = draw_sample(sequences, np.ones(len(sequences.kinds), bool), scores)
    last = [end - 1 for start, end in zip(*(sequences.starts["profiles"][s] for s in (slice(-1), slice(1, None))),
            strict=True) if end > start]  # fmt: skip
    expected = sequences.numeric["profiles"][last, 0]
    assert np.array_equal(sample.values["profiles.income"], expected, equal_nan=True)


@given(values=st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6, width=32)), max_size=60))
def test_every_value_has_a_bin(values: list[float | None]) -> None:
    array = np.array([np.nan if value is None else value for value in values], dtype=np.float32)
    bins = Distribution(edges=quantile_edges(array), categories=[], counts=[])
    counts = bins.count(array)
    assert len(counts) == len(bins.edges or []) + 2
    assert counts.sum() == len(values)
    assert counts[-1] == sum(value is None for value in values)


def test_bins_are_of_about_equal_size() -> None:
    values = np.random.default_rng(0).normal(size=1_000)
    counts = Distribution(edges=quantile_edges(values), categories=[], counts=[]).count(values)
    assert counts.tolist() == [100] * 10 + [0]


def test_written_and_read_again(sequences: Sequences, random_bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(random_bundle.path, folder)
    bundle = Bundle.load(folder)
    assert read_drift_reference(bundle) is None
    sample = draw_sample(sequences, np.ones(len(sequences.kinds), bool), np.linspace(0, 1, len(sequences.kinds)))
    reference = drift_reference_of(sample, bundle.vocabularies, "these tests", bundle.fingerprint_hex)
    write_drift_reference(reference, folder)
    assert Bundle.load(folder).fingerprint == random_bundle.fingerprint
    assert read_drift_reference(Bundle.load(folder)) == reference
    counted = counts_of(sample, reference)
    assert counted.keys() == reference.distributions.keys()
    assert all(np.array_equal(counted[name], counts) for name, counts in reference_counts(reference).items())
    kinds = reference.distributions["repayments.kind"]
    assert kinds.categories == ["due", "missed", "paid"]
    assert len(kinds.counts) == 5


def test_another_bundles_reference_is_refused(random_bundle: Bundle, sequences: Sequences, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(random_bundle.path, folder)
    sample = draw_sample(sequences, np.ones(len(sequences.kinds), bool), np.zeros(len(sequences.kinds)))
    write_drift_reference(drift_reference_of(sample, random_bundle.vocabularies, "x", "0" * 16), folder)
    with pytest.raises(BundleError, match=r"taken with bundle 0000000000000000.*foreshock reference"):
        read_drift_reference(Bundle.load(folder))
    (folder / REFERENCE_FILE).write_bytes(b'{"bundle": 1}')
    with pytest.raises(BundleError, match="is no reference"):
        read_drift_reference(Bundle.load(folder))


def test_categories_beyond_the_reference_are_unseen_not_lost() -> None:
    bins = Distribution(edges=None, categories=["a"], counts=[0, 0, 0])
    assert bins.count(np.array([0, 1, 2, 2])).tolist() == [1, 1, 2]
    assert msgspec.json.decode(msgspec.json.encode(bins), type=Distribution) == bins


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": [1, 2]}, "has 2 counts in 4 bins of 'score'"),
        ({"counts": [1, 2, 3, -4]}, "counts that can be none"),
        ({"counts": [1, 2, 3, 1 << 60]}, "counts that can be none"),
        ({"edges": [0.2, 0.2]}, "bins of 'score' that do not ascend"),
        ({"edges": None, "categories": ["a"]}, "has 4 counts in 3 bins"),
    ],
)
def test_counts_of_other_bins_are_refused(change: dict[str, object], message: str) -> None:
    one = {"edges": [0.1, 0.2], "categories": [], "counts": [1, 2, 3, 4]}
    about = {"bundle": "0" * 16, "taken_from": "", "users": 1, "from_ms": 0, "until_ms": 1}
    place = Path(REFERENCE_FILE)
    good = decode_drift_reference(place, json.dumps({**about, "distributions": {"score": one}}).encode())
    assert good.distributions["score"].counts == [1, 2, 3, 4]
    with pytest.raises(BundleError, match=message):
        decode_drift_reference(place, json.dumps({**about, "distributions": {"score": {**one, **change}}}).encode())
