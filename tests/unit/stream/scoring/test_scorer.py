"""The scorer gives the same bits however a stream is cut into batches, and remembers what it has seen."""

from __future__ import annotations

import datetime as dt
import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import model.bundle
from events.types import KINDS, Activity, Event, Profile, Repayment, Transaction, encode_event
from model.bundle import Bundle
from model.datasets.sources import open_dataset
from model.histories.sequences import build_sequences
from stream.kafka.record import RawRecord
from stream.outputs import Alert, Score
from stream.scoring.forgetting import is_forgetting, pieces_between
from stream.scoring.intake import Intake, Taken
from stream.scoring.scorer import Scored, Scorer
from stream.settings import PRETRAINED_BUNDLE, load_settings
from stream.state.archive import Archives, Origin
from stream.state.resident import ResidentSlab
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.topics import Topics

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


@functools.cache
def bundle() -> Bundle:
    return Bundle.load(PRETRAINED_BUNDLE)


def new_scorer() -> tuple[Scorer, Slab]:
    slab = Slab(blank_row(row_dtype(bundle().state_width), bundle().fingerprint))
    policy = load_settings().alert_policy(bundle().thresholds)
    return Scorer(bundle(), policy, slab, Topics()), slab


def take(events: Sequence[Event], partitions: int = 2) -> list[Taken]:
    offsets = dict.fromkeys(((kind, p) for kind in KINDS for p in range(partitions)), 0)
    taken = []
    for event in events:
        partition = sum(event.user_id.encode()) % partitions
        offset = offsets[event.KIND, partition]
        offsets[event.KIND, partition] += 1
        record = RawRecord(event.KIND, partition, offset, 0, event.user_id.encode(), encode_event(event))
        outcome = Intake(event.KIND).take(record, 10**15)
        assert isinstance(outcome, Taken)
        taken.append(outcome)
    return taken


@functools.cache
def portfolio() -> tuple[Taken, ...]:
    return tuple(take(list(open_dataset("simulator", users=40, months=5, seed=3).events())))


def outputs(parts: Sequence[Scored]) -> tuple[list[bytes], list[bytes]]:
    scores = [value for part in parts for _, values in sorted(part.scores.items()) for _, value in values]
    alerts = [value for part in parts for _, values in sorted(part.alerts.items()) for _, value in values]
    return sorted(scores), sorted(alerts)


@functools.cache
def in_one_batch() -> tuple[tuple[list[bytes], list[bytes]], dict[tuple[int, bytes], bytes]]:
    scorer, slab = new_scorer()
    found = outputs([scorer.score(portfolio())])
    return found, {(partition, key): row for partition, key, row in slab.items()}


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=8), st.sampled_from([7, 40, 512]))
def test_any_split_into_batches_and_pieces_gives_the_same_bits(sizes: list[int], rows_per_run: int) -> None:
    expected, rows = in_one_batch()
    scorer, slab = new_scorer()
    parts = []
    start = 0
    with mock.patch.object(model.bundle, "ROWS_PER_RUN", rows_per_run):
        while start < len(portfolio()):
            size = sizes[len(parts) % len(sizes)]
            parts.append(scorer.score(portfolio()[start : start + size]))
            start += size
    assert outputs(parts) == expected
    assert {(partition, key): row for partition, key, row in slab.items()} == rows


def test_users_on_disk_are_scored_to_the_same_bits(tmp_path: Path) -> None:
    """Five of forty users in memory, a checkpoint after every batch: each batch loads most of its users again."""
    in_memory = new_scorer()[1]
    archives = Archives(tmp_path, Origin("changelog", bundle().fingerprint, in_memory.dtype.itemsize), 8 << 20)
    slab = ResidentSlab(blank_row(in_memory.dtype, bundle().fingerprint), archives, 5)
    policy = load_settings().alert_policy(bundle().thresholds)
    scorer = Scorer(bundle(), policy, slab, Topics())
    for partition in range(2):
        slab.open_partition(partition)
    parts = []
    for start in range(0, len(portfolio()), 40):
        parts.append(scorer.score(portfolio()[start : start + 40]))
        touched = np.unique(parts[-1].touched)
        slab.freeze(touched)
        for partition, pairs in slab.frozen(touched).items():
            slab.archive(partition, pairs, start)
    expected, rows = in_one_batch()
    assert outputs(parts) == expected
    assert {(partition, key): row for partition, key, row in slab.items()} == rows
    assert slab.counts["rows_loaded"] > 10 * len(rows)
    archives.close_all()


