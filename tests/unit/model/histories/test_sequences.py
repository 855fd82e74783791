from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.columns import COLUMNS, occurred_ms
from events.instalments import with_missed
from events.types import KINDS, Event, Profile, Repayment, Transaction
from model.histories import sequences as sequences_module
from model.histories.sequences import build_sequences, chunks_of_users, learn_vocabularies

START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
History = Callable[..., list[Event]]


def _interleaved(histories: list[list[Event]], seed: int) -> list[Event]:
    random = np.random.default_rng(seed)
    queues = [list(events) for events in histories]
    merged = []
    while any(queues):
        queue = queues[random.choice([position for position, events in enumerate(queues) if events])]
        merged.append(queue.pop(0))
    return merged


@pytest.fixture
def histories(make_history: History) -> list[list[Event]]:
    return [make_history(f"u{user}", events, user) for user, events in enumerate((25, 1, 60, 7))]


def test_each_user_has_their_events_in_order_of_arrival(
    histories: list[list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences_module, "EVENTS_PER_CHUNK", 3)
    found = build_sequences(_interleaved(histories, 0))
    for events in histories:
        user = found.user_ids.index(events[0].user_id)
        merged = slice(found.merged_starts[user], found.merged_starts[user + 1])
        assert found.times_ms[merged].tolist() == occurred_ms(events).tolist()
        assert [KINDS[kind] for kind in found.kinds[merged]] == [event.KIND for event in events]
        for position, event_so_far in enumerate(found.latest[merged]):
            arrived = [event.KIND for event in events[: position + 1]]
            assert event_so_far.tolist() == [arrived.count(kind) for kind in KINDS]


def test_columns_are_the_fields_of_the_events(histories: list[list[Event]]) -> None:
    found = build_sequences(_interleaved(histories, 1))
    names = COLUMNS["transactions"].numeric_inputs
    for events in histories:
        user = found.user_ids.index(events[0].user_id)
        mine = slice(found.starts["transactions"][user], found.starts["transactions"][user + 1])
        transactions = [event for event in events if isinstance(event, Transaction)]
        amounts = found.numeric["transactions"][mine, names.index("amount")]
        assert amounts.tolist() == np.array([event.amount for event in transactions], np.float32).tolist()
        latest, gaps = None, []
        for event in transactions:
            gap = None if latest is None else max((event.occurred_at - latest).total_seconds() / 86_400, 0.0)
            latest = event.occurred_at if latest is None else max(latest, event.occurred_at)
            gaps.append(np.nan if gap is None else gap)
        np.testing.assert_allclose(
            found.numeric["transactions"][mine, names.index("gap_days")], gaps, rtol=1e-6, atol=1e-7
        )
        codes = found.vocabularies["transactions"]["category"]
        position = COLUMNS["transactions"].categorical.index("category")
        expected = [0 if event.category is None else codes[event.category] for event in transactions]
        assert found.categorical["transactions"][mine, position].tolist() == expected


def test_the_same_events_have_the_same_fingerprint(histories: list[list[Event]]) -> None:
    events = _interleaved(histories, 2)
    assert build_sequences(events).fingerprint == build_sequences(events).fingerprint
    assert build_sequences(events).fingerprint != build_sequences(events[:-1]).fingerprint


def test_recoding_gives_what_building_with_that_vocabulary_gives(histories: list[list[Event]]) -> None:
    vocabularies = {kind: {} for kind in KINDS}
    vocabularies["transactions"] = {"category": {"cash": 2}, "channel": {"card": 2, "atm": 3}}
    vocabularies["repayments"] = {"kind": {"paid": 2, "missed": 3}}
    events = _interleaved(histories, 3)
    recoded, built = build_sequences(events).recoded(vocabularies), build_sequences(events, vocabularies)
    for kind in KINDS:
        assert np.array_equal(recoded.categorical[kind], built.categorical[kind])
    assert {0, 1, 2} <= set(recoded.categorical["transactions"][:, 0].tolist())


def _instalments(user_id: str, random: np.random.Generator) -> list[Repayment]:
    events: list[Repayment] = []
    for number in range(8):
        due = START + dt.timedelta(days=30 * number, hours=int(random.integers(0, 24)))
        common = {"user_id": user_id, "instalment_no": number, "due_date": due.date(), "amount_due": 100.0}
        events.append(Repayment(event_id=f"{user_id}-{number}d", occurred_at=due, kind="due", **common))
        if random.random() < 0.6:
            paid = due + dt.timedelta(days=float(random.uniform(0, 12)))
            events.append(
                Repayment(event_id=f"{user_id}-{number}p", occurred_at=paid, kind="paid", amount_paid=100.0, **common)
            )
    return sorted(events, key=lambda event: event.occurred_at)


def test_missed_instalments_stand_where_the_watchdog_publishes_them() -> None:
    random = np.random.default_rng(5)
    histories = [_instalments(f"u{user}", random) for user in range(5)]
    stream = sorted((event for events in histories for event in events), key=lambda event: event.occurred_at)
    end_ms = int(occurred_ms(stream[-1:])[0])
    found = build_sequences(stream, grace_days=3.0)
    total = 0
    for user, user_id in enumerate(found.user_ids):
        (mine,) = [events for events in histories if events[0].user_id == user_id]
        expected = list(with_missed(mine, 3.0, until_ms=end_ms))
        merged = slice(found.merged_starts[user], found.merged_starts[user + 1])
        assert found.times_ms[merged].tolist() == occurred_ms(expected).tolist()
        position = COLUMNS["repayments"].categorical.index("kind")
        rows = slice(found.starts["repayments"][user], found.starts["repayments"][user + 1])
        codes = found.vocabularies["repayments"]["kind"]
        assert found.categorical["repayments"][rows, position].tolist() == [codes[event.kind] for event in expected]
        total += sum(event.kind == "missed" for event in expected)
    assert total > 5


@settings(deadline=None, max_examples=50)
@given(
    events=st.lists(
        st.tuples(st.sampled_from(("due", "spend")), st.integers(0, 1), st.integers(0, 20)), min_size=1, max_size=12
    )
)
def test_ages_are_days_since_the_latest_event_of_each_kind(events: list[tuple[str, int, int]]) -> None:
    history: list[Event] = [
        Repayment(event_id=f"{number}", user_id=f"u{user}", occurred_at=START + dt.timedelta(days=day), kind="due")
        if what == "due"
        else Transaction(event_id=f"{number}", user_id=f"u{user}", occurred_at=START + dt.timedelta(days=day), amount=1)
        for number, (what, user, day) in enumerate(events)
    ]
    found = build_sequences(history)
    expected = []
    for user_id in found.user_ids:
        latest = dict.fromkeys(KINDS, -1)
        for event in (event for event in history if event.user_id == user_id):
            latest[event.KIND] = max(latest[event.KIND], (event.occurred_at - START).days)
            now = max(latest.values())
            expected.append([-1 if latest[kind] < 0 else now - latest[kind] for kind in KINDS])
    assert found.ages_days.tolist() == expected


@settings(deadline=None, max_examples=50)
@given(days=st.lists(st.lists(st.integers(0, 20), max_size=6), min_size=1, max_size=5), limit=st.integers(0, 21))
def test_events_before_a_moment(days: list[list[int]], limit: int) -> None:
    events = [
        Transaction(
            event_id=f"{user}-{number}", user_id=f"u{user}", occurred_at=START + dt.timedelta(days=day), amount=1.0
        )
        for user, list_of_days in enumerate(days)
        for number, day in enumerate(list_of_days)
    ]
    if not events:
        return
    found = build_sequences(events)
    limit_ms = int((START + dt.timedelta(days=limit)).timestamp() * 1000)
    expected = []
    for list_of_days in (present for present in days if present):
        late = [number for number, day in enumerate(list_of_days) if day >= limit]
        expected.append(late[0] if late else len(list_of_days))
    counts = found.events_before(limit_ms)
    assert counts.tolist() == expected
    assert len(found.rows_of("transactions", counts)) == sum(expected)


def test_rows_of_a_kind_within_the_first_events(histories: list[list[Event]]) -> None:
    found = build_sequences(_interleaved(histories, 4))
    counts = np.array([min(10, n) for n in np.diff(found.merged_starts)])
    for position, kind in enumerate(KINDS):
        rows = found.rows_of(kind, counts)
        merged = np.concatenate([np.arange(a, a + n) for a, n in zip(found.merged_starts[:-1], counts, strict=True)])
        assert len(rows) == int((found.kinds[merged] == position).sum())
        assert len(np.unique(rows)) == len(rows)


def test_vocabularies_leave_out_rare_categories_and_protected_fields() -> None:
    profiles = [
        Profile(
            event_id=str(number),
            user_id=f"u{number}",
            occurred_at=START,
            sex="female",
            region="north" if number else "south",
        )
        for number in range(10)
    ]
    found = build_sequences(profiles)
    rows = {kind: found.rows_of(kind, np.ones(10, np.int64)) for kind in KINDS}
    assert learn_vocabularies(found, rows, 2)["profiles"] == {"region": {"north": 2}}
    with_sex = learn_vocabularies(found, rows, 1, protected_inputs=["sex"])["profiles"]
    assert with_sex == {"region": {"north": 2, "south": 3}, "sex": {"female": 2}}


def test_chunks_cover_every_user_once_and_stay_small(histories: list[list[Event]]) -> None:
    found = build_sequences(_interleaved(histories, 6))
    lengths = np.diff(found.merged_starts)
    chunks = list(chunks_of_users(found, np.arange(4), 32))
    assert sorted(np.concatenate(chunks).tolist()) == [0, 1, 2, 3]
    assert all(lengths[chunk].sum() <= 32 or len(chunk) == 1 for chunk in chunks)
