"""The engine between polls and checkpoints: what is held, what is reached, and what a stop in the middle leaves."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from faust.types import TP

from events.types import KINDS, Activity, Event, Repayment, Transaction, encode_event
from model.bundle import Bundle
from stream.alerts.state_machine import initial_state
from stream.kafka.lineage import Committed
from stream.kafka.poll import Poll
from stream.kafka.record import Header, RawRecord
from stream.kafka.record_batches import Outgoing
from stream.outputs import Score
from stream.scoring.order_journal import OrderRecord, hand_over_records
from stream.scoring.scorer import Scorer
from stream.settings import PRETRAINED_BUNDLE, load_settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.worker.checkpoint import UNACKNOWLEDGED_BATCHES, Checkpoints, KeyedValue
from stream.worker.engine import Engine, StatesMissing, TornPoll
from stream.worker.following import Following
from stream.worker.roles import Roles

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
BUNDLE = Bundle.load(PRETRAINED_BUNDLE)


class Broker:
    """Takes everything at once, unless `stuck`."""

    def __init__(self) -> None:
        self.records: dict[str, list[bytes | None]] = {}
        self.headers: dict[str, list[list[Header]]] = {}
        self.rows: list[bytes] = []
        self.deleted: list[bytes] = []
        self.committed: dict[TP, int] = {}
        self.stuck = False

    def send(self, outgoing: Sequence[Outgoing]) -> asyncio.Future[None]:
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self.stuck:
            for each in outgoing:
                assert each.partition == 0
                self.records.setdefault(each.topic, []).extend(value for _, value in each.records)
                self.headers.setdefault(each.topic, []).extend(each.headers or ())
            acknowledged.set_result(None)
        return acknowledged

    async def publish_rows(self, partition: int, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        assert partition == 0
        self.rows += [key for key, value in rows if value is not None]
        self.deleted += [key for key, value in rows if value is None]

    def publish(
        self, topic: str, partition: int, records: Sequence[KeyedValue], headers: Sequence[list[Header]] | None = None
    ) -> None:
        self.send([Outgoing(topic, partition, records, headers)])

    async def commit(self, partition: int, offsets: Mapping[TP, int]) -> None:
        assert partition == 0
        self.committed |= offsets

    async def cut(self, partitions: Collection[int]) -> Broker:  # noqa: ARG002
        return self

    async def missed(self, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        await self.send([Outgoing("missed", partition, records)])

    def scored(self, topic: str = "scores") -> list[str]:
        """Ids of the events scored; a full stop where the user was forgotten."""
        values = self.records.get(topic, [])
        return ["." if value is None else msgspec.json.decode(value, type=Score).event_id for value in values]


def engine_on(
    broker: Broker,
    restored: Callable[[], frozenset[int]] | None = None,
    following: Following | None = None,
    now_ms: int = 10**13,
    **flags: Any,
) -> Engine:
    settings = load_settings(commit_interval_s=0.001, **flags)
    slab = Slab(blank_row(row_dtype(BUNDLE.state_width), BUNDLE.fingerprint))
    scorer = Scorer(BUNDLE, settings.alert_policy(BUNDLE.thresholds), slab, settings.topics)
    failures: list[BaseException] = []
    topics = settings.topics
    roles = Roles(topics.live_outputs(settings.application_id), following, topics.replay_outputs("r"))
    checkpoints = Checkpoints(
        broker,
        slab,
        roles.outputs,
        topics.inputs,
        interval_s=1000.0,
        monotonic=time.monotonic,
        on_failure=failures.append,
    )
    return Engine(
        settings,
        scorer,
        slab,
        checkpoints,
        broker.missed,
        now_ms=lambda: now_ms,
        restored=restored,
        roles=roles,
    )


def poll(events: Sequence[Event], first_offset: int = 0, lagging: Sequence[str] = (), epoch: int = 0) -> Poll:
    records: dict[TP, list[RawRecord]] = {}
    for event in events:
        batch = records.setdefault(TP(event.KIND, 0), [])
        offset = first_offset + len(batch)
        batch.append(RawRecord(event.KIND, 0, offset, 0, event.user_id.encode(), encode_event(event)))
    return Poll(records, frozenset(TP(topic, 0) for topic in lagging), epoch)


def activity(number: int) -> Activity:
    return Activity(event_id=f"a{number}", user_id="u", occurred_at=START + dt.timedelta(hours=number), kind="session")


def movement(number: int) -> Transaction:
    return Transaction(event_id=f"t{number}", user_id="u", occurred_at=START + dt.timedelta(hours=number), amount=-1.0)


async def test_holds_what_a_lagging_topic_may_still_precede() -> None:
    broker = Broker()
    engine = engine_on(broker)
    ahead = await engine.take(poll([activity(5), activity(9)], lagging=["transactions"]))
    assert broker.scored() == []
    assert ahead == {TP("activity", 0)}, "the lagging topic is to be polled first"
    assert await engine.take(poll([movement(1), movement(7)], lagging=["transactions"])) == {TP("activity", 0)}
    assert broker.scored() == ["t1", "a5", "t7"]
    await engine.take(poll([]))
    assert broker.scored() == ["t1", "a5", "t7", "a9"]


async def test_events_that_come_before_the_states_of_their_users_are_not_scored() -> None:
    broker, partitions = Broker(), set[int]()
    engine = engine_on(broker, restored=lambda: frozenset(partitions))
    await engine.take(poll([]))
    with pytest.raises(StatesMissing, match=r"partitions \[0\]"):
        await engine.take(poll([movement(1)]))
    await engine.drain(1)
    assert await engine.take(poll([movement(1)], epoch=0)) == frozenset(), "of an assignment that is over"
    partitions.add(0)
    await engine.take(poll([movement(1)], epoch=1))
    assert broker.scored() == ["t1"]


async def test_a_journal_of_partitions_that_others_have_is_passed_over() -> None:
    """Workers of one group of which some follow no more: those that do get all partitions of the journal."""
    broker = Broker()
    following = Following(ORDER, leader="foreshock", taker="other", takes_over=True)
    engine = engine_on(broker, restored=lambda: frozenset({0}), following=following, application_id="other")
    none = np.empty(0, dtype=np.int64)
    told = OrderRecord((0,) * len(KINDS), (9,) * len(KINDS), none, none, (none,) * len(KINDS)).encode()
    of_another = {TP(ORDER, 1): [RawRecord(ORDER, 1, 5, 0, None, told)]}
    await engine.take(Poll(of_another, ends={TP(ORDER, 1): 6, TP(ORDER, 0): 3}))
    await engine.drain(1)
    assert broker.committed == {TP(ORDER, 0): 3}
    with pytest.raises(StatesMissing, match=r"partitions \[1\]"):
        await engine.take(Poll({TP("activity", 1): poll([activity(1)]).records[TP("activity", 0)]}, epoch=1))


async def test_positions_of_partitions_whose_states_are_not_read_are_not_committed() -> None:
    """An overtaken recovery lets polls through while the worker takes over the partitions of the next rebalance."""
    broker, partitions = Broker(), frozenset[int]()
    engine = engine_on(broker, restored=lambda: partitions)
    begun = {TP(topic, partition): 7 for topic in ("activity", "profiles") for partition in (0, 1)}
    await engine.take(Poll(ends=begun))
    await engine.drain(1)
    assert broker.committed == {}
    partitions = frozenset({0})
    await engine.take(Poll(ends=begun, epoch=1))
    await engine.drain(2)
    assert broker.committed == {TP("activity", 0): 7, TP("profiles", 0): 7}


async def test_commits_no_further_than_what_is_scored() -> None:
    broker = Broker()
    engine = engine_on(broker)
    await engine.take(poll([activity(5), activity(9)], lagging=["transactions"]))
    await engine.take(poll([movement(1), movement(7)], lagging=["transactions"]))
    await engine.drain(1)
    assert broker.committed == {TP("activity", 0): 1, TP("transactions", 0): 2}
    assert broker.rows == [b"u"]


@pytest.mark.parametrize("waits_for_its_turn", [False, True])
async def test_what_was_polled_before_partitions_were_given_up_is_not_taken(waits_for_its_turn: bool) -> None:
    """It follows on events that were held and dropped: taken alone, it would be committed and they never scored."""
    broker = Broker()
    engine = engine_on(broker)
    await engine.take(poll([activity(5), activity(9)], lagging=["transactions"]))
    stale = poll([activity(12)], first_offset=2)
    if waits_for_its_turn:
        async with engine._turn:
            draining = asyncio.create_task(engine.drain(1))
            taking = asyncio.create_task(engine.take(stale))
            await asyncio.sleep(0)
        await draining
        assert await taking == frozenset()
    else:
        await engine.drain(1)
        assert await engine.take(stale) == frozenset()
    await engine.drain(2)
    assert (broker.scored(), broker.committed) == ([], {TP("activity", 0): 0})
    await engine.take(poll([activity(5), activity(9), activity(12)], epoch=2))
    assert broker.scored() == ["a5", "a9", "a12"]


async def test_does_not_wait_for_ever() -> None:
    broker = Broker()
    engine = engine_on(broker, merge_idle_ms=30)
    await engine.take(poll([activity(5)], lagging=["transactions"]))
    assert broker.scored() == []
    await asyncio.sleep(0.05)
    await engine.take(poll([], lagging=["transactions"]))
    assert broker.scored() == ["a5"]
    assert engine.counts["merged_without_waiting"] == 1


async def test_a_stop_in_the_middle_makes_nothing_durable() -> None:
    """The state has moved on but its outputs were not sent: neither row nor offset may be written."""
    broker = Broker()
    engine = engine_on(broker)
    broker.stuck = True
    for number in range(UNACKNOWLEDGED_BATCHES):
        await engine.take(poll([activity(number)], first_offset=number))
    taking = asyncio.create_task(engine.take(poll([activity(7)], first_offset=UNACKNOWLEDGED_BATCHES)))
    await asyncio.sleep(0.05)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    broker.stuck = False
    await engine.drain(1)
    assert (broker.records, broker.rows, broker.committed) == ({}, [], {})
    with pytest.raises(TornPoll, match="its successor"):
        await engine.take(poll([activity(8)], first_offset=UNACKNOWLEDGED_BATCHES + 1, epoch=1))
    assert broker.records == {}


async def test_a_failing_batch_makes_nothing_durable_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are changed in place, so after a failure they may hold events whose outputs nobody will publish."""
    broker = Broker()
    engine = engine_on(broker)
    await engine.take(poll([activity(1)]))
    monkeypatch.setattr(engine._scorer._bundle, "score", lambda *_: (_ for _ in ()).throw(RuntimeError("no scores")))
    with pytest.raises(RuntimeError, match="no scores"):
        await engine.take(poll([activity(2)], first_offset=1))
    await engine._checkpoints.flush()
    assert broker.scored() == ["a1"]
    assert broker.rows == []
    assert broker.committed == {}