def test_scores_stand_in_the_order_of_the_events() -> None:
    scorer, _ = new_scorer()
    scored = scorer.score(portfolio()[:500])
    for partition, values in scored.scores.items():
        found = [msgspec.json.decode(value, type=Score).score_id for _, value in values]
        expected = [f"{t.kind}:{t.partition}:{t.offset}" for t in portfolio()[:500] if t.partition == partition]
        assert found == expected
        assert [key for key, _ in values] == [t.key for t in portfolio()[:500] if t.partition == partition]


def test_the_inputs_that_are_told_are_those_that_training_has_of_the_same_events() -> None:
    scorer, _ = new_scorer()
    events = [item.event for item in portfolio()]
    trained = build_sequences(events, calendar=bundle().calendar).recoded(bundle().vocabularies)
    parts = [scorer.score(portfolio()[start : start + 700]) for start in range(0, len(events), 700)]
    for kind_no, kind in enumerate(KINDS):
        told = [each for part in parts for each in part.inputs if each.kind_no == kind_no]
        numeric = np.concatenate([each.numeric for each in told])
        categorical = np.concatenate([each.categorical for each in told])
        assert sum(len(each.row) for each in told) == len(numeric) == len(trained.numeric[kind])
        both = [np.hstack([numeric, categorical]), np.hstack([trained.numeric[kind], trained.categorical[kind]])]
        found, expected = (np.nan_to_num(each, nan=-1e9) for each in both)
        np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])


def test_what_the_state_holds_is_not_scored_again() -> None:
    scorer, slab = new_scorer()
    scorer.score(portfolio()[:300])
    rows = {(p, k): row for p, k, row in slab.items()}
    again = scorer.score(portfolio()[100:300])
    assert again.scores == {}
    assert again.counts["already_scored"] == 200
    assert {(p, k): row for p, k, row in slab.items()} == rows


def test_a_repeated_event_id_is_refused_and_counted_once() -> None:
    event = Activity(event_id="same", user_id="u", occurred_at=START, kind="session")
    scorer, _ = new_scorer()
    scored = scorer.score(take([event, event, event]))
    assert scored.counts["scored"] == 1
    assert [letter.reason for letter in scored.dead_letters] == ["duplicate_event_id"] * 2
    assert [letter.offset for letter in scored.dead_letters] == [1, 2]


def test_an_unknown_category_is_scored() -> None:
    scorer, _ = new_scorer()
    strange = Transaction(event_id="t", user_id="u", occurred_at=START, amount=-9.0, category="quidditch")
    scored = scorer.score(take([strange]))
    score = msgspec.json.decode(scored.scores[117 % 2][0][1], type=Score)
    assert 0 <= score.score <= 1


def test_a_late_event_is_applied_and_counted() -> None:
    late = Activity(event_id="b", user_id="u", occurred_at=START - dt.timedelta(days=2), kind="session")
    scorer, slab = new_scorer()
    scored = scorer.score(take([Activity(event_id="a", user_id="u", occurred_at=START, kind="session"), late]))
    assert scored.counts["late"] == 1
    assert scored.counts["scored"] == 2
    assert slab.column(1, "latest_ms")[1].max() == int(START.timestamp() * 1000)


def test_reference_pd_comes_from_the_latest_profile() -> None:
    scorer, slab = new_scorer()
    events = [
        Profile(event_id="p1", user_id="u", occurred_at=START, origination_pd=0.02),
        Profile(event_id="p2", user_id="u", occurred_at=START),
    ]
    scorer.score(take(events))
    assert slab.column(1, "reference_pd")[1].tolist() == [np.float32(0.02)]


def repayment(event_id: str, day: int, kind: str, no: int, days_past_due: float | None, paid: float | None) -> Event:
    return msgspec.convert(
        {
            "event_id": event_id,
            "user_id": "u",
            "occurred_at": START + dt.timedelta(days=day),
            "kind": kind,
            "amount_due": 100.0,
            "amount_paid": paid,
            "days_past_due": days_past_due,
            "instalment_no": no,
            "due_date": dt.date(2024, 1, 1) + dt.timedelta(days=30 * no),
        },
        Repayment,
    )


