"""The index of each input: of one random event of each user and kind, in the reference's own bins, over a window."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.calendar import DAY_MS
from events.columns import COLUMNS
from events.types import KINDS, Kind
from model.bundle import Bundle
from model.evaluation.drift_reference import read_drift_reference
from stream.comparison.stability import population_stability
from stream.scoring.scorer import ScoredInputs
from stream.settings import PRETRAINED_BUNDLE
from stream.worker.drift_reference import Distribution, reference_of
from stream.worker.input_drift import EVENTS_PER_S, HALF_WINDOW_MS, LEAST_USERS, MOST_AT_ONCE, InputDrift, KeptInputs

USERS = 2_000
CALENDAR = {"day_of_month", "day_of_year"}


@functools.cache
def bundle() -> Bundle:
    return Bundle.load(PRETRAINED_BUNDLE)


@functools.cache
def reference() -> Mapping[str, Distribution]:
    found = reference_of(bundle())
    assert found is not None
    return found


def new_drift() -> InputDrift:
    found = InputDrift.of(bundle(), reference())
    assert found is not None
    return found


def values_of(one: Distribution, count: int, random: np.random.Generator) -> np.ndarray:
    """Values that are distributed as the reference."""
    share = np.array(one.counts) / sum(one.counts)
    places = random.choice(len(share), size=count, p=share)
    if one.edges is None:
        return places
    return np.array([*one.edges, (one.edges or [0.0])[-1] + 1, np.nan])[places]


def inputs(kind: Kind, count: int = USERS, seed: int = 1, first_user: int = 0) -> ScoredInputs:
    """Of users with one event each, all columns distributed as the reference."""
    random, columns = np.random.default_rng(seed), COLUMNS[kind]
    numeric = np.full((count, len(columns.numeric_inputs)), np.nan, dtype=np.float32)
    categorical = np.zeros((count, len(columns.categorical)), dtype=np.int64)
    for names, values in ((columns.numeric_inputs, numeric), (columns.categorical, categorical)):
        for position, name in enumerate(names):
            if f"{kind}.{name}" in reference():
                values[:, position] = values_of(reference()[f"{kind}.{name}"], count, random)
    days = np.arange(count, dtype=np.int64) % 14 * DAY_MS
    return ScoredInputs(KINDS.index(kind), np.arange(first_user, first_user + count), days, numeric, categorical)


def piece_of(part: ScoredInputs, piece: slice) -> ScoredInputs:
    columns = (part.row, part.occurred_ms, part.numeric, part.categorical)
    return ScoredInputs(part.kind_no, *(column[piece] for column in columns))


def noted(*parts: ScoredInputs) -> InputDrift:
    """All events of the parts are looked at, as they come slowly."""
    drift, now_ms = new_drift(), 0
    for part in parts:
        for start in range(0, len(part.row), MOST_AT_ONCE):
            drift.note([piece_of(part, slice(start, start + MOST_AT_ONCE))], now_ms)
            now_ms += round(1000 * MOST_AT_ONCE / EVENTS_PER_S)
    return drift


def test_what_is_distributed_as_the_reference_has_no_drift_in_any_input_that_the_model_takes() -> None:
    found = noted(*map(inputs, KINDS)).indices()
    assert set(found) == {
        f"{kind}.{name}"
        for kind in KINDS
        for name in (*bundle().manifest.numeric_inputs[kind], *bundle().vocabularies[kind])
        if name not in CALENDAR
    }
    assert max(found.values()) < 0.05


@pytest.mark.parametrize(("factor", "share"), [(100.0, 1.0), (np.nan, 0.5), (np.inf, 0.5)])
def test_another_unit_or_a_missing_field_shows_and_only_there(factor: float, share: float) -> None:
    part = inputs("transactions")
    column = COLUMNS["transactions"].numeric_inputs.index("amount")
    part.numeric[: round(USERS * share), column] *= factor
    found = noted(part).indices()
    assert found.pop("transactions.amount") > 0.25
    assert max(found.values()) < 0.05


def test_a_category_that_was_never_seen_shows() -> None:
    part = inputs("transactions")
    column = COLUMNS["transactions"].categorical.index("channel")
    part.categorical[: USERS // 4, column] = 1
    assert reference()["transactions.channel"].counts[1] == 0
    assert noted(part).indices()["transactions.channel"] > 0.25


@given(st.integers(0, 10_000))
def test_bins_are_those_of_the_report(seed: int) -> None:
    known, random = read_drift_reference(bundle()), np.random.default_rng(seed)
    assert known is not None
    part = inputs("repayments", 300, seed)
    part.numeric[:] += random.normal(0, 1, part.numeric.shape).astype(np.float32)
    part.numeric[::7] = np.float32(known.distributions["repayments.balance"].edges[3])  # type: ignore[index]
    found = noted(part).indices()
    for name, index in found.items():
        kind, _, column = name.partition(".")
        one, columns = known.distributions[name], COLUMNS["repayments"]
        assert kind == "repayments"
        values = (
            part.categorical[:, columns.categorical.index(column)]
            if one.edges is None
            else part.numeric[:, columns.numeric_inputs.index(column)]
        )
        assert index == population_stability(np.array(one.counts), one.count(values))


def test_one_event_of_each_user_counts_and_any_of_them_may_be_it() -> None:
    """Each has one of the reference, then one with a missing field: about half of the users count with the latter."""
    first, second = inputs("activity", 800), inputs("activity", 800)
    column = COLUMNS["activity"].numeric_inputs.index("count")
    first.numeric[:, column], second.numeric[:, column] = 1.0, np.nan
    drift = noted(first, second)
    assert drift.users()["activity"] == 800
    counts = np.array(reference()["activity.count"].counts)
    edges = reference()["activity.count"].edges
    assert edges is not None
    halves = np.zeros_like(counts)
    halves[[int(np.searchsorted(edges, 1.0)), -1]] = 400
    assert drift.indices()["activity.count"] == pytest.approx(population_stability(counts, halves), rel=0.1)


def test_of_a_user_with_many_events_in_a_batch_one_is_looked_at() -> None:
    part = inputs("activity", 900)
    part.row[:] = np.arange(900) % 300
    assert noted(part).users()["activity"] == 300


def test_the_window_rolls() -> None:
    drift = noted(inputs("activity", 500))
    moved = inputs("activity", 500)
    moved.numeric[:] = np.nan
    drift.note([moved], HALF_WINDOW_MS - 1)
    assert drift.users()["activity"] == 500, "no user twice in half of a window"
    drift.note([moved], HALF_WINDOW_MS)
    assert drift.users()["activity"] == 1000
    before = drift.indices()["activity.count"]
    drift.note([moved], 2 * HALF_WINDOW_MS)
    assert drift.users()["activity"] == 1000
    assert drift.indices()["activity.count"] > before, "the first half is forgotten"
    drift.note([], 9 * HALF_WINDOW_MS)
    assert (drift.users()["activity"], drift.indices()) == (0, {}), "after a pause, nothing of before"


def test_counting_goes_on_after_a_restart() -> None:
    part = inputs("activity", 500)
    part.numeric[:] = np.nan
    drift = noted(part)
    again = new_drift()
    again.go_on(msgspec.json.decode(msgspec.json.encode(drift.kept()), type=KeptInputs), DAY_MS)
    assert (again.users(), again.indices()) == (drift.users(), drift.indices())
    assert again.indices()["activity.count"] > 1.0
    again.note([part], DAY_MS)
    assert again.users()["activity"] == 1_000, "once in each part"
    again.note([], 2 * HALF_WINDOW_MS - 1)
    assert again.users()["activity"] == 1_000
    again.note([], 2 * HALF_WINDOW_MS)
    assert again.users()["activity"] == 500, "the window has left behind what was counted before"


def test_of_what_is_kept_the_window_reaches_the_last_days() -> None:
    kept = noted(inputs("activity", 500)).kept()
    for now_ms, users in ((2 * HALF_WINDOW_MS - 1, 500), (2 * HALF_WINDOW_MS, 0), (-1, 0)):
        later = new_drift()
        later.go_on(kept, now_ms)
        assert later.users()["activity"] == users, "a clock that was set back tells of no time"


def test_a_worker_that_is_started_over_and_over_keeps_few_parts() -> None:
    kept = new_drift().kept()
    for now_ms in range(0, 3 * DAY_MS, DAY_MS // 10):
        drift = new_drift()
        drift.go_on(kept, now_ms)
        drift.note([inputs("activity", 100)], now_ms)
        kept = drift.kept()
    assert drift.users()["activity"] == 3_000
    assert len(kept.parts["activity"]) <= 4


@pytest.mark.parametrize("field", ["counts", "users", "fewer", "negative", "bins"])
def test_what_was_not_counted_by_the_same_reference_is_refused_as_a_whole(field: str) -> None:
    kept = noted(inputs("activity", 500), inputs("transactions", 500)).kept()
    (part,) = kept.parts["transactions"]
    counts = part.counts
    wrong = {
        "counts": msgspec.structs.replace(part, counts=[counts[0] + 1, *counts[1:]]),
        "users": msgspec.structs.replace(part, users=499),
        "fewer": msgspec.structs.replace(part, counts=counts[:-1]),
        "negative": msgspec.structs.replace(part, counts=[-1, counts[0] + counts[1] + 1, *counts[2:]]),
    }
    if field == "bins":
        found = msgspec.structs.replace(kept, bins={**kept.bins, "activity": {"count": 3}})
    else:
        found = msgspec.structs.replace(kept, parts={**kept.parts, "transactions": [wrong[field]]})
    drift = new_drift()
    with pytest.raises(ValueError, match="count"):
        drift.go_on(found, 0)
    assert set(drift.users().values()) == {0}


def test_too_few_users_tell_nothing() -> None:
    assert noted(inputs("activity", LEAST_USERS - 1)).indices() == {}
    assert noted(inputs("activity", LEAST_USERS)).indices() != {}


def test_events_of_a_few_days_tell_nothing_however_late_some_are() -> None:
    part = inputs("activity", 1_000)
    part.occurred_ms[:] = np.arange(1_000) % 5 * DAY_MS
    part.occurred_ms[::50] = -np.arange(20) * DAY_MS
    assert noted(part).indices() == {}
    part.occurred_ms[:] = np.arange(1_000) % 8 * DAY_MS
    assert noted(part).indices() != {}


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 2_000)), max_size=30))
def test_never_more_is_looked_at_than_is_allowed(batches: list[tuple[int, int]]) -> None:
    part, drift, now_ms, looked_at = inputs("activity", 3_000), new_drift(), 0, 0
    for count, passed_ms in batches:
        now_ms += passed_ms
        before = drift.users()["activity"]
        drift.note([piece_of(part, slice(count))], now_ms)
        looked_at += drift.users()["activity"] - before
    assert looked_at <= MOST_AT_ONCE + EVENTS_PER_S * now_ms / 1000 + 1


def test_a_busy_worker_looks_at_a_part() -> None:
    drift = new_drift()
    parts = [inputs("activity", 20_000), inputs("transactions", 10_000)]
    drift.note(parts, 0)
    users = drift.users()
    assert MOST_AT_ONCE <= users["activity"] + users["transactions"] <= MOST_AT_ONCE + 2
    assert users["activity"] == pytest.approx(2 * users["transactions"], rel=0.1)
    drift.note(parts, 100)
    more = sum(drift.users().values()) - sum(users.values())
    assert 0 < more <= EVENTS_PER_S / 10 + 2


def test_there_is_none_without_a_reference() -> None:
    assert InputDrift.of(bundle(), None) is None
    found = InputDrift.of(bundle(), {})
    assert found is not None
    found.note([inputs("activity")], 0)
    assert found.indices() == {}