async def test_refused_records_are_published_and_passed() -> None:
    broker = Broker()
    engine = engine_on(broker)
    bad = RawRecord("activity", 0, 0, 0, b"u", b"nonsense")
    await engine.take(Poll({TP("activity", 0): [bad]}))
    await engine.drain(1)
    assert broker.records["dead-letters"] == [b"nonsense"]
    assert broker.committed == {TP("activity", 0): 1}
    assert engine.counts["dead_letters"] == 1


@pytest.mark.parametrize("ends_by", ["time", "giving up"])
async def test_dead_letters_that_follow_others_go_together_and_nothing_is_committed_before(
    monkeypatch: pytest.MonkeyPatch, ends_by: str
) -> None:
    clock = [1_000.0]
    monkeypatch.setattr("stream.worker.engine.time.monotonic", lambda: clock[0])
    ticks: list[int] = []
    broker = Broker()
    engine = engine_on(broker)
    tick = engine._checkpoints.tick

    async def told(*, is_behind: bool) -> None:
        ticks.append(len(broker.records.get("dead-letters", [])))
        await tick(is_behind=is_behind)

    monkeypatch.setattr(engine._checkpoints, "tick", told)
    for offset in range(4):
        await engine.take(Poll({TP("activity", 0): [RawRecord("activity", 0, offset, 0, b"u", b"bad")]}))
        clock[0] += 0.01
    assert (len(broker.records["dead-letters"]), ticks) == (1, [1]), "the first went at once, the others wait"
    await engine.take(poll([movement(1)]))
    assert len(broker.scored()) == 1, "events do not wait for them"
    if ends_by == "time":
        clock[0] += 0.05
        await engine.take(Poll())
        assert ticks == [1, 4]
    await engine.drain(1)
    assert len(broker.records["dead-letters"]) == 4
    assert broker.committed[TP("activity", 0)] == 4
    assert [offsets.tolist() for offsets in journal(broker)[-1].refused][KINDS.index("activity")] == [0, 1, 2, 3]