def test_a_late_payment_in_full_ends_the_days_past_due() -> None:
    events = [
        repayment("a", 0, "due", 0, 0.0, None),
        repayment("b", 5, "missed", 0, 5.0, None),
        repayment("c", 30, "due", 1, 30.0, None),
        repayment("m", 32, "missed", 1, 2.0, None),  # the older instalment is still 30 days late
        repayment("d", 33, "paid", 0, 33.0, 100.0),
        repayment("e", 34, "paid", 1, 4.0, 100.0),
    ]
    scorer, _ = new_scorer()
    scored = scorer.score(take(events))
    found = [msgspec.json.decode(value, type=Score).days_past_due for _, value in scored.scores[1]]
    assert found == [0.0, 5.0, 30.0, 32.0, 3.0, 0.0]


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (repayment("e", 33, "missed", 1, 3.0, None), "a payment is 33 days past due"),
        (Transaction(event_id="e", user_id="u", occurred_at=START + dt.timedelta(days=40), amount=-1.0), "40 days"),
    ],
    ids=["at a younger instalment's missed event", "ten days after the last report"],
)
def test_an_alert_says_how_old_the_oldest_unpaid_instalment_is(last: Event, said: str) -> None:
    """Whatever raises it, and though a `missed` event says how late its own instalment is."""
    events = [
        repayment("a", 0, "due", 0, 0.0, None),
        repayment("b", 3, "missed", 0, 3.0, None),
        repayment("c", 30, "due", 1, None, None),
        last,
    ]
    slab = Slab(blank_row(row_dtype(bundle().state_width), bundle().fingerprint))
    policy = load_settings().alert_policy(bundle().thresholds)
    at_the_last = replace(
        policy, medium=1e-9, high=1.0, extreme_score=1.0, sticky_events=len(events), dpd_backstop=3_000
    )
    scored = Scorer(bundle(), at_the_last, slab, Topics()).score(take(events))
    (alert,) = [msgspec.json.decode(value, type=Alert) for _, value in scored.alerts[1]]
    assert (alert.kind, alert.sequence) == ("opened", len(events))
    (overdue,) = [reason.text for reason in alert.reasons if reason.code == "overdue"]
    assert said in overdue


def test_what_is_counted_is_what_is_published() -> None:
    scored = new_scorer()[0].score(portfolio())
    values, alerts = outputs([scored])
    published = sorted(msgspec.json.decode(value, type=Score).score for value in values)
    assert sorted(np.concatenate(scored.headline).tolist()) == published
    transitions = [msgspec.json.decode(value, type=Alert) for value in alerts]
    assert {alert.kind for alert in transitions} == {"opened", "escalated", "cleared"}
    assert scored.transitions == Counter(
        (alert.kind, alert.level_from if alert.kind == "cleared" else alert.level_to) for alert in transitions
    )


def test_alerts_name_reasons_and_events() -> None:
    (_, alerts), _ = in_one_batch()
    raised = [
        alert for alert in (msgspec.json.decode(value, type=Alert) for value in alerts) if alert.kind != "cleared"
    ]
    assert raised, "the portfolio must raise some alert for this test to see anything"
    for alert in raised:
        assert alert.triggers
        assert len(alert.reasons) <= 4
        assert all(reason.contribution >= 0 and reason.text for reason in alert.reasons)
        assert len(alert.weighed_most) <= 4
        assert all(0 < event.weight <= 1 for event in alert.weighed_most)
        assert all(event.occurred_at <= alert.occurred_at for event in alert.weighed_most)


def with_forgettings(every: int) -> list[Taken]:
    """Half of the portfolio, in which some user is forgotten after each `every` events; most come back."""
    taken: list[Taken] = []
    for number, item in enumerate(portfolio()[: len(portfolio()) // 2]):
        taken.append(item)
        if number % every == 0:
            record = RawRecord("profiles", item.partition, 10_000 + number, item.occurred_ms, item.key, None)
            outcome = Intake("profiles").take(record, 10**15)
            assert isinstance(outcome, Taken)
            taken.append(outcome)
    return taken


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=5), st.sampled_from([50, 211]))
def test_a_user_who_was_forgotten_begins_anew_however_a_stream_is_cut(sizes: list[int], every: int) -> None:
    taken = with_forgettings(every)
    last = {(item.partition, item.key): number for number, item in enumerate(taken) if is_forgetting(item)}
    afterwards = [item for number, item in enumerate(taken) if number > last.get((item.partition, item.key), -1)]
    expected_scorer, expected = new_scorer()
    expected_scorer.score(afterwards)

    scorer, slab = new_scorer()
    forgotten: list[tuple[bytes, str]] = []
    start = 0
    while start < len(taken):
        size = sizes[start % len(sizes)]
        for piece in pieces_between(taken[start : start + size]):
            scored = scorer.score(piece)
            forgotten += [told for partition in scored.forgotten.values() for told in partition]
        start += size
    assert sorted(slab.items()) == sorted(expected.items())
    assert len(slab) == len({(item.partition, item.key) for item in afterwards})
    assert forgotten == [(item.key, item.event.event_id) for item in taken if is_forgetting(item)]