async def test_delays_scores_and_refusals_are_counted_of_each_event_once() -> None:
    engine = engine_on(Broker())
    records = poll([activity(1), movement(2), activity(1)]).records
    bad = RawRecord("activity", 0, 2, 0, b"u", b"nonsense")
    await engine.take(Poll({**records, TP("activity", 0): [*records[TP("activity", 0)], bad]}))
    await engine.take(Poll())
    await asyncio.sleep(0)
    figures = engine.figures
    assert figures.polls == 2
    assert figures.scores.count == engine.counts["scored"] == 2
    assert figures.refused == {"not_json": 1, "duplicate_event_id": 1}
    assert figures.event_to_score.count == figures.poll_to_score.count == 3, "of each that the scorer was given"


async def test_dead_letters_fit_whether_the_intake_or_the_scorer_makes_them() -> None:
    """A valid event may have large headers, too, and come twice."""
    broker = Broker()
    engine = engine_on(broker)
    engine.limit_dead_letters(100_000)
    headers: list[Header] = [("trace", bytes(1_000_000))]
    good, again, bad = (
        RawRecord("activity", 0, offset, 0, b"u", value, headers)
        for offset, value in enumerate((encode_event(activity(1)), encode_event(activity(1)), b"nonsense"))
    )
    await engine.take(Poll({TP("activity", 0): [good, again, bad]}))
    assert broker.records["dead-letters"] == [encode_event(activity(1)), b"nonsense"]
    for published in broker.headers["dead-letters"]:
        found = dict(published)
        assert (found["foreshock.headers"], found["foreshock.headers.bytes"]) == (b"left_out", b"1000005")
        assert "trace" not in found


BILL = Repayment(
    event_id="bill",
    user_id="u",
    occurred_at=START,
    kind="due",
    amount_due=9.0,
    instalment_no=1,
    due_date=START.date(),
)


async def test_the_watchdog_announces_an_absence_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.worker.engine.WATCHDOG_INTERVAL_S", 0.0)
    broker = Broker()
    engine = engine_on(broker)
    await engine.take(poll([BILL, *(movement(number) for number in range(24 * 8))]))
    await engine.take(poll([]))
    (missed,) = [msgspec.json.decode(value or b"", type=Repayment) for value in broker.records["missed"]]
    assert (missed.kind, missed.instalment_no) == ("missed", 1)
    await engine.take(poll([missed], first_offset=1))
    await engine.take(poll([]))
    assert len(broker.records["missed"]) == 1
    assert missed.event_id in broker.scored()


@pytest.mark.parametrize("is_still_owned", [True, False])
async def test_the_watchdog_of_a_worker_that_stood_still_waits_until_it_knows_what_it_owns(
    monkeypatch: pytest.MonkeyPatch, is_still_owned: bool
) -> None:
    clock = [1_000.0]
    monkeypatch.setattr("stream.worker.engine.time.monotonic", lambda: clock[0])
    broker = Broker()
    engine = engine_on(broker, session_timeout_s=45.0, heartbeat_interval_s=3.0)
    await engine.take(poll([BILL]))
    await engine.take(poll([movement(number) for number in range(24 * 8)]))
    assert "missed" not in broker.records, "it has just looked"
    clock[0] += 46.0  # frozen, for longer than its session
    await engine.take(poll([]))
    clock[0] += 4.0
    await engine.take(poll([]))
    assert "missed" not in broker.records
    if not is_still_owned:
        await engine.drain(1)  # as the rebalance does that follows the heartbeat
    clock[0] += 3.0
    await engine.take(poll([], epoch=1))
    assert len(broker.records.get("missed", [])) == int(is_still_owned)


async def test_records_that_a_consumer_brings_again_are_taken_once() -> None:
    """It may seek back while some wait here for a lagging topic, and more ids come between than a row remembers."""
    broker = Broker()
    engine = engine_on(broker)
    events = [movement(number) for number in range(50)]
    await engine.take(poll(events[:40], lagging=["activity"]))
    await engine.take(poll(events))
    assert broker.scored() == [event.event_id for event in events]
    assert engine.counts["dead_letters"] == 0


async def test_a_dead_letter_waits_with_the_event_before_it() -> None:
    """A successor would read from the held event on, and refuse the record again."""
    broker = Broker()
    engine = engine_on(broker)
    bad = RawRecord("activity", 0, 1, 0, b"u", b"nonsense")
    held = poll([activity(5)], lagging=["transactions"])
    await engine.take(Poll({TP("activity", 0): [*held.records[TP("activity", 0)], bad]}, held.lagging))
    await engine.take(poll([movement(1)], lagging=["transactions"]))
    await engine.drain(1)
    assert broker.committed == {TP("activity", 0): 0, TP("transactions", 0): 1}
    assert "dead-letters" not in broker.records
    await engine.take(Poll({TP("activity", 0): [*held.records[TP("activity", 0)], bad]}, epoch=1))
    assert len(broker.records["dead-letters"]) == 1


async def test_events_that_the_states_already_hold_are_skipped_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    engine = engine_on(Broker())
    await engine.take(poll([activity(5), activity(9)]))
    await engine.drain(1)
    assert caplog.text == ""
    await engine.take(poll([activity(5), activity(9)], epoch=1))
    await engine.take(poll([activity(20)], first_offset=2, epoch=1))
    assert engine.counts["already_scored"] == 2
    assert caplog.text.count("start under another application_id") == 1


async def test_a_user_is_forgotten_in_order_with_their_events() -> None:
    broker = Broker()
    engine = engine_on(broker)
    await engine.take(poll([activity(1), movement(2)]))
    forgotten_ms = round((START + dt.timedelta(hours=5)).timestamp() * 1000)
    tombstone = RawRecord("profiles", 0, 0, forgotten_ms, b"u", None)
    later = poll([activity(6), movement(4)], first_offset=1)
    await engine.take(Poll({**later.records, TP("profiles", 0): [tombstone]}, frozenset()))
    assert broker.scored() == ["a1", "t2", "t4", ".", "a6"], "what happened before that is scored before it"
    assert broker.records["alerts"] == [None]
    assert broker.headers == {topic: [[("foreshock.source", b"profiles:0:0")]] for topic in ("scores", "alerts")}
    scores = [msgspec.json.decode(value, type=Score) for value in broker.records["scores"] if value is not None]
    assert [score.sequence for score in scores][-1] == 1
    await engine.drain(1)
    assert (broker.rows, broker.deleted) == ([b"u"], []), "the new row takes the place of the old one"
    assert broker.committed[TP("profiles", 0)] == 1
    assert engine.counts["forgotten"] == 1


async def test_the_changelog_is_told_of_who_was_forgotten() -> None:
    broker = Broker()
    engine = engine_on(broker)
    await engine.take(poll([activity(1)]))
    await engine.take(Poll({TP("profiles", 0): [RawRecord("profiles", 0, 0, 0, b"u", None)]}, frozenset()))
    assert engine.users == 0
    await engine.drain(1)
    assert (broker.rows, broker.deleted) == ([], [b"u"])


ORDER = "foreshock-order"


def journal(broker: Broker) -> list[OrderRecord]:
    return [OrderRecord.decode(value) for value in broker.records.get(ORDER, [])]


async def test_the_order_that_was_taken_is_kept() -> None:
    broker = Broker()
    engine = engine_on(broker)
    bad = RawRecord("activity", 0, 2, 0, b"u", b"nonsense")
    first = poll([activity(5), activity(9)], lagging=["transactions"])
    await engine.take(Poll({TP("activity", 0): [*first.records[TP("activity", 0)], bad]}, first.lagging))
    await engine.take(poll([movement(1), movement(7)], lagging=["transactions"]))
    await engine.drain(1)
    (record,) = journal(broker)
    transactions, of_activity = 1, 2
    assert record.kinds.tolist() == [transactions, of_activity, transactions]
    assert record.lasts.tolist() == [0, 0, 1]
    assert (record.starts, record.ends) == ((0, 0, 0, 0), (0, 2, 1, 0))
    assert [part.tolist() for part in record.refused] == [[], [], [], []], "it waits for the event before it"
    await engine.take(poll([activity(9)], first_offset=1, epoch=1))
    await engine.take(Poll({TP("activity", 0): [bad]}, epoch=1))
    await engine.drain(2)
    record = journal(broker)[-1]
    assert (record.kinds.tolist(), record.lasts.tolist()) == ([of_activity], [1])
    assert record.refused[of_activity].tolist() == [2]


async def test_who_follows_takes_events_in_the_order_of_others() -> None:
    """However the topics come, and without what the others refused; outputs are its own, and dead letters none."""
    leader = Broker()
    engine = engine_on(leader, merge_idle_ms=0)
    await engine.take(poll([activity(5), activity(9)], lagging=["transactions"]))
    await engine.take(poll([], lagging=["transactions"]))
    await engine.take(poll([movement(1), movement(7)]))
    await engine.drain(1)
    assert leader.scored() == ["a5", "a9", "t1", "t7"], "the wait was ended by the clock"

    follower = Broker()
    engine = engine_on(follower, following=Following(ORDER))
    lagging = ["activity", ORDER]
    bad = RawRecord("transactions", 0, 2, 0, b"u", b"nonsense")
    first = poll([movement(1), movement(7)], lagging=lagging)
    held = await engine.take(Poll({TP("transactions", 0): [*first.records[TP("transactions", 0)], bad]}, first.lagging))
    assert (follower.scored("scores.replay.r"), held) == ([], {TP("transactions", 0)})
    told = [RawRecord(ORDER, 0, 4 + n, 0, None, value) for n, value in enumerate(leader.records[ORDER])]
    held = await engine.take(Poll({TP(ORDER, 0): told}, frozenset({TP("activity", 0)})))
    assert held == {TP("transactions", 0), TP(ORDER, 0)}
    await engine.take(poll([activity(5)], lagging=["activity"]))
    await engine.drain(1)
    assert follower.scored("scores.replay.r") == ["a5"]
    assert follower.committed == {TP("activity", 0): 1, TP("transactions", 0): 0, TP(ORDER, 0): 4}
    again = Poll({TP("transactions", 0): [*first.records[TP("transactions", 0)], bad], TP(ORDER, 0): told}, epoch=1)
    await engine.take(again)
    await engine.take(poll([activity(9)], first_offset=1, epoch=1))
    await engine.drain(2)
    assert follower.scored("scores.replay.r") == ["a5", "a9", "t1", "t7"]
    assert follower.committed == {TP("activity", 0): 2, TP("transactions", 0): 3, TP(ORDER, 0): 5}
    assert set(follower.records) == {"scores.replay.r"}


async def test_who_follows_stops_where_the_journal_is_to_end() -> None:
    leader = Broker()
    engine = engine_on(leader)
    for number in range(3):
        await engine.take(poll([activity(number)], first_offset=number))
        await engine.drain(number + 1)
        engine._epoch = 0
    follower = Broker()
    engine = engine_on(follower, following=Following(ORDER, ends={0: 2}))
    told = [RawRecord(ORDER, 0, n, 0, None, value) for n, value in enumerate(leader.records[ORDER])]
    await engine.take(Poll({TP(ORDER, 0): told}))
    assert await engine.take(poll([activity(number) for number in range(5)])) == {TP("activity", 0)}
    await engine.drain(1)
    assert follower.scored("scores.replay.r") == ["a0", "a1"]
    assert follower.committed == {TP("activity", 0): 2, TP(ORDER, 0): 2}, (
        "the record behind that is for whoever goes on"
    )


async def test_who_follows_leads_from_where_it_is_handed_over() -> None:
    """Nothing is lost or twice of what it had read beyond that, bad records included; the journal is whole."""
    leader = Broker()
    engine = engine_on(leader)
    bad = RawRecord("activity", 0, 3, 0, b"u", b"nonsense")
    early = RawRecord("activity", 0, 1, 0, b"u", poll([activity(10**6)]).records[TP("activity", 0)][0].value)
    first = poll([activity(1), activity(2)]).records[TP("activity", 0)]
    await engine.take(Poll({TP("activity", 0): [first[0], early, *poll([activity(3)], 2).records[TP("activity", 0)]]}))
    await engine.drain(1)
    taken = leader.scored()
    assert taken == ["a1", "a1000000", "a3"]

    follower = Broker()
    following = Following(ORDER, leader="foreshock", taker="other", takes_over=True)
    engine = engine_on(
        follower, following=following, application_id="other", now_ms=round(START.timestamp() * 1000) + 10**9
    )
    third = poll([activity(3), activity(4)], first_offset=2).records[TP("activity", 0)]
    fourth = RawRecord("activity", 0, 4, 0, b"u", third[1].value)
    records = [first[0], early, third[0], bad, fourth]
    assert await engine.take(Poll({TP("activity", 0): records})) == {TP("activity", 0)}
    told = list(leader.records[ORDER])
    alert = initial_state(1)
    alert["level"], alert["opened_ms"] = 2, 77
    told += [record.encode() for record in hand_over_records([0, 0, 3, 0], "foreshock", "other", {b"u": alert})]
    await engine.take(Poll({TP(ORDER, 0): [RawRecord(ORDER, 0, n, 0, None, value) for n, value in enumerate(told)]}))
    assert follower.scored("scores.replay.r") == taken, "its clock is that of whom it follows"
    assert follower.committed == {TP("activity", 0): 3, TP(ORDER, 0): 1}, "before it leads, all is committed"
    assert follower.scored() == []
    await engine.take(poll([]))
    await engine.take(poll([activity(5)], first_offset=5))
    assert follower.scored() == ["a4", "a5"]
    sequences = [msgspec.json.decode(value, type=Score).sequence for value in follower.records["scores"] if value]
    assert sequences == [4, 5]
    assert len(follower.records["dead-letters"]) == 1
    await engine.drain(1)
    assert follower.committed == {
        TP("repayments", 0): 0, TP("transactions", 0): 0, TP("activity", 0): 6, TP("profiles", 0): 0, TP(ORDER, 0): 2,
    }  # fmt: skip
    assert follower.records["other-order"][: len(told)] == told
    last = OrderRecord.decode(follower.records["other-order"][-1])
    assert (last.starts, last.ends, last.lasts.tolist()) == ((0, 0, 3, 0), (0, 0, 6, 0), [5])
    ((_, _, row),) = engine._slab.items()
    opened = np.frombuffer(row, dtype=engine._slab.dtype)[0]["alert"]
    assert (int(opened["level"]), int(opened["opened_ms"])) == (2, 77)


async def test_a_hand_over_from_before_it_was_taken_back_is_passed_over() -> None:
    """A shadow that begins anew under a name that was promoted before finds it in the journal."""
    leader = Broker()
    engine = engine_on(leader)
    for number in range(2):
        await engine.take(poll([activity(number)], first_offset=number))
        await engine.drain(number + 1)
        engine._epoch = 0
    told = list(leader.records[ORDER])
    told.insert(1, hand_over_records([0, 0, 1, 0], "foreshock", "other", {})[0].encode())
    follower, asked = Broker(), []

    async def is_in_force(partition: int, record: OrderRecord) -> bool:
        asked.append((partition, record.ends))
        return False

    following = Following(ORDER, leader="foreshock", taker="other", takes_over=True)
    engine = engine_on(follower, following=following, application_id="other")
    engine._is_in_force = is_in_force
    await engine.take(poll([activity(0), activity(1)]))
    await engine.take(Poll({TP(ORDER, 0): [RawRecord(ORDER, 0, n, 0, None, value) for n, value in enumerate(told)]}))
    await engine.take(poll([]))
    await engine.drain(1)
    assert asked == [(0, (0, 0, 1, 0))]
    assert (follower.scored("scores.replay.r"), follower.scored()) == (["a0", "a1"], [])
    assert follower.records["other-order"] == leader.records[ORDER]
    assert engine._roles.mark(0) == "following=foreshock"


async def test_a_partition_that_was_given_up_is_left_alone() -> None:
    broker = Broker()
    engine = engine_on(broker)
    inputs = ("repayments", "transactions", "activity", "profiles")
    engine._roles.begin({0}, {TP("activity", 0): Committed(3, "i,handed-over=other")}, inputs)
    assert await engine.take(poll([activity(1)])) == {TP(topic, 0) for topic in inputs}
    await engine.drain(1)
    assert (broker.records, broker.committed) == ({}, {})


async def test_without_a_journal_all_is_merged_by_time() -> None:
    follower = Broker()
    engine = engine_on(follower, following=Following(None), merge_idle_ms=0)
    await engine.take(poll([activity(5), activity(9)], lagging=["transactions"]))
    await engine.take(poll([], lagging=["transactions"]))
    assert follower.scored("scores.replay.r") == [], "no clock ends the wait"
    await engine.take(poll([movement(1), movement(7)]))
    assert follower.scored("scores.replay.r") == ["t1", "a5", "t7", "a9"]


async def test_nothing_of_who_was_forgotten_later_is_scored_again() -> None:
    follower = Broker()
    engine = engine_on(follower, following=Following(None, users={b"u"}, forgotten={0: {b"u": 0}}))
    late = int((START + dt.timedelta(hours=6)).timestamp() * 1000)
    tombstone = RawRecord("profiles", 0, 0, late, b"u", None)
    before = poll([activity(5), activity(9)])
    await engine.take(Poll({**before.records, TP("profiles", 0): [tombstone]}))
    assert follower.scored("scores.replay.r") == [".", "a9"]
    await engine.drain(1)
    await engine.take(Poll(poll([activity(4)], first_offset=2).records, epoch=1, ends={TP("profiles", 0): 1}))
    assert follower.scored("scores.replay.r") == [".", "a9", "a4"], "it came back, and a restart knows"
